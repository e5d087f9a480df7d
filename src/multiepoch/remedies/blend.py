"""Blended serving: what a reset model had learned is served until it has learned it anew.

Just after a reset the rows know nothing, and within a tenth of an epoch the dense layers have
adapted to that, so a model that is served then is worse for a while. Training needs the reset, but
serving does not. So the reset model is trained alone, and served with what it was before::

    served = share * trained + (1 - share) * old
    share of a row = min(1, its lookups since the reset / its lookups in epoch 0)
    share of the dense layers = the same, summed over all rows that were reset

Each row follows its own count, so a stream that cannot tell when an epoch ends needs to announce
only that the data begins to repeat.
"""

from collections.abc import Iterable
from typing import Any, Self

import torch
from torch import Tensor

from multiepoch.optim.eager import at_least_float32
from multiepoch.remedies.serving import Served
from multiepoch.remedies.tables import Tables, check_fits


class Blend(Served):
    """Keeps what a model was before a reset, and how far it has learned anew.

    Args:
        tables: The tables of the optimizer; the other tensors of their model follow the rows.
        few: For each table, the rows that are reset, int64 (k,), ascending, and their lookups in
            epoch 0, int32 (k,), all positive.
    """

    def __init__(self, tables: Tables, few: Iterable[tuple[Tensor, Tensor]]) -> None:
        super().__init__(tables)
        self.rows = [RowBlend(table, *of) for table, of in zip(tables, few)]
        self.old = [tensor.detach().clone() for tensor in tables.others()]

    def restart(self) -> None:
        """Keeps the model as it is served now; the reset comes next."""
        self.old = self._served_dense()
        for rows in self.rows:
            rows.restart()

    def _dense(self) -> list[Tensor]:
        """Returns the other tensors, found anew, since a model may replace a buffer."""
        dense = self._tables.others()
        if [one.shape for one in dense] != [old.shape for old in self.old]:
            changed = "the model has other dense parameters or buffers than when the epoch began"
            remedy = "change it before epoch 0"
            raise RuntimeError(f"{changed}, and cannot be blended with what it was: {remedy}")
        return dense

    def _served_dense(self) -> list[Tensor]:
        since, counts = (
            self._tables.total([int(getattr(rows, name).sum()) for rows in self.rows])
            for name in ("since", "counts")
        )
        share = min(1.0, since / counts) if counts else 1.0
        return [old.lerp(new.detach(), share) for old, new in zip(self.old, self._dense())]

    def trained(self) -> list[Tensor]:
        """Copies the rows of each table, then the dense tensors."""
        dense = [one.detach().clone() for one in self._dense()]
        return [rows.trained() for rows in self.rows] + dense

    def served(self) -> list[Tensor]:
        return [rows.served() for rows in self.rows] + self._served_dense()

    def write(self, values: list[Tensor]) -> None:
        n = len(self.rows)
        for rows, value in zip(self.rows, values):
            rows.write(value)
        for tensor, value in zip(self._dense(), values[n:], strict=True):
            tensor.detach().copy_(value)

    @property
    def n_bytes(self) -> int:
        return sum(part.n_bytes for part in self.rows) + sum(old.nbytes for old in self.old)

    def state_dict(self) -> dict[str, Any]:
        rows = [part.state_dict() for part in self.rows]
        return {"rows": rows, "dense": [old.clone() for old in self.old]}

    @classmethod
    def loaded(cls, tables: Tables, state: dict[str, Any]) -> Self:
        """Builds the Blend of a saved state."""
        saved = state["rows"]
        shapes = [tensor.shape for tensor in tables.others()]
        if [old.shape for old in state["dense"]] != shapes:
            raise ValueError("the state is of a model with other dense layers")
        for table, one in zip(tables, saved, strict=True):
            check_fits("the served rows", one["rows"], one["old"], table)
        own = ((t, one["rows"], one["counts"]) for t, one in zip(tables, saved))
        few = [(rows.to(t.device, copy=True), n.to(t.device, copy=True)) for t, rows, n in own]
        blend = cls(tables, few)
        for rows, one in zip(blend.rows, saved):
            rows.since.copy_(one["since"])
            rows.old.copy_(one["old"])
        for old, value in zip(blend.old, state["dense"]):
            old.copy_(value)
        return blend


class RowBlend:
    """The part of a `Blend` that is the rows of one table; arguments as there."""

    def __init__(self, table: Tensor, rows: Tensor, counts: Tensor) -> None:
        self.table, self.rows, self.counts = table, rows, counts
        self.since = counts.clone()  # lookups since the reset; before the first one, all are done
        self.old = self.trained()

    def restart(self) -> None:
        self.old = self.served()
        self.since.zero_()

    def add(self, rows: Tensor, occurrences: Tensor, values: Any = None) -> None:
        """Counts the lookups of a batch, as the row hook of the optimizer gives them."""
        if len(self.rows) == 0:
            return
        at = torch.searchsorted(self.rows, rows).clamp_(max=len(self.rows) - 1)
        found = self.rows.index_select(0, at) == rows
        self.since.index_add_(0, at, occurrences.int() * found)

    def trained(self) -> Tensor:
        """Copies the rows as they are in the table, (k, dim)."""
        return self.table.detach().index_select(0, self.rows)

    def served(self) -> Tensor:
        """Returns the rows to serve, (k, dim)."""
        dtype = at_least_float32(self.table.dtype)
        share = (self.since.to(dtype) / self.counts).clamp_(max=1)[:, None]
        return self.old.to(dtype).lerp(self.trained().to(dtype), share).to(self.table.dtype)

    def write(self, values: Tensor) -> None:
        self.table.detach().index_copy_(0, self.rows, values)

    @property
    def n_bytes(self) -> int:
        return sum(value.nbytes for value in self._values().values())

    def state_dict(self) -> dict[str, Tensor]:
        return {name: value.clone() for name, value in self._values().items()}

    def _values(self) -> dict[str, Tensor]:
        return {name: getattr(self, name) for name in ("rows", "counts", "since", "old")}

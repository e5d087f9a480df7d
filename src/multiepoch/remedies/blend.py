"""Blended serving: what a reset row had learned is served until the row has learned it anew.

A reset row knows nothing, and a model that serves it is worse for a while. Its dense layers are
not: they learn from the reset rows, which hold no label that they are about to see. So train the
reset row alone, and serve it together with what it was before the reset::

    served = share * trained + (1 - share) * old
    share = min(1, lookups since the reset / lookups in epoch 0)

A row is served as it was until its first lookup after the reset, and as it is trained once it has
been looked up as often as in the whole of epoch 0. Each row follows its own count, so a stream that
cannot tell when an epoch ends needs to announce only that the data begins to repeat.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class Blend:
    """Keeps the old values of the rows of one table that a rewind resets, and counts lookups since.

    Args:
        table: The table, (n_rows, dim).
        rows: The rows that are reset, int64 (k,), ascending.
        counts: Their lookups in epoch 0, int32 (k,), all positive.
    """

    def __init__(self, table: Tensor, rows: Tensor, counts: Tensor) -> None:
        self.table, self.rows, self.counts = table, rows, counts
        self.since = counts.clone()  # lookups since the reset; before the first one, all are done
        self.old = self.trained()

    def restart(self) -> None:
        """Keeps the rows as they are served now; the reset comes next."""
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
        share = (self.since / self.counts).clamp_(max=1)[:, None]
        return self.old.float().lerp(self.trained().float(), share).to(self.table.dtype)

    def write(self, values: Tensor) -> None:
        """Writes the rows, (k, dim), into the table."""
        self.table.detach().index_copy_(0, self.rows, values)

    @property
    def n_bytes(self) -> int:
        return sum(t.nbytes for t in (self.rows, self.counts, self.since, self.old))

    def state_dict(self) -> dict[str, Tensor]:
        names = ("rows", "counts", "since", "old")
        return {name: getattr(self, name).clone() for name in names}

    @classmethod
    def loaded(cls, table: Tensor, state: dict[str, Tensor]) -> Blend:
        """Builds the Blend of a saved state."""
        rows, counts, since, old = (
            state[name].to(table.device, copy=True) for name in ("rows", "counts", "since", "old")
        )
        beyond = len(rows) > 0 and int(rows[-1]) >= len(table)
        if beyond or old.shape[1:] != table.shape[1:]:
            raise ValueError(
                "the served rows in the state are of a table of another shape than "
                f"{tuple(table.shape)}: load the state of a table of the same shape"
            )
        blend = cls(table, rows, counts)
        blend.since, blend.old = since, old
        return blend

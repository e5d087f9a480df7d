"""Records of the rows an epoch touches: their number of lookups and their earlier values."""

from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
from torch import Tensor

from multiepoch.remedies.row_counts import DenseCounts, HashedCounts, row_counts
from multiepoch.remedies.tables import check_fits

Keep = Literal["table", "cpu"]
Columns = dict[str, Tensor]  # of k rows: their numbers, "rows", int64 (k,), and values, (k, ...)


class Counts:
    """Counts the lookups of each row of a table, without waiting for the device."""

    lookups: DenseCounts | HashedCounts

    def __init__(self, table: Tensor) -> None:
        self.table, self.lookups = table, DenseCounts(table)

    def add(self, rows: Tensor, occurrences: Tensor, values: Callable[[], Columns]) -> None:
        self.lookups.add(rows, occurrences.int())

    def few(self, below: float) -> Tensor:
        """Returns the rows touched fewer than `below` times, ascending, int64 (k,)."""
        rows, counts = self.lookups.all()
        return rows[counts < below]

    @property
    def n_bytes(self) -> int:
        return self.lookups.n_bytes

    def state_dict(self) -> dict[str, Any]:
        ids, counts = self.lookups.all()
        return {"ids": ids.clone(), "counts": counts.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        ids, counts = (state[name].to(self.table.device) for name in ("ids", "counts"))
        weights = state.get("values", {}).get("weight")
        check_fits("the counts of rows", ids, weights, self.table)
        self.lookups.add(ids, counts)


class UndoLog(Counts):
    """Counts the lookups of touched rows and keeps their values from before the first one.

    They are in a chunk for each step that touched new rows; `keep` is as `undo_log` for `Rewind`.
    """

    def __init__(self, table: Tensor, keep: Keep = "table") -> None:
        self.table, self.keep = table, keep
        self.lookups = row_counts(table)
        self.chunks: list[Columns] = []

    def add(self, rows: Tensor, occurrences: Tensor, values: Callable[[], Columns]) -> None:
        """Keeps the rows of a batch that are new, and counts all.

        Memory may run out on the way; then the batch has not been counted and may come again.
        """
        new = rows[(self.lookups.of(rows) == 0) & (occurrences > 0)]
        if len(new):
            old = {name: value.index_select(0, new) for name, value in values().items()}
            self._keep({"rows": new, **old})
        super().add(rows, occurrences, values)

    def _keep(self, columns: Columns) -> None:
        device = torch.device("cpu") if self.keep == "cpu" else self.table.device
        self.chunks.append({name: column.to(device) for name, column in columns.items()})

    def put_back(self, below: float) -> Iterator[Columns]:
        """Yields rows touched fewer than `below` times, in pieces, and drops the others."""
        for k, columns in enumerate(self.chunks):
            few = self.lookups.of(columns["rows"].to(self.table.device)) < below
            if not few.all():
                at = few.nonzero().squeeze(1).to(columns["rows"].device)
                columns = {name: column.index_select(0, at) for name, column in columns.items()}
            self.chunks[k] = columns
            yield columns

    @property
    def n_bytes(self) -> int:
        kept = sum(column.nbytes for chunk in self.chunks for column in chunk.values())
        return self.lookups.n_bytes + kept

    def state_dict(self) -> dict[str, Any]:
        names = self.chunks[0] if self.chunks else ()
        values = {name: torch.cat([one[name] for one in self.chunks]) for name in names}
        state = super().state_dict()
        return state | {"rows": values.pop("rows", state["ids"][:0]), "values": values}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores a saved state, wherever the log that saved it kept its values."""
        super().load_state_dict(state)
        if len(state["rows"]):
            saved = {"rows": state["rows"], **state["values"]}
            self._keep({name: column.clone() for name, column in saved.items()})

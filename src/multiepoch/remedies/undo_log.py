"""Records of the rows an epoch touches: their number of lookups and their earlier values."""

from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
from torch import Tensor

from multiepoch.remedies.row_counts import row_counts
from multiepoch.remedies.tables import check_fits, grown

Keep = Literal["table", "cpu"]
Columns = dict[str, Tensor]  # of k rows: their numbers, "rows", int64 (k,), and values, (k, ...)


class Counts:
    """Counts the lookups of each row of a table, without waiting for the device."""

    def __init__(self, table: Tensor) -> None:
        self.table = table
        self.counts = torch.zeros(len(table), dtype=torch.int32, device=table.device)

    def add(self, rows: Tensor, occurrences: Tensor, values: Callable) -> None:
        self.counts = grown(self.counts, self.table)
        self.counts.index_add_(0, rows, occurrences.int())

    def forget(self, rows: Tensor, occurrences: Tensor) -> None:
        """Takes a batch out of the counts again."""
        self.counts.index_add_(0, rows, -occurrences.int())

    def few(self, below: float) -> tuple[Tensor, Tensor]:
        """Returns the rows touched fewer than `below` times, ascending, and their lookups, (k,)."""
        rows = ((self.counts > 0) & (self.counts < below)).nonzero().squeeze(1)
        return rows, self.counts.index_select(0, rows)

    @property
    def n_bytes(self) -> int:
        return self.counts.nbytes

    def state_dict(self) -> dict[str, Tensor]:
        self.counts = grown(self.counts, self.table)
        return {"counts": self.counts.clone()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        if (n := len(state["counts"])) != len(self.counts):
            found = f"the state counts {n} rows, the table has {len(self.counts)}"
            raise ValueError(f"{found}: load the state of a table of the same shape")
        self.counts.copy_(state["counts"])


class UndoLog:
    """Counts the lookups of touched rows and keeps their values from before the first one.

    They are in a chunk for each step that touched new rows; `keep` is as `undo_log` for `Rewind`.
    """

    def __init__(self, table: Tensor, keep: Keep = "table") -> None:
        self.table, self.keep = table, keep
        self.lookups = row_counts(table)
        self.chunks: list[Columns] = []

    def add(self, rows: Tensor, occurrences: Tensor, values: Callable) -> None:
        """Counts a batch, and keeps the rows that are new; neither if an error is raised."""
        new = self.lookups.add(rows, occurrences.int())
        try:
            if len(new):
                old = {name: value.index_select(0, new) for name, value in values().items()}
                self._keep({"rows": new, **old})
        except BaseException:  # such as too little memory, after which the step may be tried again
            self._uncount(rows, occurrences)
            raise

    def forget(self, rows: Tensor, occurrences: Tensor) -> None:
        """Forgets the batch that was added last."""
        if self._uncount(rows, occurrences):
            self.chunks.pop()

    def _uncount(self, rows: Tensor, occurrences: Tensor) -> bool:
        """Takes a batch out of the counts again; says whether any of its rows was new."""
        ids, counts = self.lookups.all()
        counts.index_add_(0, torch.searchsorted(ids, rows), -occurrences.int())
        left = counts > 0
        self.lookups = row_counts(self.table)
        self.lookups.add(ids[left], counts[left])
        return not bool(left.all())

    def _keep(self, columns: Columns) -> None:
        device = torch.device("cpu") if self.keep == "cpu" else self.table.device
        # New rows are the first of a longer tensor, which a copy sets free.
        self.chunks.append({k: v.to(device, copy=k == "rows") for k, v in columns.items()})

    def put_back(self, below: float) -> Iterator[Columns]:
        """Yields rows touched fewer than `below` times, in pieces, and drops the others."""
        for k, columns in enumerate(self.chunks):
            few = self.lookups.of(columns["rows"].to(self.table.device)) < below
            if not few.all():
                at = few.nonzero().squeeze(1).to(columns["rows"].device)
                columns = {name: column.index_select(0, at) for name, column in columns.items()}
            self.chunks[k] = columns
            yield columns

    def few(self, below: float) -> tuple[Tensor, Tensor]:
        """Returns the rows touched fewer than `below` times, ascending, and their lookups, (k,)."""
        rows, counts = self.lookups.all()
        few = counts < below
        return rows[few], counts[few]

    @property
    def n_bytes(self) -> int:
        kept = sum(column.nbytes for chunk in self.chunks for column in chunk.values())
        return self.lookups.n_bytes + kept

    def state_dict(self) -> dict[str, Any]:
        ids, counts = (part.clone() for part in self.lookups.all())
        names = self.chunks[0] if self.chunks else ()
        values = {name: torch.cat([one[name] for one in self.chunks]) for name in names}
        rows = values.pop("rows", ids[:0])
        return {"ids": ids, "counts": counts, "rows": rows, "values": values}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores a saved state, wherever the log that saved it kept its values."""
        device, values = self.table.device, state["values"]
        ids, counts = (state[name].to(device) for name in ("ids", "counts"))
        check_fits("the rows of the undo log", ids, values.get("weight"), self.table)
        self.lookups, self.chunks = row_counts(self.table), []
        self.lookups.add(ids, counts)
        if len(state["rows"]):
            saved = {"rows": state["rows"], **values}
            self._keep({name: column.clone() for name, column in saved.items()})

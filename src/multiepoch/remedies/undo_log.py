"""Records of the rows an epoch touches: their number of lookups and their earlier values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class Counts:
    """Counts the lookups of each row of a table, without waiting for the device."""

    def __init__(self, table: Tensor) -> None:
        self.table = table
        self.counts = torch.zeros(len(table), dtype=torch.int32, device=table.device)

    def add(self, rows: Tensor, occurrences: Tensor, values: Callable) -> None:
        if len(self.table) > len(self.counts):  # the table has grown
            more = self.counts.new_zeros(len(self.table) - len(self.counts))
            self.counts = torch.cat([self.counts, more])
        self.counts.index_add_(0, rows, occurrences.int())

    def rows(self, below: float) -> Tensor:
        """Returns the rows touched at least once and fewer than `below` times, int64 (k,)."""
        return ((self.counts > 0) & (self.counts < below)).nonzero().squeeze(1)

    def few(self, below: float) -> tuple[Tensor, Tensor]:
        """Returns the rows of `rows`, ascending, and their lookups, int32 (k,)."""
        rows = self.rows(below)
        return rows, self.counts.index_select(0, rows)

    @property
    def n_bytes(self) -> int:
        return self.counts.nbytes

    def state_dict(self) -> dict[str, Tensor]:
        return {"counts": self.counts.clone()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        if state["counts"].shape != self.counts.shape:
            sizes = (
                f"the state counts {len(state['counts'])} rows, the table has {len(self.counts)}"
            )
            raise ValueError(f"{sizes}: load the state of a table of the same shape")
        self.counts.copy_(state["counts"])


class UndoLog:
    """Counts the lookups of touched rows and keeps their values from before the first one.

    The counts are in runs, each sorted by id and at least four times as long as the next, so that
    a batch is looked up in few runs and a row moves between runs only a few times. The values are
    in one chunk for each step that touched new rows.
    """

    def __init__(self, table: Tensor) -> None:
        self.table = table
        self.runs: list[tuple[Tensor, Tensor]] = []  # ids int64 (k,), counts int32 (k,)
        self.chunks: list[tuple[Tensor, dict[str, Tensor]]] = []  # rows (k,), values (k, ...)

    def add(self, rows: Tensor, occurrences: Tensor, values: Callable) -> None:
        rows, occurrences = _only(occurrences > 0, rows, occurrences.int())  # see register_row_hook
        for ids, counts in self.runs:
            at = torch.searchsorted(ids, rows).clamp_(max=len(ids) - 1)
            found = ids.index_select(0, at) == rows
            counts.index_add_(0, at, occurrences * found)
            rows, occurrences = _only(~found, rows, occurrences)
        if len(rows) == 0:
            return
        before = {name: value.index_select(0, rows) for name, value in values().items()}
        self.chunks.append((rows, before))
        self.runs.append(_sorted(rows, occurrences))
        while len(self.runs) > 1 and len(self.runs[-2][0]) < 4 * len(self.runs[-1][0]):
            (ids, counts), (more_ids, more_counts) = self.runs.pop(), self.runs.pop()
            self.runs.append(_sorted(torch.cat([ids, more_ids]), torch.cat([counts, more_counts])))

    def put_back(self, below: float) -> list[tuple[Tensor, dict[str, Tensor]]]:
        """Returns the chunks, after dropping the rows touched `below` times or more."""
        ids, counts = self._counts()
        for k, (rows, values) in enumerate(self.chunks):
            few = counts[torch.searchsorted(ids, rows)] < below
            rows, *kept = _only(few, rows, *values.values())
            self.chunks[k] = (rows, dict(zip(values, kept)))
        return self.chunks

    def few(self, below: float) -> tuple[Tensor, Tensor]:
        """Returns the rows touched fewer than `below` times, ascending, and their lookups, (k,)."""
        ids, counts = self._counts()
        return _only(counts < below, ids, counts)

    def _counts(self) -> tuple[Tensor, Tensor]:
        if not self.runs:
            empty = torch.empty(0, dtype=torch.int64, device=self.table.device)
            return empty, empty.int()
        return _sorted(*map(torch.cat, zip(*self.runs)))

    @property
    def n_bytes(self) -> int:
        tensors = [part for run in self.runs for part in run]
        tensors += [part for rows, values in self.chunks for part in (rows, *values.values())]
        return sum(part.nbytes for part in tensors)

    def state_dict(self) -> dict[str, Any]:
        ids, counts = self._counts()
        rows = torch.cat([ids[:0], *(rows for rows, _ in self.chunks)])
        names = self.chunks[0][1] if self.chunks else {}
        values = {name: torch.cat([v[name] for _, v in self.chunks]) for name in names}
        return {"ids": ids, "counts": counts, "rows": rows, "values": values}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        ids, counts, rows = (state[k].to(self.table.device) for k in ("ids", "counts", "rows"))
        values = copied(state["values"], self.table.device)
        beyond = len(ids) > 0 and int(ids[-1]) >= len(self.table)
        if beyond or ("weight" in values and values["weight"].shape[1] != self.table.shape[1]):
            raise ValueError(
                "the undo log in the state is of a table of another shape than "
                f"{tuple(self.table.shape)}: load the state of a table of the same shape"
            )
        self.runs = [(ids, counts.clone())] if len(ids) else []
        self.chunks = [(rows, values)] if len(rows) else []


def _only(mask: Tensor, *columns: Tensor) -> tuple[Tensor, ...]:
    """Selects the entries for which the mask, bool (k,), is True."""
    if mask.all():
        return columns
    at = mask.nonzero().squeeze(1)
    return tuple(column.index_select(0, at) for column in columns)


def _sorted(ids: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    ids, order = ids.sort()
    return ids, counts[order]


def copied(values: dict[str, Tensor], device: torch.device | None = None) -> dict[str, Tensor]:
    return {name: value.to(device or value.device, copy=True) for name, value in values.items()}

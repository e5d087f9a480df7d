"""Counts of some rows of a table, whose memory grows with these rows and not with the table."""

import torch
from torch import Tensor

from multiepoch.optim import compiled
from multiepoch.optim.memory import zeros


class HashedCounts:
    """Counts in a hash table on the CPU, at one access to memory for each row.

    It takes 10 to 12 bytes a row, and as much for each row of a batch, for which it has room.
    """

    LOAD, GROWTH = 0.8, 1.2  # the most of the slots in use, and by how much their number grows

    def __init__(self) -> None:
        self.slots, self.n = _empty_slots(0), 0

    def add(self, rows: Tensor, occurrences: Tensor) -> Tensor:
        """Adds occurrences, int32 (k,), of distinct rows, int64 (k,); returns the new rows."""
        if (at_most := self.n + len(rows)) > self.LOAD * len(self.slots):
            larger = _empty_slots(int(max(at_most / self.LOAD, self.GROWTH * len(self.slots))) + 1)
            compiled.call("move_counts", self.slots, len(self.slots), larger, len(larger))
            self.slots = larger
        new, batch = torch.empty_like(rows), (rows.contiguous(), occurrences.contiguous())
        n = compiled.call("add_counts", self.slots, len(self.slots), *batch, len(rows), new)
        self.n += n
        return new[:n]

    def of(self, rows: Tensor) -> Tensor:
        """Returns the counts of rows that have one, int32 (k,)."""
        counts = compiled.int32s(len(rows))
        slots = self.slots, len(self.slots)
        compiled.call("counts_of", *slots, rows.contiguous(), len(rows), counts)
        return counts

    def all(self) -> tuple[Tensor, Tensor]:
        """Returns the rows, int64 (n,), ascending, and their counts, int32 (n,)."""
        rows, counts = self.slots[self.slots[:, 1] > 0].T
        rows, order = rows.sort()
        return rows.long(), counts[order]

    @property
    def n_bytes(self) -> int:
        return 12 * self.n


class SortedCounts:
    """The same by operations of PyTorch, on any device.

    The counts are in runs, each sorted by row and at least four times as long as the next, so that
    a batch is looked up in few runs and a row moves between runs only a few times.
    """

    def __init__(self, device: torch.device) -> None:
        self.runs: list[tuple[Tensor, Tensor]] = []  # rows, int64 (k,), and counts, int32 (k,)
        self.device = device

    def add(self, rows: Tensor, occurrences: Tensor) -> Tensor:
        left = occurrences > 0
        for known, counts in self.runs:
            at = torch.searchsorted(known, rows).clamp_(max=len(known) - 1)
            found = known.index_select(0, at) == rows
            counts.index_add_(0, at, occurrences * found)
            left &= ~found
        new = rows[left]
        if len(new):
            self.runs.append(_sorted(new, occurrences[left]))
        while len(self.runs) > 1 and len(self.runs[-2][0]) < 4 * len(self.runs[-1][0]):
            self._merge(2)
        return new

    def of(self, rows: Tensor) -> Tensor:
        known, counts = self.all()
        return counts[torch.searchsorted(known, rows)]

    def all(self) -> tuple[Tensor, Tensor]:
        if not self.runs:
            empty = torch.empty(0, dtype=torch.int64, device=self.device)
            return empty, empty.int()
        if len(self.runs) > 1:
            self._merge(len(self.runs))
        rows, counts = self.runs[0]
        return rows, counts

    def _merge(self, n: int) -> None:
        """Merges the last n runs into one."""
        self.runs[-n:] = [_sorted(*map(torch.cat, zip(*self.runs[-n:])))]

    @property
    def n_bytes(self) -> int:
        return sum(part.nbytes for run in self.runs for part in run)


def row_counts(table: Tensor) -> HashedCounts | SortedCounts:
    """Returns an empty set of counts, by the compiled kernels if they can."""
    if table.is_cpu and len(table) < 2**31 and compiled.library() is not None:
        return HashedCounts()
    return SortedCounts(table.device)


def _empty_slots(n: int) -> Tensor:
    return zeros((n, 2), torch.int32, torch.device("cpu"))


def _sorted(rows: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    if (rows[1:] > rows[:-1]).all():
        return rows, counts
    rows, order = rows.sort()
    return rows, counts[order]

"""Counts of the lookups of rows; on a CPU their memory grows with the rows that have some."""

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
        self.slots, self.n = _empty_slots(1), 0

    def add(self, rows: Tensor, occurrences: Tensor) -> None:
        """Adds occurrences, int32 (k,), of distinct rows, int64 (k,)."""
        if (at_most := self.n + len(rows)) > self.LOAD * len(self.slots):
            larger = _empty_slots(int(max(at_most / self.LOAD, self.GROWTH * len(self.slots))) + 1)
            compiled.call("move_counts", self.slots, len(self.slots), larger, len(larger))
            self.slots = larger
        new, batch = torch.empty_like(rows), (rows.contiguous(), occurrences.contiguous())
        self.n += compiled.call("add_counts", self.slots, len(self.slots), *batch, len(rows), new)

    def of(self, rows: Tensor) -> Tensor:
        """Returns the counts of rows, int32 (k,); 0 for those that were never added."""
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


class DenseCounts:
    """The same on any device, in a count for each row of the table."""

    def __init__(self, table: Tensor) -> None:
        self.table = table
        self.counts = torch.zeros(len(table), dtype=torch.int32, device=table.device)

    def add(self, rows: Tensor, occurrences: Tensor) -> None:
        self._grow()
        self.counts.index_add_(0, rows, occurrences)

    def of(self, rows: Tensor) -> Tensor:
        self._grow()
        return self.counts.index_select(0, rows)

    def all(self) -> tuple[Tensor, Tensor]:
        rows = self.counts.nonzero().squeeze(1)
        return rows, self.counts.index_select(0, rows)

    def _grow(self) -> None:
        if (more := len(self.table) - len(self.counts)) > 0:
            self.counts = torch.cat([self.counts, self.counts.new_zeros(more)])

    @property
    def n_bytes(self) -> int:
        return self.counts.nbytes


def row_counts(table: Tensor) -> HashedCounts | DenseCounts:
    """Returns an empty set of counts, by the compiled kernels if they can."""
    hashed = table.is_cpu and len(table) < 2**31 and compiled.library() is not None
    return HashedCounts() if hashed else DenseCounts(table)


def _empty_slots(n: int) -> Tensor:
    return zeros((n, 2), torch.int32, torch.device("cpu"))

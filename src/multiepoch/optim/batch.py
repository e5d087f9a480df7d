"""The sparse gradient of one table, each row once: three ways to find the rows of a batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from multiepoch.optim import compiled


@dataclass(frozen=True)
class TouchedRows:
    """The k rows that a gradient of n lookups touches.

    rows: int64 (k,). occurrences: int32 (k,), how many of the n lookups were this row's.
    values: (n, dim), the gradient of each lookup.
    slot: int64 (n,), which of the k rows each lookup was; None if `compiled`.
    surplus: bool (k,), true where a slot is a copy of slot 0; None unless `fixed_size`.
    start, order: int64 (k + 1,) and int32 (n,), the lookups of row i being
        order[start[i]:start[i + 1]]; None unless `compiled`.
    """

    rows: Tensor
    occurrences: Tensor
    values: Tensor
    slot: Tensor | None = None
    surplus: Tensor | None = None
    start: Tensor | None = None
    order: Tensor | None = None

    @classmethod
    def unique(cls, ids: Tensor, values: Tensor, n_rows: int) -> TouchedRows:
        """By torch.unique: k is the number of distinct rows, which a GPU's host waits for."""
        rows, slot, occurrences = ids.unique(return_inverse=True, return_counts=True)
        return cls(rows, occurrences.int(), values, slot)

    @classmethod
    def fixed_size(cls, ids: Tensor, values: Tensor, n_rows: int) -> TouchedRows:
        """By a sort, with k = n whatever the ids are, so that the host need not wait.

        The slots after the last distinct row are copies of slot 0: the same row and gradient, so
        that they write the same values once more, but 0 occurrences, so that counts stay right.
        """
        ids, order = ids.sort(stable=True)
        head = torch.ones_like(ids)
        head[1:] = ids[1:] != ids[:-1]
        slot = head.cumsum(0) - 1
        rows = ids[0].expand_as(ids).clone().scatter_(0, slot, ids)
        occurrences = torch.zeros_like(ids, dtype=torch.int32)
        occurrences.index_add_(0, slot, torch.ones_like(occurrences))
        return cls(rows, occurrences, values[order], slot, surplus=occurrences == 0)

    @classmethod
    def compiled(cls, ids: Tensor, values: Tensor, n_rows: int) -> TouchedRows:
        """By the radix sort of _kernels.cpp, for `compiled.update_rows`; on a CPU only."""
        rows, occurrences, start, order = compiled.touched_rows(ids, n_rows)
        return cls(rows, occurrences, values.contiguous(), start=start, order=order)

    def gradient(self) -> Tensor:
        """The summed gradient of each row, float32 (k, dim)."""
        shape = (len(self.rows), self.values.shape[1])
        total = torch.zeros(shape, dtype=torch.float32, device=self.values.device)
        total.index_add_(0, self.slot, self.values.float())
        if self.surplus is None:
            return total
        return torch.where(self.surplus[:, None], total[0], total)

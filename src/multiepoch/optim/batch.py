"""The sparse gradient of one table, with each row listed once."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor


def at_least_float32(dtype: torch.dtype) -> torch.dtype:
    """Returns the dtype of a table's state and arithmetic."""
    return torch.promote_types(dtype, torch.float32)


@dataclass(frozen=True)
class TouchedRows:
    """The k rows that a gradient of n lookups touches.

    The compiled kernels use `start` and `order` instead of `slot`: the lookups of row i are
    order[start[i]:start[i + 1]].
    """

    rows: Tensor  # int64 (k,)
    occurrences: Tensor  # int32 (k,), the number of lookups of each row
    values: Tensor  # (n, dim), the gradient of each lookup
    slot: Tensor | None = None  # int64 (n,), the position in `rows` of each lookup's row
    surplus: Tensor | None = None  # bool (k,), True for the copies that `fixed_size` makes
    start: Tensor | None = None  # int64 (k + 1,)
    order: Tensor | None = None  # int32 (n,)

    @classmethod
    def unique(cls, ids: Tensor, values: Tensor) -> Self:
        """Uses torch.unique; k is the number of distinct rows, so the host waits for a GPU."""
        rows, slot, occurrences = ids.unique(return_inverse=True, return_counts=True)
        return cls(rows, occurrences.int(), values, slot)

    @classmethod
    def fixed_size(cls, ids: Tensor, values: Tensor) -> Self:
        """Sorts, with k = n for any ids, so that the host need not wait for a GPU.

        The slots after the last distinct row are copies of slot 0: they write the same values once
        more, but have 0 occurrences, so that counts stay right.
        """
        ids, order = ids.sort(stable=True)
        head = torch.ones_like(ids)
        head[1:] = ids[1:] != ids[:-1]
        slot = head.cumsum(0) - 1
        rows = ids[0].expand_as(ids).clone().scatter_(0, slot, ids)
        occurrences = torch.zeros_like(ids, dtype=torch.int32)
        occurrences.index_add_(0, slot, torch.ones_like(occurrences))
        return cls(rows, occurrences, values[order], slot, surplus=occurrences == 0)

    def gradient(self) -> Tensor:
        """Returns the summed gradient of each row, (k, dim), in at least float32."""
        assert self.slot is not None
        values = self.values.to(at_least_float32(self.values.dtype))
        total = values.new_zeros(len(self.rows), values.shape[1]).index_add_(0, self.slot, values)
        if self.surplus is None:
            return total
        return torch.where(self.surplus[:, None], total[0], total)

"""Where large tensors lie in memory."""

from __future__ import annotations

import ctypes
import mmap

from torch import Tensor

_WORTH_IT = 2**21  # bytes: one huge page


def use_huge_pages(fresh: Tensor) -> Tensor:
    """Asks Linux for pages of 2 MiB for memory that nobody has touched, and returns the tensor.

    In a table of a gigabyte, finding the small page of a row takes longer than reading the row.
    A hint, no more: where it cannot be had, nothing changes. Memory that was written before keeps
    the pages it has; for tables that other code makes, THP_MEM_ALLOC_ENABLE=1 in the environment
    makes torch ask.
    """
    page, advise_huge = mmap.PAGESIZE, getattr(mmap, "MADV_HUGEPAGE", None)
    if fresh.device.type == "cpu" and advise_huge is not None and fresh.nbytes >= _WORTH_IT:
        first = -(-fresh.data_ptr() // page) * page
        length = fresh.data_ptr() + fresh.nbytes - first
        ctypes.CDLL(None).madvise(ctypes.c_void_p(first), ctypes.c_size_t(length), advise_huge)
    return fresh

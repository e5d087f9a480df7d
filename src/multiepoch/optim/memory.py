"""Huge pages for large tensors."""

from __future__ import annotations

import ctypes
import mmap

from torch import Tensor

_WORTH_IT = 2**21  # bytes: one huge page


def use_huge_pages(fresh: Tensor) -> Tensor:
    """Asks Linux to back a new, unwritten tensor with 2 MiB pages, and returns the tensor.

    In a table of a gigabyte, finding the small page of a row takes longer than reading the row.
    This is only a hint: if huge pages are not available, nothing changes. Memory that was
    already written keeps its pages. For tables that other code allocates, set
    THP_MEM_ALLOC_ENABLE=1 in the environment, and torch itself asks.
    """
    page, advise_huge = mmap.PAGESIZE, getattr(mmap, "MADV_HUGEPAGE", None)
    if fresh.device.type == "cpu" and advise_huge is not None and fresh.nbytes >= _WORTH_IT:
        first = -(-fresh.data_ptr() // page) * page
        length = fresh.data_ptr() + fresh.nbytes - first
        ctypes.CDLL(None).madvise(ctypes.c_void_p(first), ctypes.c_size_t(length), advise_huge)
    return fresh

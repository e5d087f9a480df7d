"""Huge pages for large tensors."""

import ctypes
import mmap
import sys

import torch
from torch import Tensor

_HUGE_PAGE = 2**21  # bytes
_COLLAPSE = 25  # MADV_COLLAPSE, since Linux 6.1


def use_huge_pages(tensor: Tensor, written: bool = False) -> Tensor:
    """Asks Linux to back a tensor with 2 MiB pages, if it can, and returns the tensor.

    In a table of a gigabyte, finding the small page of a row takes longer than reading the row. A
    tensor that is already written is copied by the kernel, at a few seconds per gigabyte.
    """
    if sys.platform != "linux":
        return tensor
    advice = _COLLAPSE if written else mmap.MADV_HUGEPAGE
    if tensor.device.type == "cpu" and tensor.nbytes >= _HUGE_PAGE:
        page = _HUGE_PAGE if written else mmap.PAGESIZE
        first = -(-tensor.data_ptr() // page) * page
        length = (tensor.data_ptr() + tensor.nbytes - first) // page * page
        ctypes.CDLL(None).madvise(ctypes.c_void_p(first), ctypes.c_size_t(length), advice)
    return tensor


def zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Returns zeros in huge pages, which are asked for before the memory is written."""
    return use_huge_pages(torch.empty(shape, dtype=dtype, device=device)).zero_()

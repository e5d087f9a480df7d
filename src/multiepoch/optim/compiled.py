"""The optional compiled path: builds `_kernels.cpp` once, and says None where it cannot.

The library is plain C++ without torch's headers, built in about a second by c++, g++ or clang++
at the first step on a CPU and kept in the user's cache. Without a compiler, or with
MULTIEPOCH_COMPILE=0 in the environment, the eager path does the same work.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import math
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from multiepoch.optim.batch import TouchedRows

RULES = ("adam", "adagrad", "rowwise_adagrad", "sgd")  # by number in update_rows
FLAGS = ("-O3", "-std=c++17", "-fPIC", "-shared", "-pthread", "-fno-math-errno",
         "-fopenmp-simd")  # fmt: skip
Pointer, Int, Float = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float


class Step(ctypes.Structure):
    """`Step` of _kernels.cpp."""

    _fields_ = [(name, Float) for name in
                ("lr", "eps", "gain1", "beta2", "gain2", "eps_scaled", "root_scale")]  # fmt: skip


class Batch(ctypes.Structure):
    """`Batch` of _kernels.cpp."""

    _fields_ = [("rows", Pointer), ("start", Pointer), ("order", Pointer), ("values", Pointer),
                ("k", Int), ("dim", Int), ("factor", Pointer), ("keep", Pointer)]  # fmt: skip


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled kernels; None where they are turned off or cannot be built."""
    compiler = next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))), None)
    if os.environ.get("MULTIEPOCH_COMPILE", "1") == "0" or sys.platform == "win32" or not compiler:
        return None
    try:
        return _load(compiler)
    except (OSError, subprocess.SubprocessError):
        return None


def _load(compiler: str) -> ctypes.CDLL:
    source = Path(__file__).with_name("_kernels.cpp")
    flags = list(FLAGS)
    if torch.backends.cpu.get_cpu_capability().startswith("AVX"):
        flags += ["-mavx2", "-mfma"]
    key = hashlib.sha256(source.read_bytes() + repr((compiler, flags)).encode()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "multiepoch"
    path = cache / f"kernels-{key}.so"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            built = Path(folder) / "kernels.so"
            command = [compiler, *flags, str(source), "-o", str(built)]
            subprocess.run(command, check=True, capture_output=True, timeout=60)
            os.replace(built, path)  # whole or not at all, whoever else builds it
    kernels = ctypes.CDLL(str(path))
    kernels.touched_rows.restype = Int
    kernels.touched_rows.argtypes = [Pointer, Int, Int, Pointer, Pointer, Pointer, Pointer]
    kernels.update_rows.restype = None
    kernels.update_rows.argtypes = [ctypes.c_int, ctypes.POINTER(Batch), Pointer, Pointer,
                                    Pointer, ctypes.POINTER(Step), ctypes.c_int]  # fmt: skip
    return kernels


def usable(table: Tensor, values: Tensor) -> bool:
    """Whether the kernels can do this table: float32 in memory order on a CPU, below 2^31 ids."""
    return (
        table.device.type == "cpu"
        and table.dtype == values.dtype == torch.float32
        and table.is_contiguous()
        and max(len(table), len(values)) < 2**31
        and library() is not None
    )


def touched_rows(ids: Tensor, n_rows: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """rows (k,), occurrences (k,), start (k + 1,) and order (n,): the lookups of row i of the k
    are order[start[i]:start[i + 1]]. ids: int64 (n,) in [0, n_rows)."""
    n, ids = len(ids), ids.contiguous()
    rows, start = torch.empty(n, dtype=torch.int64), torch.empty(n + 1, dtype=torch.int64)
    occurrences, order = torch.empty(n, dtype=torch.int32), torch.empty(n, dtype=torch.int32)
    results = (rows, occurrences, start, order)
    k = library().touched_rows(ids.data_ptr(), n, n_rows, *(t.data_ptr() for t in results))
    return rows[:k], occurrences[:k], start[: k + 1], order


def update_rows(rule: str, table: Tensor, states: list[Tensor], touched: TouchedRows,
                factor: Tensor | None, keep: Tensor | None,
                step: int, lr: float, betas: tuple[float, float], eps: float) -> None:  # fmt: skip
    """Updates the touched rows of the table and of its states in place.

    touched: from `touched_rows`. factor, keep: as in the eager path, float32 (k,) or None.
    """

    def pointer(tensor: Tensor | None) -> int | None:
        return None if tensor is None else tensor.data_ptr()

    batch = Batch(pointer(touched.rows), pointer(touched.start), pointer(touched.order),
                  pointer(touched.values), len(touched.rows), table.shape[1],
                  pointer(factor), pointer(keep))  # fmt: skip
    beta1, beta2 = betas
    correction1, correction2 = 1 - beta1**step, 1 - beta2**step
    options = Step(lr, eps, 1 - beta1, beta2, 1 - beta2,
                   eps * correction1, correction1 / math.sqrt(correction2))  # fmt: skip
    one, two = (*map(pointer, states), None, None)[:2]
    library().update_rows(RULES.index(rule), batch, pointer(table), one, two, options,
                          torch.get_num_threads())  # fmt: skip

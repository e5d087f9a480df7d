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
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from multiepoch.optim.fal import SCALES, FrequencyAdaptiveLR
from multiepoch.optim.rules import RULES

if TYPE_CHECKING:
    from multiepoch.optim.batch import TouchedRows

FLAGS = ("-O3", "-std=c++17", "-fPIC", "-fno-math-errno", "-fopenmp-simd")
Pointer, Int, Float = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float


class Step(ctypes.Structure):
    """`Step` of _kernels.cpp."""

    _fields_ = [(name, Float) for name in
                ("lr", "eps", "gain1", "beta2", "gain2", "eps_scaled", "root_scale")]  # fmt: skip


class Scale(ctypes.Structure):
    """`Scale` of _kernels.cpp."""

    _fields_ = [("count", Pointer), ("max_count", Pointer), ("by_steps", ctypes.c_int32),
                ("kind", ctypes.c_int32), ("threshold", ctypes.c_int32),
                ("exponent", Float), ("reduced", Float), ("gap", Float)]  # fmt: skip


class Batch(ctypes.Structure):
    """`Batch` of _kernels.cpp."""

    _fields_ = [("rows", Pointer), ("occurrences", Pointer), ("start", Pointer),
                ("order", Pointer), ("values", Pointer), ("k", Int), ("dim", Int),
                ("last_step", Pointer), ("step", ctypes.c_int32), ("alpha", Float)]  # fmt: skip


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled kernels; None where they are turned off or cannot be built."""
    compiler = next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))), None)
    if os.environ.get("MULTIEPOCH_COMPILE", "1") == "0" or sys.platform == "win32" or not compiler:
        return None
    for threads in ("-fopenmp", "-pthread"):
        try:
            return _load(compiler, threads)
        except (OSError, subprocess.SubprocessError):
            continue
    return None


def _load(compiler: str, threads: str) -> ctypes.CDLL:
    """threads: "-fopenmp" for torch's own, "-pthread" for others.

    Not linked with -fopenmp, so that the calls of OpenMP find the library that torch has loaded,
    and not a second one with a second set of threads; OSError where they don't find it.
    """
    source = Path(__file__).with_name("_kernels.cpp")
    flags = [*FLAGS, threads]
    if torch.backends.cpu.get_cpu_capability().startswith("AVX"):
        flags += ["-mavx2", "-mfma"]
    key = hashlib.sha256(source.read_bytes() + repr((compiler, flags)).encode()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "multiepoch"
    path = cache / f"kernels-{key}.so"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            compiled, linked = f"{folder}/kernels.o", f"{folder}/kernels.so"
            for command in (["-c", *flags, str(source), "-o", compiled],
                            ["-shared", "-pthread", compiled, "-o", linked]):  # fmt: skip
                subprocess.run([compiler, *command], check=True, capture_output=True, timeout=60)
            os.replace(linked, path)  # whole or not at all, whoever else builds it
    kernels = ctypes.CDLL(str(path))
    kernels.touched_rows.restype = Int
    kernels.touched_rows.argtypes = [Pointer, Int, Int, Pointer, Pointer, Pointer, Pointer]
    kernels.update_rows.restype = None
    kernels.update_rows.argtypes = [ctypes.c_int, ctypes.POINTER(Batch), Pointer, Pointer,
                                    Pointer, ctypes.POINTER(Step), ctypes.POINTER(Scale),
                                    ctypes.c_int]  # fmt: skip
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
    if k < 0:
        raise IndexError(
            f"EmbeddingOptimizer: a gradient has ids outside its table's {n_rows} rows."
        )
    return rows[:k], occurrences[:k], start[: k + 1], order


def update_rows(
    group: dict[str, Any],
    table: Tensor,
    state: dict[str, Tensor],
    touched: TouchedRows,
) -> None:
    """As in eager.py, in one epoch over the rows. touched: by `TouchedRows.compiled`."""
    step, decay = int(state["step"]), group["row_decay"]
    batch = Batch(_pointer(touched.rows), _pointer(touched.occurrences), _pointer(touched.start),
                  _pointer(touched.order), _pointer(touched.values), len(touched.rows),
                  table.shape[1], None if decay is None else _pointer(state["last_step"]), step,
                  0.0 if decay is None else decay.alpha)  # fmt: skip
    (beta1, beta2), eps = group["betas"], group["eps"]
    correction1, correction2 = 1 - beta1**step, 1 - beta2**step
    options = Step(group["lr"], eps, 1 - beta1, beta2, 1 - beta2,
                   eps * correction1, correction1 / math.sqrt(correction2))  # fmt: skip
    states = [_pointer(state[name]) for name in RULES[group["rule"]].state_shapes(*table.shape)]
    one, two = (*states, None, None)[:2]
    library().update_rows(list(RULES).index(group["rule"]), batch, _pointer(table), one, two,
                          options, _scale(group, state),
                          torch.get_num_threads())  # fmt: skip
    torch.autograd.graph.increment_version(table)  # as an in-place operation of torch does


def _scale(group: dict[str, Any], state: dict[str, Tensor]) -> Scale:
    row_lr: FrequencyAdaptiveLR | None = group["row_lr"]
    if row_lr is None:
        return Scale()
    return Scale(_pointer(state["count"]), _pointer(state["max_count"]), row_lr.count == "steps",
                 SCALES.index(row_lr.scale), row_lr.threshold, row_lr.exponent, row_lr.reduced,
                 row_lr.gap_decay ** group["epoch"])  # fmt: skip


def _pointer(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()

"""The optional compiled path: builds `_kernels.cpp` on first use and calls it through ctypes.

The source is plain C++ without torch's headers. c++, g++ or clang++ builds it in about a second at
the first step on a CPU; the library is kept in the user's cache. Without a compiler, or with
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
from typing import Any

import torch
from torch import Tensor

from multiepoch.files import atomic_write
from multiepoch.optim.batch import TouchedRows
from multiepoch.optim.fal import SCALES, FrequencyAdaptiveLR
from multiepoch.optim.rules import RULES

FLAGS = ("-O3", "-std=c++17", "-fPIC", "-fno-math-errno", "-fopenmp-simd")
Pointer, Int, Int32, Float = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int32, ctypes.c_float


class Step(ctypes.Structure):
    """Mirrors `Step` of _kernels.cpp."""

    _fields_ = [
        (name, Float)
        for name in ("lr", "eps", "gain1", "beta2", "gain2", "eps_scaled", "root_scale")
    ]


class Scale(ctypes.Structure):
    """Mirrors `Scale` of _kernels.cpp."""

    _fields_ = [
        *[(name, Pointer) for name in ("count", "max_count")],
        *[(name, Int32) for name in ("by_steps", "kind", "threshold")],
        *[(name, Float) for name in ("exponent", "reduced", "gap")],
    ]


class Batch(ctypes.Structure):
    """Mirrors `Batch` of _kernels.cpp."""

    _fields_ = [
        *[(name, Pointer) for name in ("rows", "occurrences", "start", "order", "values")],
        *[(name, Int) for name in ("k", "dim")],
        *[("last_step", Pointer), ("step", Int32), ("alpha", Float)],
    ]


@functools.cache
def library() -> ctypes.CDLL | None:
    """Returns the compiled kernels, or None if they are turned off or cannot be built."""
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
    """Builds and loads the library; `threads` is "-fopenmp" or "-pthread".

    It is not linked with -fopenmp, so that its OpenMP calls use the runtime that torch has loaded
    instead of a second set of threads. If they do not find it, loading raises an OSError.
    """
    source = Path(__file__).with_name("_kernels.cpp")
    flags = [*FLAGS, threads]
    if torch.backends.cpu.get_cpu_capability().startswith("AVX"):
        flags += ["-mavx2", "-mfma"]
    key = hashlib.sha256(source.read_bytes() + repr((compiler, flags)).encode()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "multiepoch"
    path = cache / f"kernels-{key}.so"
    if not path.exists():
        # Complete or absent, even if several processes build at the same time.
        with tempfile.TemporaryDirectory() as folder, atomic_write(path) as linked:
            compiled = f"{folder}/kernels.o"
            for command in (
                ["-c", *flags, str(source), "-o", compiled],
                ["-shared", "-pthread", compiled, "-o", str(linked)],
            ):
                subprocess.run([compiler, *command], check=True, capture_output=True, timeout=60)
    kernels = ctypes.CDLL(str(path))
    batch, step, scale = map(ctypes.POINTER, (Batch, Step, Scale))
    kernels.touched_rows.restype, kernels.update_rows.restype = Int, None
    kernels.touched_rows.argtypes = [Pointer, Int, Int, *[Pointer] * 4]
    kernels.update_rows.argtypes = [Int32, batch, *[Pointer] * 3, step, scale, Int32]
    return kernels


def usable(table: Tensor, values: Tensor) -> bool:
    """Checks if the kernels support a table: contiguous float32 on a CPU, fewer than 2^31 ids."""
    return (
        table.device.type == "cpu"
        and table.dtype == values.dtype == torch.float32
        and table.is_contiguous()
        and max(len(table), len(values)) < 2**31
        and library() is not None
    )


def touched_rows(ids: Tensor, values: Tensor, n_rows: int) -> TouchedRows:
    """Finds the rows of a batch by the radix sort of _kernels.cpp, for `update_rows`."""
    n, ids = len(ids), ids.contiguous()
    rows, start = torch.empty(n, dtype=torch.int64), torch.empty(n + 1, dtype=torch.int64)
    occurrences, order = (torch.empty(n, dtype=torch.int32) for _ in range(2))
    pointers = (one.data_ptr() for one in (rows, occurrences, start, order))
    k = library().touched_rows(ids.data_ptr(), n, n_rows, *pointers)
    if k < 0:
        raise IndexError(f"EmbeddingOptimizer: a gradient has ids outside its {n_rows} rows.")
    found, counts, values = rows[:k], occurrences[:k], values.contiguous()
    return TouchedRows(found, counts, values, start=start[: k + 1], order=order)


def update_rows(group: dict, table: Tensor, state: dict[str, Tensor], touched: TouchedRows) -> None:
    """Does what `eager.update_rows` does, in one sweep over the rows."""
    rule, step, decay = group["rule"], int(state["step"]), group["row_decay"]
    arrays = touched.rows, touched.occurrences, touched.start, touched.order, touched.values
    batch = Batch(*(one.data_ptr() for one in arrays), len(arrays[0]), table.shape[1], step=step)
    if decay is not None:
        batch.last_step, batch.alpha = state["last_step"].data_ptr(), decay.alpha
    (beta1, beta2), eps = group["betas"], group["eps"]
    correction1, correction2 = 1 - beta1**step, 1 - beta2**step
    corrected = eps * correction1, correction1 / math.sqrt(correction2)
    options = Step(group["lr"], eps, 1 - beta1, beta2, 1 - beta2, *corrected)
    states = [state[name].data_ptr() for name in RULES[rule].state_shapes(*table.shape)]
    one, two = (*states, None, None)[:2]
    weight, scale, threads = table.data_ptr(), _scale(group, state), torch.get_num_threads()
    place = list(RULES).index(rule)
    library().update_rows(place, batch, weight, one, two, options, scale, threads)
    torch.autograd.graph.increment_version(table)  # as an in-place operation of torch does


def _scale(group: dict[str, Any], state: dict[str, Tensor]) -> Scale:
    lr: FrequencyAdaptiveLR | None = group["row_lr"]
    if lr is None:
        return Scale()
    pointers = (state[name].data_ptr() for name in ("count", "max_count"))
    kind, gap = SCALES.index(lr.scale), lr.gap_decay ** group["epoch"]
    return Scale(*pointers, lr.count == "steps", kind, lr.threshold, lr.exponent, lr.reduced, gap)

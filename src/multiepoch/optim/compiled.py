"""The fused path on a CPU: calls the kernels of `_kernels.cpp` through ctypes.

`pip install` builds them as plain shared libraries if there is a C++ compiler; nothing compiles
later. Without them the eager path does the same work.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from multiepoch.optim import eager
from multiepoch.optim.batch import TouchedRows
from multiepoch.optim.fal import SCALES, FrequencyAdaptiveLR
from multiepoch.optim.rules import RULES

FOLDER = Path(__file__).parent
ABSENT = (
    "multiepoch: tables are updated by PyTorch operations, 3 to 5 times slower than by the "
    "compiled kernels, since %s. `pip install` of the package builds them if there is a C++ "
    "compiler."
)
log = logging.getLogger("multiepoch")
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
        ("last_step", Pointer),
        ("step", Int32),
        *[(name, Float) for name in ("alpha", "share")],
    ]


@functools.cache
def library() -> ctypes.CDLL | None:
    """Returns the compiled kernels, or None if there are none; the log says which, once."""
    capability = torch.backends.cpu.get_cpu_capability()
    vectors = {"AVX512": ["avx512", "avx2"], "AVX2": ["avx2"]}.get(capability, [])
    why = "they were not built when the package was installed"
    for name in (*vectors, "plain"):
        path = FOLDER / f"_kernels_{name}.so"
        if not path.exists():
            continue
        try:
            kernels = _load(path)
        except (OSError, AttributeError) as error:
            why = f"{path.name} does not load ({error})"
            continue
        log.info("multiepoch: tables are updated by the compiled kernels %s.", path.name)
        return kernels
    log.warning(ABSENT, why)
    return None


def _load(path: Path) -> ctypes.CDLL:
    """Raises an OSError if the library was built from another source than the one here.

    Such a library, left over in a checkout, would take its arguments for something else.
    """
    kernels = ctypes.CDLL(str(path))
    kernels.source_hash.restype = ctypes.c_char_p
    source = path.with_name("_kernels.cpp").read_bytes()
    if kernels.source_hash().decode() != hashlib.sha256(source).hexdigest():
        raise OSError("built from another version of _kernels.cpp")
    batch, step, scale = map(ctypes.POINTER, (Batch, Step, Scale))
    kernels.touched_rows.restype, kernels.update_rows.restype = Int, None
    kernels.touched_rows.argtypes = [Pointer, Int, Int, *[Pointer] * 4]
    kernels.sum_rows.restype, kernels.sum_rows.argtypes = None, [batch, Pointer, Int32]
    kernels.update_rows.argtypes = [Int32, batch, *[Pointer] * 3, step, scale, Int32]
    kernels.distinct_rows.restype = Int
    kernels.distinct_rows.argtypes = [Pointer, Int, Int, Pointer, Pointer]
    kernels.add_counts.restype = Int
    kernels.move_counts.restype = kernels.counts_of.restype = None
    kernels.add_counts.argtypes = [Pointer, Int, Pointer, Pointer, Int, Pointer]
    kernels.move_counts.argtypes = [Pointer, Int, Pointer, Int]
    kernels.counts_of.argtypes = [Pointer, Int, Pointer, Int, Pointer]
    kernels.keep_rows.restype = kernels.correct_rows.restype = None
    kernels.keep_rows.argtypes = [batch, *[Pointer] * 3, scale, Int32]
    kernels.correct_rows.argtypes = [batch, Pointer, scale, Int32]
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


def touched_rows(ids: Tensor, values: Tensor, n_rows: int) -> TouchedRows | None:
    """Finds the rows of a batch by a radix sort, for `update_rows`; None if an id is no row."""
    n, ids = len(ids), ids.contiguous()
    rows, start = torch.empty(n, dtype=torch.int64), torch.empty(n + 1, dtype=torch.int64)
    occurrences, order = (torch.empty(n, dtype=torch.int32) for _ in range(2))
    pointers = (one.data_ptr() for one in (rows, occurrences, start, order))
    kernels = library()
    assert kernels is not None
    k = kernels.touched_rows(ids.data_ptr(), n, n_rows, *pointers)
    if k < 0:
        return None
    found, counts, values = rows[:k], occurrences[:k], values.contiguous()
    return TouchedRows(found, counts, values, start=start[: k + 1], order=order)


def sum_rows(touched: TouchedRows) -> Tensor:
    """Does what `TouchedRows.gradient` does."""
    kernels, sums = library(), torch.empty(len(touched.rows), touched.values.shape[1])
    assert kernels is not None
    kernels.sum_rows(_batch(touched), sums.data_ptr(), torch.get_num_threads())
    return sums


def update_rows(group: dict, table: Tensor, state: dict[str, Tensor], touched: TouchedRows) -> None:
    """Does what `eager.update_rows` does, in one sweep over the rows."""
    rule, step, decay = group["rule"], int(state["step"]), group["row_decay"]
    batch = _batch(touched, step)
    batch.share = eager.kept_by_decay(group)
    if decay is not None:
        batch.last_step, batch.alpha = state["last_step"].data_ptr(), decay.alpha
    (beta1, beta2), eps = group["betas"], group["eps"]
    correction1, correction2 = 1 - beta1**step, 1 - beta2**step
    corrected = eps * correction1, correction1 / math.sqrt(correction2)
    options = Step(float(group["lr"]), eps, 1 - beta1, beta2, 1 - beta2, *corrected)
    states = [state[name].data_ptr() for name in RULES[rule].state_shapes(*table.shape)]
    one, two = (*states, None, None)[:2]
    weight, scale, threads = table.data_ptr(), _scale(group, state), torch.get_num_threads()
    place, kernels = list(RULES).index(rule), library()
    assert kernels is not None
    kernels.update_rows(place, batch, weight, one, two, options, scale, threads)
    torch.autograd.graph.increment_version(table)  # as an in-place operation of torch does


def distinct_rows(ids: Tensor, n_rows: int) -> tuple[Tensor, Tensor] | None:
    """Returns the rows in `ids` and how often each is there, (k,); None if an id is no row."""
    n, ids, kernels = len(ids), ids.contiguous(), library()
    rows, occurrences = torch.empty(n, dtype=torch.int64), torch.empty(n, dtype=torch.int32)
    assert kernels is not None
    found = rows.data_ptr(), occurrences.data_ptr()
    k = kernels.distinct_rows(ids.data_ptr(), n, n_rows, *found)
    return None if k < 0 else (rows[:k], occurrences[:k])


def keep_rows(
    group: dict, table: Tensor, state: dict[str, Tensor], rows: Tensor, occurrences: Tensor
) -> eager.Kept:
    """Does what `eager.keep_rows` does, in one sweep over the rows."""
    kernels, old = library(), torch.empty(len(rows), table.shape[1])
    occurrences, counted = occurrences.int(), torch.empty(len(rows), dtype=torch.int32)
    assert kernels is not None
    batch = Batch(rows.data_ptr(), occurrences.data_ptr(), k=len(rows), dim=table.shape[1])
    pointers = (one.data_ptr() for one in (table, old, counted))
    kernels.keep_rows(batch, *pointers, _scale(group, state), torch.get_num_threads())
    return rows, old, counted


def correct_rows(
    group: dict, table: Tensor, state: dict[str, Tensor], kept: eager.Kept, step: int
) -> None:
    """Does what `eager.correct_rows` does, in one sweep over the rows."""
    kernels, decay, (rows, old, counted) = library(), group["row_decay"], kept
    assert kernels is not None
    batch = Batch(rows.data_ptr(), counted.data_ptr(), values=old.data_ptr())
    batch.k, batch.dim = old.shape
    batch.share = eager.kept_by_decay(group)
    if decay is not None:
        batch.last_step, batch.step = state["last_step"].data_ptr(), step
        batch.alpha = decay.alpha
    scale, threads = _scale(group, state), torch.get_num_threads()
    kernels.correct_rows(batch, table.data_ptr(), scale, threads)
    torch.autograd.graph.increment_version(table)


def add_counts(slots: Tensor, rows: Tensor, occurrences: Tensor) -> Tensor:
    """Adds to the counts of rows in a hash table; returns the rows that had none, int64.

    Args:
        slots: The hash table, int32 (n, 2): row and count, or zeros. Changed in place.
        rows: Distinct rows, int64 (k,), fewer than the empty slots.
        occurrences: Their lookups, int32 (k,); 0 has no effect.
    """
    kernels, (rows, occurrences) = library(), (rows.contiguous(), occurrences.contiguous())
    new = torch.empty_like(rows)
    assert kernels is not None
    given = rows.data_ptr(), occurrences.data_ptr(), len(rows)
    n = kernels.add_counts(slots.data_ptr(), len(slots), *given, new.data_ptr())
    return new[:n]


def move_counts(slots: Tensor, larger: Tensor) -> None:
    """Copies all counts into a hash table of zeros."""
    kernels = library()
    assert kernels is not None
    kernels.move_counts(slots.data_ptr(), len(slots), larger.data_ptr(), len(larger))


def counts_of(slots: Tensor, rows: Tensor) -> Tensor:
    """Returns the counts of rows, int64 (k,), in a hash table, int32 (k,)."""
    kernels, rows = library(), rows.contiguous()
    counts = torch.empty(len(rows), dtype=torch.int32)
    assert kernels is not None
    given = rows.data_ptr(), len(rows), counts.data_ptr()
    kernels.counts_of(slots.data_ptr(), len(slots), *given)
    return counts


def _batch(touched: TouchedRows, step: int = 0) -> Batch:
    assert touched.start is not None and touched.order is not None
    arrays = touched.rows, touched.occurrences, touched.start, touched.order, touched.values
    sizes = len(touched.rows), touched.values.shape[1]
    return Batch(*(one.data_ptr() for one in arrays), *sizes, step=step)


def _scale(group: dict[str, Any], state: dict[str, Tensor]) -> Scale:
    lr: FrequencyAdaptiveLR | None = group["row_lr"]
    if lr is None:
        return Scale()
    pointers = (state[name].data_ptr() for name in ("count", "max_count"))
    kind, gap = SCALES.index(lr.scale), lr.gap_decay ** group["epoch"]
    return Scale(*pointers, lr.count == "steps", kind, lr.threshold, lr.exponent, lr.reduced, gap)

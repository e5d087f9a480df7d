"""The fused path on a CPU: calls the kernels of `_kernels.cpp` through ctypes.

`pip install` builds them as plain shared libraries if there is a C++ compiler; nothing compiles
later. Without them the eager path does the same work.
"""

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
from multiepoch.optim.fal import SCALES, FrequencyAdaptiveLR
from multiepoch.optim.rules import RULES

FOLDER = Path(__file__).parent
ABSENT = (
    "multiepoch: tables are updated by PyTorch operations, 2.2 to 3.6 times slower than by "
    "compiled kernels, since %s. `pip install` of the package builds them if there is a C++ "
    "compiler."
)
# What kernels write to, whatever torch's default dtype and device are.
int32s, int64s, float32s = (
    functools.partial(torch.empty, dtype=dtype, device="cpu")
    for dtype in (torch.int32, torch.int64, torch.float32)
)
log = logging.getLogger("multiepoch")
Pointer, Int, Int32 = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int32
Float = ctypes.c_float


class Step(ctypes.Structure):
    """Mirrors `Step` of _kernels.cpp."""

    _fields_ = [
        (name, Float)
        for name in ("lr", "eps", "gain1", "beta2", "gain2", "eps_scaled", "root_scale")
    ]


class Scale(ctypes.Structure):
    """Mirrors `Scale` of _kernels.cpp."""

    _fields_ = [
        ("count", Pointer),
        ("stride", Int),
        ("max_count", Pointer),
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
        ("stride", Int),
    ]


BATCH, STEP, SCALE = map(ctypes.POINTER, (Batch, Step, Scale))
SIGNATURES: dict[str, tuple] = {  # by function of _kernels.cpp: what it returns, what it takes
    "touched_rows": (Int, [Pointer, Int, Int, *[Pointer] * 4]),
    "distinct_rows": (Int, [Pointer, Int, Int, Pointer, Pointer]),
    "sum_rows": (None, [BATCH, Pointer, Int32]),
    "update_rows": (None, [Int32, BATCH, *[Pointer] * 3, STEP, SCALE, Int32]),
    "keep_rows": (None, [BATCH, *[Pointer] * 3, SCALE, Int32]),
    "correct_rows": (None, [BATCH, Pointer, SCALE, Int32]),
    "add_counts": (Int, [Pointer, Int, Pointer, Pointer, Int, Pointer]),
    "move_counts": (None, [Pointer, Int, Pointer, Int]),
    "counts_of": (None, [Pointer, Int, Pointer, Int, Pointer]),
}


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
    """Raises an OSError if the library is left over from another source than the one here."""
    kernels = ctypes.CDLL(str(path))
    kernels.source_hash.restype = ctypes.c_char_p
    source = path.with_name("_kernels.cpp").read_bytes()
    if kernels.source_hash().decode() != hashlib.sha256(source).hexdigest():
        raise OSError("built from another version of _kernels.cpp")
    for name, (returns, takes) in SIGNATURES.items():
        function = getattr(kernels, name)
        function.restype, function.argtypes = returns, takes
    return kernels


def call(name: str, *arguments: Any) -> Any:
    """Calls a kernel, with the addresses of tensors."""
    function = getattr(library(), name)
    return function(*(one.data_ptr() if isinstance(one, Tensor) else one for one in arguments))


def usable(table: Tensor, values: Tensor) -> bool:
    """Checks if the kernels support a table: contiguous float32 on a CPU, fewer than 2^31 ids."""
    return (
        table.device.type == "cpu"
        and table.dtype == values.dtype == torch.float32
        and table.is_contiguous()
        and max(len(table), len(values)) < 2**31
        and library() is not None
    )


def touched_rows(ids: Tensor, values: Tensor, n_rows: int) -> eager.TouchedRows | None:
    """Finds the rows of a batch by a radix sort, for `update_rows`; None if an id is no row."""
    n, ids = len(ids), ids.contiguous()
    rows, start = int64s(n), int64s(n + 1)
    occurrences, order = int32s(n), int32s(n)
    k = call("touched_rows", ids, n, n_rows, rows, occurrences, start, order)
    if k < 0:
        return None
    found, counts, values = rows[:k], occurrences[:k], values.contiguous()
    return eager.TouchedRows(found, counts, values, start=start[: k + 1], order=order)


def distinct_rows(ids: Tensor, n_rows: int) -> tuple[Tensor, Tensor] | None:
    """Returns the rows in `ids` and how often each is there, (k,); None if an id is no row."""
    n, ids = len(ids), ids.contiguous()
    rows, occurrences = int64s(n), int32s(n)
    k = call("distinct_rows", ids, n, n_rows, rows, occurrences)
    return None if k < 0 else (rows[:k], occurrences[:k])


def sum_rows(touched: eager.TouchedRows) -> Tensor:
    """Does what `eager.TouchedRows.gradient` does."""
    sums = float32s(len(touched.rows), touched.values.shape[1])
    call("sum_rows", _batch(touched), sums, torch.get_num_threads())
    return sums


def update_rows(
    group: dict, table: Tensor, state: dict[str, Tensor], touched: eager.TouchedRows
) -> None:
    """Does what `eager.update_rows` does, in one sweep over the rows."""
    rule, step = group["rule"], int(state["step"])
    batch = _with_decay(_batch(touched), group, state, step)
    (beta1, beta2), eps = group["betas"], group["eps"]
    correction1, correction2 = 1 - beta1**step, 1 - beta2**step
    corrected = eps * correction1, correction1 / math.sqrt(correction2)
    options = Step(float(group["lr"]), eps, 1 - beta1, beta2, 1 - beta2, *corrected)
    one, two = (*(state[name] for name in RULES[rule].state_shapes(*table.shape)), None, None)[:2]
    batch.stride = 0 if one is None else one.stride(0)
    scale, threads, place = _scale(group, state), torch.get_num_threads(), list(RULES).index(rule)
    call("update_rows", place, batch, table, one, two, options, scale, threads)
    torch.autograd.graph.increment_version(table)  # as an in-place operation of torch does


def keep_rows(
    group: dict, table: Tensor, state: dict[str, Tensor], rows: Tensor, occurrences: Tensor
) -> eager.Kept:
    """Does what `eager.keep_rows` does, in one sweep over the rows."""
    old, counted = float32s(len(rows), table.shape[1]), int32s(len(rows))
    occurrences = occurrences.int()
    batch = Batch(rows.data_ptr(), occurrences.data_ptr(), k=len(rows), dim=table.shape[1])
    scale, threads = _scale(group, state), torch.get_num_threads()
    call("keep_rows", batch, table, old, counted, scale, threads)
    return rows, old, counted


def correct_rows(
    group: dict, table: Tensor, state: dict[str, Tensor], kept: eager.Kept, step: int
) -> None:
    """Does what `eager.correct_rows` does, in one sweep over the rows."""
    rows, old, counted = kept
    batch = Batch(rows.data_ptr(), counted.data_ptr(), values=old.data_ptr())
    batch.k, batch.dim = old.shape
    batch, scale = _with_decay(batch, group, state, step), _scale(group, state)
    call("correct_rows", batch, table, scale, torch.get_num_threads())
    torch.autograd.graph.increment_version(table)


def _batch(touched: eager.TouchedRows) -> Batch:
    assert touched.start is not None and touched.order is not None
    arrays = touched.rows, touched.occurrences, touched.start, touched.order, touched.values
    return Batch(*(one.data_ptr() for one in arrays), len(touched.rows), touched.values.shape[1])


def _with_decay(batch: Batch, group: dict, state: dict[str, Tensor], step: int) -> Batch:
    batch.share, batch.step = eager.kept_by_decay(group), step
    if group["row_decay"] is not None:
        batch.last_step, batch.alpha = state["last_step"].data_ptr(), group["row_decay"].alpha
    return batch


def _scale(group: dict[str, Any], state: dict[str, Tensor]) -> Scale:
    lr: FrequencyAdaptiveLR | None = group["row_lr"]
    if lr is None:
        return Scale()
    count, largest = state["count"], state["max_count"].data_ptr()
    counts = count.data_ptr(), count.stride(0), largest, lr.count == "steps"
    kind, gap = SCALES.index(lr.scale), lr.gap_decay ** group["epoch"]
    return Scale(*counts, kind, lr.threshold, lr.exponent, lr.reduced, gap)

"""The rows of a batch, and their update in PyTorch operations, on any device and for any dtype."""

from dataclasses import dataclass

import torch
from torch import Tensor

from multiepoch.optim.fal import FrequencyAdaptiveLR
from multiepoch.optim.rules import RULES

Kept = tuple[Tensor, Tensor, Tensor]  # k rows, old weights (k, dim), FAL's counts (k,)
_FULL = torch.iinfo(torch.int32).max


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
    start: Tensor | None = None  # int64 (k + 1,)
    order: Tensor | None = None  # int32 (n,)

    def gradient(self) -> Tensor:
        """Returns the summed gradient of each row, (k, dim), in at least float32."""
        assert self.slot is not None
        values = self.values.to(at_least_float32(self.values.dtype))
        total = values.new_zeros(len(self.rows), values.shape[1]).index_add_(0, self.slot, values)
        if len(self.rows) < len(values):
            return total
        return torch.where(self.occurrences[:, None] == 0, total[0], total)


def touched_rows(ids: Tensor, values: Tensor, padded: bool) -> TouchedRows:
    """Finds the rows of a batch of at least one lookup by sorting; they ascend.

    If padded, k = n for any ids, so that the host need not wait for a GPU to count the rows. The
    slots after the last distinct row are copies of slot 0: they write the same values once more,
    but have 0 occurrences, so that counts stay right.
    """
    ids, order = ids.sort(stable=True)
    head = torch.ones_like(ids)
    head[1:] = ids[1:] != ids[:-1]
    sorted_slot = head.cumsum(0) - 1
    k = len(ids) if padded else int(sorted_slot[-1]) + 1
    rows = ids[:1].repeat(k).scatter_(0, sorted_slot, ids)
    occurrences = torch.zeros_like(rows, dtype=torch.int32)
    occurrences.index_add_(0, sorted_slot, torch.ones_like(ids, dtype=torch.int32))
    slot = torch.empty_like(ids).scatter_(0, order, sorted_slot)
    return TouchedRows(rows, occurrences, values, slot)


def count_rows(
    row_lr: FrequencyAdaptiveLR, state: dict[str, Tensor], rows: Tensor, occurrences: Tensor
) -> Tensor:
    """Adds the batch to FAL's counts, and returns those of its rows, int32 (k,)."""
    count, max_count, seen = state["count"], state["max_count"], occurrences.int()
    seen = seen if row_lr.count == "occurrences" else (seen > 0).int()
    # Counts saturate: one that overflowed would be negative, and its factor NaN.
    seen = torch.minimum(seen, _FULL - count.index_select(0, rows))
    count.index_add_(0, rows, seen)
    # Counts only grow, so a running maximum saves reading the whole table.
    counted = count.index_select(0, rows)
    torch.maximum(max_count, counted.max(), out=max_count)
    return counted


def update_rows(group: dict, table: Tensor, state: dict[str, Tensor], touched: TouchedRows) -> None:
    """Gathers the touched rows, updates them by the group's options, and writes them back::

        w <- keep * w - lr * factor * direction

    The decays give keep, the rule gives direction, and FAL gives factor after it counts the batch.
    """
    rule, rows = RULES[group["rule"]], touched.rows
    step = int(state["step"])  # on the CPU, so this does not wait for a GPU
    gathered = {name: state[name].index_select(0, rows) for name in rule.state_shapes(*table.shape)}
    direction = rule.update(touched.gradient(), gathered, step, group["betas"], group["eps"])
    weight, lr = table.index_select(0, rows).to(direction.dtype), float(group["lr"])
    if (keep := _kept(group, state, rows, step, weight.dtype)) is not None:
        weight.mul_(keep)
    if group["row_lr"] is None:
        weight.add_(direction, alpha=-lr)
    else:
        counted = count_rows(group["row_lr"], state, rows, touched.occurrences)
        weight.addcmul_(direction, _factor(group, state, counted, weight.dtype), value=-lr)
    table.index_copy_(0, rows, weight.to(table.dtype))
    for name, values in gathered.items():
        state[name].index_copy_(0, rows, values)


def _factor(group: dict, state: dict[str, Tensor], counted: Tensor, dtype: torch.dtype) -> Tensor:
    """Returns FAL's factor of each row, (k, 1)."""
    return group["row_lr"].factor(counted, state["max_count"], group["epoch"], dtype)[:, None]


def kept_by_decay(group: dict) -> float:
    """Returns what decoupled weight decay keeps of a row in a step (Loshchilov and Hutter 2019)."""
    return 1 - float(group["lr"]) * decay if (decay := group.get("weight_decay")) else 1.0


def _kept(
    group: dict, state: dict[str, Tensor], rows: Tensor, step: int, dtype: torch.dtype
) -> Tensor | float | None:
    """Returns what both decays keep of each row, (k, 1) or a number; None if they keep all.

    Notes for AdamAR that the rows are trained in this step.
    """
    share = kept_by_decay(group)
    if group["row_decay"] is None:
        return None if share == 1.0 else share
    keep = group["row_decay"].keep(state["last_step"][rows], step, dtype)
    state["last_step"].index_fill_(0, rows, step)
    return keep.mul_(share)[:, None]


def keep_rows(
    group: dict, table: Tensor, state: dict[str, Tensor], rows: Tensor, occurrences: Tensor
) -> Kept:
    """Counts distinct rows that another optimizer is about to move, and copies their weights.

    `group` and `state` have what FAL, AdamAR and weight decay need of an `EmbeddingOptimizer`'s.
    """
    counted = occurrences
    if group["row_lr"] is not None and len(rows) > 0:
        counted = count_rows(group["row_lr"], state, rows, occurrences)
    return rows, table.index_select(0, rows), counted


def correct_rows(
    group: dict, table: Tensor, state: dict[str, Tensor], kept: Kept, step: int
) -> None:
    """Applies FAL, AdamAR and weight decay to rows that another optimizer has moved::

        w <- keep * old + factor * (w - old)

    `step` is the number of this step, counted from 1; the other arguments are as for `keep_rows`.
    """
    rows, before, counted = kept
    dtype = at_least_float32(table.dtype)
    old = before.to(dtype)
    moved = table.index_select(0, rows).to(dtype).sub_(old)
    if group["row_lr"] is not None:
        moved.mul_(_factor(group, state, counted, dtype))
    if (keep := _kept(group, state, rows, step, dtype)) is not None:
        old = old * keep
    table.index_copy_(0, rows, moved.add_(old).to(table.dtype))

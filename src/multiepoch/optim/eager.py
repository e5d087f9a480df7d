"""The update of a batch's rows in PyTorch operations, on any device and for any dtype."""

import torch
from torch import Tensor

from multiepoch.optim.batch import TouchedRows, at_least_float32
from multiepoch.optim.fal import FrequencyAdaptiveLR
from multiepoch.optim.rules import RULES

Kept = tuple[Tensor, Tensor, Tensor]  # k rows, old weights (k, dim), FAL's counts (k,)
_FULL = torch.iinfo(torch.int32).max


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

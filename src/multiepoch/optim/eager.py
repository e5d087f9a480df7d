"""The update of a batch's rows in PyTorch operations, on any device and for any dtype."""

from __future__ import annotations

import torch
from torch import Tensor

from multiepoch.optim.batch import TouchedRows
from multiepoch.optim.rules import RULES

_FULL = torch.iinfo(torch.int32).max


def frequency_factor(group: dict, state: dict[str, Tensor], touched: TouchedRows) -> Tensor:
    """Adds the batch to FAL's counts, then returns FAL's factor for its rows, float32 (k,)."""
    row_lr, count, max_count = group["row_lr"], state["count"], state["max_count"]
    seen = touched.occurrences.int()
    seen = seen if row_lr.count == "occurrences" else (seen > 0).int()
    # Counts saturate: one that overflowed would be negative, and its factor NaN.
    seen = torch.minimum(seen, _FULL - count.index_select(0, touched.rows))
    count.index_add_(0, touched.rows, seen)
    # Counts only grow, so a running maximum saves reading the whole table.
    counted = count.index_select(0, touched.rows)
    torch.maximum(max_count, counted.max(), out=max_count)
    return row_lr.factor(counted, max_count, group["epoch"])


def update_rows(group: dict, table: Tensor, state: dict[str, Tensor], touched: TouchedRows) -> None:
    """Gathers the touched rows, updates them by the group's options, and writes them back::

        w <- keep * w - lr * factor * direction

    AdamAR gives keep, the rule gives direction, and FAL gives factor after it counts the batch.
    """
    rule, rows = RULES[group["rule"]], touched.rows
    step = int(state["step"])  # on the CPU, so this does not wait for a GPU
    gathered = {name: state[name].index_select(0, rows) for name in rule.state_shapes(*table.shape)}
    direction = rule.update(touched.gradient(), gathered, step, group["betas"], group["eps"])
    weight = table.index_select(0, rows).to(direction.dtype)
    lr = float(group["lr"])
    if group["row_decay"] is not None:
        weight.mul_(group["row_decay"].keep(state["last_step"][rows], step)[:, None])
        state["last_step"].index_fill_(0, rows, step)
    if group["row_lr"] is None:
        weight.add_(direction, alpha=-lr)
    else:
        factor = frequency_factor(group, state, touched)
        weight.addcmul_(direction, factor[:, None].to(direction.dtype), value=-lr)
    table.index_copy_(0, rows, weight.to(table.dtype))
    for name, values in gathered.items():
        state[name].index_copy_(0, rows, values)

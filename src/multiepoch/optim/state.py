"""The state of one table: its tensors, before the first step and after the table has grown."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from multiepoch.optim.adamar import AdaptiveRegularization
from multiepoch.optim.batch import at_least_float32
from multiepoch.optim.fal import FrequencyAdaptiveLR
from multiepoch.optim.memory import use_huge_pages
from multiepoch.optim.rules import RULES

ROW_OPTIONS = {"row_lr": FrequencyAdaptiveLR, "row_decay": AdaptiveRegularization}


def state_layout(group: dict[str, Any], param: Tensor) -> dict[str, tuple]:
    """Returns shape, dtype and device of each state tensor of a table."""
    n_rows, device, dtype = len(param), param.device, at_least_float32(param.dtype)
    layout: dict[str, tuple] = {"step": ((), torch.int64, torch.device("cpu"))}
    for name, shape in RULES[group["rule"]].state_shapes(*param.shape).items():
        layout[name] = (shape, dtype, device)
    if group["row_lr"] is not None:
        layout["count"] = ((n_rows,), torch.int32, device)
        layout["max_count"] = ((), torch.int32, device)
    if group["row_decay"] is not None:
        layout["last_step"] = ((n_rows,), torch.int32, device)
    return layout


def fill(state: dict[str, Tensor], layout: dict[str, tuple]) -> dict[str, Tensor]:
    """Adds the tensors that are missing; they start at 0."""
    for name, (shape, dtype, device) in layout.items():
        if name not in state:
            state[name] = use_huge_pages(torch.empty(shape, dtype=dtype, device=device)).zero_()
    return state


def unpack(group: dict[str, Any]) -> dict[str, Any]:
    """Turns the plain values that `state_dict` wrote back into objects, in place."""
    for key, kind in ROW_OPTIONS.items():
        if isinstance(group.get(key), dict):
            group[key] = kind(**group[key])
    return group


def appended(values: Tensor, more: Tensor) -> Tensor:
    grown = use_huge_pages(values.new_empty(len(values) + len(more), *values.shape[1:]))
    return torch.cat([values, more], out=grown)

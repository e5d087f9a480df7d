"""The state of one table: its tensors, before the first step and after the table has grown."""

from typing import Any

import torch
from torch import Tensor

from multiepoch.optim.adamar import AdaptiveRegularization
from multiepoch.optim.batch import at_least_float32
from multiepoch.optim.fal import FrequencyAdaptiveLR
from multiepoch.optim.memory import zeros
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
    """Adds the tensors that are missing; they start at 0.

    Row-wise Adagrad's sum and FAL's count of a row lie side by side, so that a step that reads one
    has read the other. Beside a state with a number for each weight, the count would save nothing.
    """
    missing = {name: its for name, its in layout.items() if name not in state}
    if {"sum", "count"} <= missing.keys():
        (shape, dtype, device), of_count = missing["sum"], missing["count"][0]
        if shape == of_count and dtype == torch.float32:
            pairs = zeros((*shape, 2), dtype, device)
            state["sum"], state["count"] = pairs[:, 0], pairs.view(torch.int32)[:, 1]
    for name, its in missing.items():
        if name not in state:
            state[name] = zeros(*its)
    return state


def apart(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copies what lies side by side, since torch.save refuses one memory with two dtypes."""
    return {name: value.contiguous() for name, value in state.items()}


def copied(state: dict[str, Tensor], layout: dict[str, tuple]) -> dict[str, Tensor]:
    """Returns a copy with the shapes of a layout, which may have more rows; these are 0."""
    copy = fill({}, {name: its for name, its in layout.items() if name in state})
    for name, value in copy.items():
        (value[: len(state[name])] if value.dim() else value).copy_(state[name])
    return copy


def unpack(group: dict[str, Any]) -> dict[str, Any]:
    """Turns the plain values that `state_dict` wrote back into objects, in place."""
    for key, kind in ROW_OPTIONS.items():
        if isinstance(group.get(key), dict):
            group[key] = kind(**group[key])
    return group

"""What `EmbeddingOptimizer` refuses, in one sentence each, before anything changes."""

import math
from numbers import Real
from typing import Any

from torch import Tensor

from multiepoch.optim.adamar import AdaptiveRegularization
from multiepoch.optim.fal import FrequencyAdaptiveLR
from multiepoch.optim.rules import RULES

NUMBERS = ("lr", "eps", "weight_decay", "initial_accumulator_value")
ROW_OPTIONS = {"row_lr": FrequencyAdaptiveLR, "row_decay": AdaptiveRegularization}


def described(tensor: Tensor) -> str:
    return f"{tensor.dtype} of shape {tuple(tensor.shape)} on {tensor.device}"


def table_name(group: dict[str, Any], index: int) -> str:
    """Names a table in errors."""
    names = group.get("param_names")
    return f"table {names[index]!r}" if names else f"table {index} of its group"


def check_options(group: dict[str, Any]) -> dict[str, Any]:
    """Returns the numbers of a group as Python's own, which every torch.load takes."""

    def require(holds: bool, name: str, what: str) -> None:
        if not holds:
            raise ValueError(f"EmbeddingOptimizer: {name}={group[name]!r} must be {what}.")

    def number(value: Any) -> bool:
        return isinstance(value, Real) and math.isfinite(value)

    require(group["rule"] in list(RULES), "rule", f"one of {', '.join(map(repr, RULES))}")
    numbers = {name: group[name] for name in NUMBERS}
    for name, value in numbers.items():
        if isinstance(value, Tensor):
            require(
                name == "lr" and value.numel() == 1, name, "a number; lr may be a tensor of one"
            )
            value = value.item()
        require(number(value) and value >= 0, name, "a non-negative number")
    name = "initial_accumulator_value"
    has_sum = "sum" in RULES[group["rule"]].state_shapes(0, 0)
    lacks = (
        f"0, since rule {group['rule']!r} has no accumulator: use 'rowwise_adagrad' or 'adagrad'"
    )
    require(has_sum or group[name] == 0, name, lacks)
    inside = all(number(beta) and 0 <= beta < 1 for beta in group["betas"])
    require(inside and len(group["betas"]) == 2, "betas", "two numbers in [0, 1)")
    for name, kind in ROW_OPTIONS.items():
        holds = group[name] is None or isinstance(group[name], kind)
        require(holds, name, f"None or a multiepoch {kind.__name__}")
    own = {name: float(value) for name, value in numbers.items() if not isinstance(value, Tensor)}
    return own | {"betas": tuple(map(float, group["betas"]))}


def check_table(table: Tensor, name: str) -> None:
    if hasattr(table, "full_tensor"):  # a DTensor, whose gradient cannot be sparse
        call = "call fully_shard(..., ignored_params=set(tables.parameters()))"
        remedy = f"{call}, and wrap the tables in DistributedDataParallel"
        wrong = "is sharded, and FSDP2 cannot shard sparse gradients"
        raise TypeError(f"EmbeddingOptimizer: {name} {wrong}; {remedy}.")
    if not table.is_floating_point() or table.dim() != 2:
        wanted = "it must be a matrix of floating-point numbers with one row per id"
        raise TypeError(f"EmbeddingOptimizer: {name} is {described(table)}; {wanted}.")


def check_state(state: dict[str, Tensor], param: Tensor, name: str, layout: dict) -> None:
    """Refuses a table that no longer fits its state, which a kernel would write past."""
    for key, wanted in layout.items():
        value = state.get(key)
        if key == "step" or value is None:  # other code may move the step to a GPU
            continue
        paired = key in ("sum", "count") and value.dim() == 1
        if not paired and not value.is_contiguous():  # as the kernels expect
            state[key] = value.contiguous()
        if (value.shape, value.dtype, value.device) != wanted[:3]:
            both = f"{name} is now {described(param)}, but its {key} is {described(value)}"
            rows = "append rows with optimizer.grow_table, or " if value.shape != wanted[0] else ""
            remedy = f"{rows}build a new optimizer after a table has changed"
            raise RuntimeError(f"EmbeddingOptimizer: {both}; {remedy}.")


def check_gradient(param: Tensor, grad: Tensor, name: str, counts: bool) -> None:
    if (grad.shape, grad.dtype) != (param.shape, param.dtype):  # possible if `.data` was assigned
        both = f"{name} is {described(param)}, but its gradient is {described(grad)}"
        remedy = "clear the gradients after changing a table"
        raise RuntimeError(f"EmbeddingOptimizer: {both}; {remedy}.")
    if not grad.is_sparse:
        raise RuntimeError(
            f"EmbeddingOptimizer: {name} has a dense gradient; create its nn.Embedding or "
            "nn.EmbeddingBag with sparse=True, or call make_sparse(model). If it is sparse, the "
            "loss also uses the whole table, as in an L2 penalty: use weight_decay or row_decay."
        )
    if (found := grad.sparse_dim()) != 1:
        wrong = f"has {found} sparse dimensions; it must have one, the row"
        raise RuntimeError(f"EmbeddingOptimizer: the gradient of {name} {wrong}.")
    if counts and grad._nnz() > 1 and grad.is_coalesced():
        wrong = "has each row once, so that lookups cannot be counted"
        remedy = "do not coalesce it, and give DistributedDataParallel the hook gather_lookups"
        raise RuntimeError(f"EmbeddingOptimizer: the gradient of {name} {wrong}: {remedy}.")

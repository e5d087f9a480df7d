"""Sparse gradients for the tables of a model that someone else wrote."""

from __future__ import annotations

import warnings

from torch import nn


def make_sparse(model: nn.Module, min_rows: int = 10_000) -> dict[str, tuple[int, int]]:
    """Gives every large `nn.Embedding` and `nn.EmbeddingBag` of a model a sparse gradient.

    The parameters stay the same objects. Call it before the optimizer is built. For a small table
    a dense gradient is as fast, and works with any optimizer.

    Args:
        model: The module; it is changed in place.
        min_rows: Tables with fewer rows stay as they are.

    Returns:
        The tables that were changed: the name of each parameter, and its (rows, dim).

    Warns:
        UserWarning: If a large table must keep its dense gradient; it says which and why.
    """
    users: dict[int, list[tuple[str, nn.Module]]] = {}
    for prefix, module in model.named_modules():
        for parameter in module.parameters(recurse=False):
            users.setdefault(id(parameter), []).append((prefix or type(module).__name__, module))
    changed = {}
    for name, parameter in model.named_parameters():
        everyone = [module for _, module in users[id(parameter)]]
        tables = [one for one in everyone if isinstance(one, nn.Embedding | nn.EmbeddingBag)]
        if not tables or len(parameter) < min_rows or all(table.sparse for table in tables):
            continue
        rows, dim = parameter.shape
        reasons = [why for user, module in users[id(parameter)] if (why := _obstacle(user, module))]
        if reasons:
            which = f"make_sparse: {name} ({rows:,} x {dim})"
            text = f"{which} keeps its dense gradient, since {'; '.join(reasons)}"
            warnings.warn(text, stacklevel=2)
            continue
        for table in tables:
            table.sparse = True
        changed[name] = (rows, dim)
    return changed


def _obstacle(name: str, module: nn.Module) -> str:
    """Says why torch gives no sparse gradient to the weight of a module; "" if it does."""
    if not isinstance(module, nn.Embedding | nn.EmbeddingBag):
        return f"{name} uses it, too, and is no embedding"
    if module.scale_grad_by_freq:
        return f"{name} has scale_grad_by_freq=True"
    return f"{name} has mode='max'" if getattr(module, "mode", "") == "max" else ""

"""The parameters of a model, the modules that use them, and sparse gradients for its tables."""

import warnings
from dataclasses import dataclass, field
from itertools import starmap

from torch import nn


@dataclass
class Part:
    """A parameter of the model and the modules that use it; `tables` are those that embed."""

    parameter: nn.Parameter
    name: str
    users: dict[str, nn.Module] = field(default_factory=dict)
    sparse_in: list[str] = field(default_factory=list)
    dense_in: list[str] = field(default_factory=list)
    tables: list[nn.Embedding | nn.EmbeddingBag] = field(default_factory=list)

    @property
    def shape(self) -> str:
        return " x ".join(f"{n:,}" for n in self.parameter.shape)


def parts_of(model: nn.Module) -> list[Part]:
    """Lists every parameter of the model once, in the order of its modules."""
    parts: dict[int, Part] = {}
    for prefix, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            full, user = f"{prefix}.{name}" if prefix else name, prefix or type(module).__name__
            part = parts.setdefault(id(parameter), Part(parameter, full))
            part.users[user], sparse = module, False
            if isinstance(module, nn.Embedding | nn.EmbeddingBag):
                part.tables.append(module)
                sparse = name == "weight" and module.sparse
            (part.sparse_in if sparse else part.dense_in).append(user)
    return list(parts.values())


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
    changed = {}
    for part in parts_of(model):
        table = part.parameter
        if not part.tables or len(table) < min_rows or all(one.sparse for one in part.tables):
            continue
        if why := "; ".join(filter(None, starmap(_obstacle, part.users.items()))):
            which = f"make_sparse: {part.name} ({part.shape})"
            warnings.warn(f"{which} keeps its dense gradient, since {why}", stacklevel=2)
            continue
        for module in part.tables:
            module.sparse = True
        changed[part.name] = len(table), table.shape[1]
    return changed


def _obstacle(name: str, module: nn.Module) -> str:
    """Says why torch gives no sparse gradient to the weight of a module; "" if it does."""
    if not isinstance(module, nn.Embedding | nn.EmbeddingBag):
        return f"{name} uses it, too, and is no embedding"
    if module.scale_grad_by_freq:
        return f"{name} has scale_grad_by_freq=True"
    return f"{name} has mode='max'" if getattr(module, "mode", "") == "max" else ""

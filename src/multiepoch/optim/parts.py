"""The parameters of a model, and the modules that use them."""

from dataclasses import dataclass, field

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

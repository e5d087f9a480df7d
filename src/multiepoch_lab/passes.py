"""What the forward and backward passes of a model look up in its tables, for `LeaveOneOutRows`."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from multiepoch.remedies.tables import Tables, named


@dataclass
class Module:
    """A module that looks up a table, and where its votes are in a record."""

    name: str
    module: nn.Embedding | nn.EmbeddingBag
    k: int  # the position of its table
    slots: int  # the most ids of one impression that it looks up
    first: int = 0  # byte of its votes in a record

    def lookups(
        self, args: tuple, kwargs: dict, order: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        """Returns what m lookups read in a call of the module by n impressions, and where.

        That is the id of each and its impression, int64 (m,), one of `order`, 0 to n - 1; its place
        among the impression's ids, int64 (m,), or None for one lookup each; and its share of what
        the module returns, float32 (m,), or None for 1.
        """
        given = dict(zip(("input", "offsets", "per_sample_weights"), args)) | kwargs
        ids, offsets, n = given["input"], given.get("offsets"), len(order)
        if given.get("per_sample_weights") is not None:
            raise ValueError(f"{self.name} gets per_sample_weights, which LeaveOneOutRows lacks")
        if offsets is not None and not self.module.include_last_offset:
            offsets = torch.cat([offsets, offsets.new_tensor([len(ids)])])
        found = len(ids) if offsets is None else len(offsets) - 1
        if found != n or ids.dim() > 2:
            got = f"{self.name} gets ids of shape {tuple(ids.shape)} for {found} impressions"
            needed = f"those of the {n} of the batch, (n,) or (n, k), in its order"
            raise ValueError(f"{got}: LeaveOneOutRows needs {needed}")
        who, slot, share = order, None, None
        if offsets is not None:
            who = order.repeat_interleave(offsets.diff())
            slot = torch.arange(len(ids), device=ids.device) - offsets[who]
        elif ids.dim() == 2:
            who = order.repeat_interleave(ids.shape[1])
            slot = torch.arange(ids.shape[1], device=ids.device).repeat(n)
        ids, padding = ids.reshape(-1).long(), self.module.padding_idx
        if getattr(self.module, "mode", "sum") == "mean":
            real = torch.ones_like(ids) if padding is None else (ids != padding).long()
            counted = torch.zeros_like(order).index_add_(0, who, real)
            share = 1 / counted.clamp(min=1)[who].float()
        return ids, who, slot, share


@dataclass
class Call:
    """One call of a module in a pass: m lookups, and what they read."""

    module: Module
    ids: Tensor  # int64 (m,)
    at: Tensor  # int64 (m,), the first byte of each vote in the flat records
    place: Tensor | None  # int64 (m,), the row of `read` of each; None for a row each
    share: Tensor | None  # float32 (m,), of each in that row; None for 1
    read: Tensor  # (..., dim)

    def gradients(self) -> tuple[Tensor, Tensor, Tensor]:
        """Returns ids, places of votes, and gradients, (m, dim), of all but padding."""
        assert self.read.grad is not None
        values = self.read.grad.reshape(-1, self.read.shape[-1])
        values = values if self.place is None else values[self.place]
        values = values if self.share is None else values * self.share[:, None]
        if (padding := self.module.module.padding_idx) is None:
            return self.ids, self.at, values
        real = self.ids != padding
        return self.ids[real], self.at[real], values[real]


@dataclass
class Pass:
    """One forward and backward pass over n impressions."""

    records: Tensor  # their votes, uint8 (n, width)
    given: Tensor  # to `LeaveOneOutRows.backward`
    order: Tensor  # 0 to n - 1
    used: dict[str, int] = field(default_factory=dict)  # ids of an impression so far, by module
    calls: list[Call] = field(default_factory=list)


def modules_of(tables: Tables, lookups: Mapping[str, int]) -> list[Module]:
    """Returns the modules that look the tables up; `lookups` as for `LeaveOneOutRows`."""
    found = []
    name_of = {module: name for name, module in tables.model.named_modules()}
    for k, (table, part) in enumerate(zip(tables, tables.parts)):
        if len(part.tables) < len(part.users):
            kinds = ", ".join(type(module).__name__ for module in part.users.values())
            must = "it must be that of nn.Embedding or nn.EmbeddingBag modules alone"
            raise ValueError(f"{named(k, table)} is the weight of {kinds}: {must}")
        if table.dtype != torch.float32:
            raise ValueError(f"{named(k, table)} is {table.dtype}, and must be torch.float32")
        for module in part.tables:
            name = name_of[module]
            if module.max_norm is not None or getattr(module, "mode", "sum") == "max":
                raise ValueError(f"{name} has max_norm or mode='max', which LeaveOneOutRows lacks")
            slots = lookups.get(name, 1)
            if not isinstance(slots, int) or slots < 1:
                raise ValueError(f"lookups[{name!r}]={slots!r} must be a whole number, 1 or more")
            found.append(Module(name, module, k, slots))
    if unknown := lookups.keys() - {one.name for one in found}:
        names = ", ".join(one.name for one in found)
        raise ValueError(f"lookups has {sorted(unknown)}, and the modules are {names}")
    return found

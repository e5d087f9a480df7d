"""The tables of an embedding optimizer as the remedies see them: values by row, and fresh draws."""

import hashlib
import math
from collections.abc import Callable, Iterator
from functools import cached_property
from itertools import chain
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from multiepoch.optim.embedding import EmbeddingOptimizer, RowHook
from multiepoch.optim.lookups import accumulate_lookups
from multiepoch.optim.parts import Part, parts_of
from multiepoch.optim.sparse import SparseOptimizer
from multiepoch.optim.state import bare

Init = Callable[[Tensor], Any]


def check_same(saved: dict[str, Any], here: dict[str, Any], kind: str, this: str) -> None:
    """Raises a ValueError if an argument in a saved state differs from the one here."""
    for name, value in here.items():
        if name not in saved:
            raise ValueError(f"this is no state of {kind}: it has no {name!r}")
        if saved[name] != value:
            found = f"the state is of {kind} with {name}={saved[name]!r}, {this} {value!r}"
            raise ValueError(f"{found}: create it with the saved arguments")


def check_not_grown(table: Tensor, n_rows: int, remedy: str) -> None:
    """Raises a RuntimeError if a table no longer has the rows that a remedy has kept."""
    if len(table) != n_rows:
        grown = f"a table of {n_rows} rows has grown to shape {tuple(table.shape)}"
        instead = "grow it before, or use tail_rewind, which does"
        raise RuntimeError(f"{grown}, and {remedy} takes no table that grows: {instead}")


def check_fits(what: str, rows: Tensor, values: Tensor | None, table: Tensor) -> None:
    """Raises a ValueError if saved rows, ascending, are of a table of another shape."""
    beyond = len(rows) > 0 and int(rows[-1]) >= len(table)
    if beyond or (values is not None and values.shape[1:] != table.shape[1:]):
        found = f"{what} in the state are of a table of another shape than {tuple(table.shape)}"
        raise ValueError(f"{found}: load the state of a table of the same shape")


def unwrapped(optimizer: Any) -> Any:
    """Returns the optimizer that Accelerate and Lightning wrap and keep in `.optimizer`."""
    while hasattr(optimizer, "optimizer"):
        optimizer = optimizer.optimizer
    return optimizer


class Tables:
    """Iterates over the tables of an optimizer, and redraws rows; arguments as for `Rewind`."""

    def __init__(self, model: nn.Module, optimizer: Any, seed: int, init: Init | None) -> None:
        optimizer = unwrapped(optimizer)
        embedding = optimizer.embedding if isinstance(optimizer, SparseOptimizer) else optimizer
        if not isinstance(embedding, EmbeddingOptimizer):
            kind = type(optimizer).__name__
            raise TypeError(f"optimizer is {kind}, not an EmbeddingOptimizer or a SparseOptimizer")
        self.model, self.seed, self.optimizer = model, seed, embedding
        self._n = sum(len(group["params"]) for group in embedding.param_groups)
        of_model = {id(parameter) for parameter in model.parameters()}
        for k, table in enumerate(self):
            if id(table) not in of_model:
                wrong = "is not a parameter of the model: build the optimizer from this model"
                raise ValueError(f"{named(k, table)} {wrong}")
        # A wrapper for distributed training has the model, and its initialiser, a level below.
        own = (getattr(module, "init_table_", None) for module in model.modules())
        self._init: Init | None = init or next(filter(None, own), None)
        self.moments = [] if self._init else [_moments(table) for table in self]

    def __iter__(self) -> Iterator[Tensor]:
        tables = [table for group in self.optimizer.param_groups for table in group["params"]]
        if len(tables) != self._n:
            had = f"and had {self._n} when this remedy was built"
            remedy = "build the remedy after all tables are added"
            raise RuntimeError(f"the optimizer has {len(tables)} tables, {had}: {remedy}")
        return iter(tables)

    @cached_property
    def parts(self) -> list[Part]:
        """Each table with the modules that use it."""
        parts = {id(part.parameter): part for part in parts_of(self.model)}
        return [parts.get(id(table), Part(cast(nn.Parameter, table), "")) for table in self]

    def names(self) -> list[str]:
        """Returns the name of each table in the model, without what a wrapper puts before it."""
        return [bare(part.name) for part in self.parts]

    def follow(self, hook: RowHook) -> RemovableHandle:
        """Calls a hook with the rows of each step and every lookup of them."""
        accumulate_lookups(self.optimizer, self.model)
        return self.optimizer.register_row_hook(hook)

    def place(self, table: Tensor) -> int:
        """Returns the position of a table among all tables."""
        return next(k for k, one in enumerate(self) if one is table)

    def values(self, table: Tensor) -> dict[str, Tensor]:
        """Returns everything that belongs to a row, live; the first dimension is the row."""
        return {"weight": table.detach(), **self.optimizer.row_state(table)}

    def step(self, table: Tensor) -> int:
        """Returns how many steps the optimizer has taken with a gradient for the table."""
        return int(self.optimizer.state.get(table, {}).get("step", 0))

    def is_frozen(self, table: Tensor) -> bool:
        """Says whether a table learns nothing at present, so that a reset would lose its rows."""
        return not table.requires_grad

    def others(self) -> list[Tensor]:
        """Returns the parameters and buffers that are no tables, as far as they can be averaged."""
        known = {id(table) for table in self}
        every = (
            p for p in chain(self.model.parameters(), self.model.buffers()) if id(p) not in known
        )
        # torch cannot interpolate integers and 8-bit numbers; they are frozen in a model.
        return [p for p in every if p.is_complex() or (p.is_floating_point() and p.itemsize > 1)]

    def check_moments(self) -> None:
        """Raises a ValueError if a table cannot be redrawn, since it is empty."""
        for k, (table, (mean, _)) in enumerate(zip(self, self.moments)):
            if math.isnan(mean):
                wrong = "is empty, so that a redraw has no mean: give init, or grow it first"
                raise ValueError(f"{named(k, table)} {wrong}")

    def redraw(self, table: Tensor, rows: Tensor | None, draw: int) -> None:
        """Gives `rows`, int64 (k,), new weights and a new row state; None for the whole table.

        The new weights depend on the seed, the position of the table and the number `draw`.
        """
        values, place = self.values(table), self.place(table)
        weight = values.pop("weight")
        # The padding row stays, if the modules that share the table, if any, agree on one.
        agreed = {module.padding_idx for module in self.parts[place].tables}
        padding = agreed.pop() if len(agreed) == 1 else None
        kept = None if padding is None else weight[padding].clone()
        if rows is None:
            self._draw(weight, place, draw)
        else:
            # The whole table, since an initialiser may look at its shape, and so that a row's
            # draw does not depend on the other rows.
            weight[rows] = self._draw(torch.empty_like(weight), place, draw)[rows]
        if kept is not None:
            weight[padding] = kept
        start = self.optimizer.options(table)["initial_accumulator_value"]
        clear_state(values, slice(None) if rows is None else rows, self.step(table), start)

    def _draw(self, weight: Tensor, place: int, draw: int) -> Tensor:
        seed = draw_seed(self.seed, place, draw)
        with torch.random.fork_rng(devices=[weight.device] if weight.is_cuda else []):
            torch.default_generator.manual_seed(seed)
            if weight.is_cuda:
                with torch.cuda.device(weight.device):
                    torch.cuda.manual_seed(seed)
            if self._init is not None:
                self._init(weight)
            else:
                weight.normal_(*self.moments[place])
        return weight


def clear_state(
    state: dict[str, Tensor], rows: Tensor | slice, step: int, start: float = 0.0
) -> None:
    """Puts the state of some rows back: accumulators to `start`, AdamAR's wait to this step."""
    for name, value in state.items():
        value[rows] = {"last_step": step, "sum": start}.get(name, 0)


def draw_seed(seed: int, place: int, draw: int) -> int:
    """Returns the seed of one draw of one table."""
    digest = hashlib.sha256(f"{seed} {place} {draw}".encode()).digest()
    return int.from_bytes(digest[:7], "little")


def _moments(table: Tensor) -> tuple[float, float]:
    """Returns the mean and the standard deviation of a table."""
    if table.numel() == 0:
        return math.nan, math.nan
    std, mean = torch.std_mean(table.detach(), correction=0)
    return mean.item(), std.item()


def named(k: int, table: Tensor) -> str:
    """Names table k of an optimizer in errors."""
    return f"table {k} of the optimizer, of shape {tuple(table.shape)},"


def embeddings(tables: Tables) -> list[nn.Embedding]:
    """Returns the `nn.Embedding` that looks each table up; ValueError unless there is just one."""
    found = []
    for k, (table, part) in enumerate(zip(tables, tables.parts)):
        users = [*part.users.values()]
        if len(users) != 1 or not isinstance(users[0], nn.Embedding):
            kinds = ", ".join(type(module).__name__ for module in users)
            must = "it must be that of one nn.Embedding"
            raise ValueError(f"{named(k, table)} is the weight of {kinds}: {must}")
        found.append(users[0])
    return found

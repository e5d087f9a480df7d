"""`SparseOptimizer`: the dense optimizer and the embedding optimizer as one.

The Sparse Optimizer of Qiu et al. (arXiv 2505.05605) gives the embedding tables a higher learning
rate than the dense layers. Here both rates live in the parameter groups of one torch optimizer, so
that a scheduler for one also schedules the other.
"""

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NoReturn, Self

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from multiepoch.optim.embedding import EmbeddingOptimizer
from multiepoch.optim.lookups import accumulate_lookups
from multiepoch.optim.parts import Part, parts_of
from multiepoch.optim.state import plain


class SparseOptimizer(Optimizer):
    """Steps, schedules and saves a dense optimizer and an `EmbeddingOptimizer` together.

    Its `param_groups` are the two optimizers' own groups, the dense ones first. A scheduler that
    multiplies each rate (`LambdaLR`, `LinearLR`, `CosineAnnealingLR` with eta_min=0, ...) keeps
    their ratio. One that takes an absolute rate gives it to every group, unless it is given a list;
    `step` warns if that has changed the ratio::

        rates = [group["lr"] for group in optimizer.param_groups]
        OneCycleLR(optimizer, max_lr=rates, total_steps=1000)

    Args:
        dense: Any torch optimizer whose `step` needs no closure.
        embedding: The optimizer of the tables.
        model: The module that both optimize, to check that no parameter is forgotten.

    Raises:
        ValueError: If a parameter that needs a gradient is in neither optimizer or in both, or if
            an optimizer holds a parameter of another model. The message names it.
    """

    def __init__(self, dense: Optimizer, embedding: EmbeddingOptimizer, model: nn.Module) -> None:
        if not isinstance(embedding, EmbeddingOptimizer):
            raise TypeError(f"embedding must be an EmbeddingOptimizer, not {type(embedding)}")
        if not isinstance(dense, Optimizer) or isinstance(dense, torch.optim.LBFGS):
            kind = type(dense).__name__
            raise TypeError(f"dense must be a torch optimizer that needs no closure, not {kind}")
        _check_each_in_one(parts_of(model), dense, embedding)
        # The two have groups and state of their own, so not Optimizer.__init__, which makes some.
        # A scheduler reads in the defaults whether it may move a momentum.
        self.dense, self.embedding, self.model = dense, embedding, model
        self.__setstate__({"defaults": dict(dense.defaults)})
        self.keep_ratio()

    @classmethod
    def from_model(
        cls,
        model: nn.Module,
        dense_lr: float,
        embedding_lr: float | Mapping[str, float],
        dense: Callable[..., Optimizer] = torch.optim.Adam,
        **embedding_options: Any,
    ) -> Self:
        """Sorts the parameters of `model` into tables and dense parameters, and optimizes both.

        A table is the weight of an `nn.Embedding` or `nn.EmbeddingBag` with `sparse=True`. Every
        other parameter that needs a gradient is dense. `print(optimizer)` shows the result.

        Args:
            model: The module to optimize.
            dense_lr: Learning rate of the dense parameters.
            embedding_lr: Learning rate of the tables; a number, or a mapping with one for each
                table, by the name of its parameter. `eps` and `initial_accumulator_value` likewise.
            dense: A torch optimizer class or a partial of one; called with `lr=dense_lr`.
            embedding_options: `rule`, `row_lr`, `row_decay` and other `EmbeddingOptimizer` options.

        Raises:
            ValueError: If the model has no table or no dense parameter, or if a module would give a
                table a dense gradient, or if a mapping by table has other names than the tables.
        """
        parts = parts_of(model)
        trained = [part for part in parts if part.parameter.requires_grad]
        tables = [part for part in trained if part.sparse_in]
        for part in tables:
            if part.dense_in:
                sparse, other = (" and ".join(one) for one in (part.sparse_in, part.dense_in))
                clash = f"is a sparse table in {sparse}, but {other} gives it a dense gradient"
                raise ValueError(f"{part.name} {clash}: use sparse=True in all of them or in none")
        if not tables:
            frozen = ", ".join(part.name for part in parts if part.sparse_in)
            if frozen:
                remedy = "train the rest by a dense optimizer, or unfreeze one by requires_grad_()"
                raise ValueError(f"all tables with sparse=True are frozen, {frozen}: {remedy}")
            lacks = "the model has no nn.Embedding or nn.EmbeddingBag with sparse=True"
            dense_ones = ", ".join(f"{part.name} ({part.shape})" for part in parts if part.tables)
            without = f"those without it are {dense_ones or 'none'}"
            raise ValueError(f"{lacks}; {without}: make_sparse(model) changes large ones")
        others = [part.parameter for part in trained if not part.sparse_in]
        if not others:
            raise ValueError("the model has no dense parameter: use EmbeddingOptimizer by itself")
        groups: list[dict[str, Any]] = [{"params": [(t.name, t.parameter)]} for t in tables]
        options = {"lr": embedding_lr, **embedding_options}
        _share_out(options, groups)
        return cls(dense(others, lr=dense_lr), EmbeddingOptimizer(groups, **options), model)

    @property  # type: ignore[override]
    def param_groups(self) -> tuple[dict[str, Any], ...]:
        """The groups of both optimizers, the dense ones first; a tuple, since each has its own."""
        return *self.dense.param_groups, *self.embedding.param_groups

    @property  # type: ignore[override]
    def state(self) -> Mapping[Tensor, Any]:
        """The states of both optimizers, live; to add or drop one, use that of `dense` or of
        `embedding`."""
        return MappingProxyType({**self.dense.state, **self.embedding.state})

    def add_param_group(self, param_group: dict[str, Any]) -> NoReturn:
        """Refuses, since it cannot know which of the two optimizers should have the group."""
        raise RuntimeError("add the group to optimizer.dense or to optimizer.embedding instead")

    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Steps both; first calls `closure`, if given, once and returns its value."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._check_ratio()
        # The tables first: their optimizer rejects a bad gradient before anything has changed.
        self.embedding.step()
        self.dense.step()
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clears the gradients of both."""
        self.dense.zero_grad(set_to_none)
        self.embedding.zero_grad(set_to_none)

    def grow_table(self, table: str | Tensor, new_rows: int | Tensor) -> None:
        """Appends rows to a table, its state and its modules; see `EmbeddingOptimizer`."""
        self.embedding.grow_table(table, new_rows)
        for module in self.model.modules():
            if isinstance(module, nn.Embedding | nn.EmbeddingBag):
                module.num_embeddings = len(module.weight)

    def state_dict(self) -> dict[str, Any]:
        """Returns torch's layout, as `torch.distributed.checkpoint` takes it; dense ones first."""
        return plain(super().state_dict())

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores a saved state, all of it or, if it does not fit, none.

        Raises:
            ValueError: If it is the state of another kind of optimizer or of other parameters.
        """
        dense, embedding = _parted(state_dict)
        earlier = self.embedding.state_dict()
        self.embedding.load_state_dict(embedding)
        try:
            self.dense.load_state_dict(dense)
        except Exception:
            self.embedding.load_state_dict(earlier)
            raise
        self.keep_ratio()
        self._keep_lookups()

    def register_load_state_dict_pre_hook(self, *_: Any, **__: Any) -> NoReturn:
        """Refuses, since each of the two optimizers loads its own part of a state."""
        raise RuntimeError("register the hook with optimizer.dense or optimizer.embedding instead")

    register_load_state_dict_post_hook: Any = register_load_state_dict_pre_hook

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch, counted from 0, for `FrequencyAdaptiveLR(gap_decay=...)`."""
        self.embedding.set_epoch(epoch)

    def keep_ratio(self) -> None:
        """Makes `step` expect the present ratio of the rates; call it after changing one rate."""
        self._shares = _shares(self.param_groups)

    def __repr__(self) -> str:
        """Tabulates each parameter's optimizer, shape and learning rate."""
        kinds = f"{type(self.dense).__name__} and {type(self.embedding).__name__}"
        place = {}
        for kind in ("dense", "embedding"):
            for group in getattr(self, kind).param_groups:
                place |= {id(p): (kind, f"{float(group['lr']):g}") for p in group["params"]}
        rows = [("optimizer", "parameter", "shape", "lr", "")]
        for part in parts_of(self.model):
            kind, lr = place.get(id(part.parameter), ("frozen", "-"))
            without = kind == "dense" and part.tables
            note = "an embedding without sparse=True" if without else ""
            rows.append((kind, part.name, part.shape, lr, note))
        widths = [max(map(len, column)) for column in zip(*rows)]
        lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
        title = f"{type(self).__name__} of {kinds}, {self.embedding.path}"
        return "\n".join([title, *lines])

    def __getstate__(self) -> dict[str, Any]:
        """Leaves out what others put on this object, such as the `step` of a scheduler."""
        names = "defaults", "dense", "embedding", "model", "_shares"
        return {name: self.__dict__[name] for name in names}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._keep_lookups()

    def _keep_lookups(self) -> None:
        if any(map(self.embedding.counts, self.embedding.param_groups)):
            accumulate_lookups(self)

    def _check_ratio(self) -> None:
        """Warns if a scheduler has set the rates instead of multiplying them."""
        before, now = self._shares, _shares(self.param_groups)
        if now is None:
            return
        self._shares = now
        if before is None or len(now) != len(before):  # a schedule begins, or a group was added
            return
        if any(not math.isclose(a, b, rel_tol=1e-3) for a, b in zip(now, before)):
            changed = "the ratio of the tables' learning rates to the dense rate has changed"
            remedy = "give a scheduler that takes an absolute rate (max_lr, eta_min, ...) a list"
            such = "such as [group['lr'] for group in optimizer.param_groups]"
            warnings.warn(f"{changed}: {remedy}, {such}", stacklevel=3)


TableOptimizer = EmbeddingOptimizer | SparseOptimizer  # what has the tables of a model


def _parted(state_dict: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Splits a saved state into that of the dense optimizer and that of the tables."""
    groups = state_dict.get("param_groups", [])
    tables = [group for group in groups if "rule" in group]
    if not tables:
        why = f"its keys are {sorted(state_dict)}, and no group has a rule"
        remedy = "load the state of one optimizer into .dense or .embedding"
        raise ValueError(f"this is no state of a SparseOptimizer: {why}; {remedy}")
    state, keys = state_dict["state"], {key for group in tables for key in group["params"]}
    dense = {key: its for key, its in state.items() if key not in keys}
    others = [group for group in groups if "rule" not in group]
    embedding = {"state": {key: state[key] for key in keys & state.keys()}, "param_groups": tables}
    return {**state_dict, "state": dense, "param_groups": others}, embedding


def _parameters(optimizer: Optimizer) -> Iterator[Tensor]:
    return (p for group in optimizer.param_groups for p in group["params"])


def _share_out(options: dict[str, Any], groups: list[dict[str, Any]]) -> None:
    """Moves options that map tables to numbers into the groups, one for each table."""
    names = [group["params"][0][0] for group in groups]
    for option in ("lr", "eps", "initial_accumulator_value"):
        if not isinstance(by_table := options.get(option), Mapping):
            continue
        if by_table.keys() != set(names):
            argument = "embedding_lr" if option == "lr" else option
            raise ValueError(f"{argument} is for {[*by_table]}: give one for each of {names}")
        for group, name in zip(groups, names):
            group[option] = by_table[name]
        options[option] = by_table[names[0]]  # the default, which every group overrides


def _check_each_in_one(parts: list[Part], dense: Optimizer, embedding: Optimizer) -> None:
    held = [{id(p) for p in _parameters(optimizer)} for optimizer in (dense, embedding)]
    for part in parts:
        count, name = sum(id(part.parameter) in ids for ids in held), f"parameter {part.name}"
        if count == 2:
            raise ValueError(f"{name} is in the dense and in the embedding optimizer: keep one")
        if count == 0 and part.parameter.requires_grad:
            remedy = "add it to one, or freeze it with requires_grad_(False)"
            raise ValueError(f"{name} is in neither optimizer: {remedy}")
    known = {id(part.parameter) for part in parts}
    for which, optimizer in (("dense", dense), ("embedding", embedding)):
        for p in _parameters(optimizer):
            if id(p) not in known:
                foreign = f"a parameter of shape {tuple(p.shape)} that is not the model's"
                raise ValueError(f"the {which} optimizer has {foreign}: build both from this model")


def _shares(groups: Sequence[dict[str, Any]]) -> list[float] | None:
    """Returns each group's share of the sum of the rates; None if all are 0 or one is a tensor,
    which may be on a GPU."""
    rates = [group["lr"] for group in groups]
    if any(isinstance(rate, Tensor) for rate in rates) or not (total := sum(rates)):
        return None
    return [rate / total for rate in rates]

"""`SparseOptimizer`: the dense optimizer and the embedding optimizer as one.

The Sparse Optimizer of Qiu et al. (arXiv 2505.05605) gives the embedding tables a higher learning
rate than the dense layers. Here both rates live in the parameter groups of one torch optimizer, so
that a scheduler for one also schedules the other.
"""

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import replace
from itertools import chain, zip_longest
from typing import Any, Self

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
    `step` warns once if that has changed the ratio::

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
        self.dense, self.embedding = dense, embedding
        self._parts = parts_of(model)
        _check_each_in_one(self._parts, dense, embedding)
        # A scheduler may expect these options in every group. OneCycleLR sets the momentum of every
        # group, too, which changes nothing in those of the tables.
        common = dense.defaults.keys() & {*embedding.defaults, "momentum"}
        state = dict(self.state)  # Optimizer.__init__ assigns an empty one
        super().__init__(self.param_groups, {key: dense.defaults[key] for key in common})
        self.state = state
        self._rates: list[float] | None = _rates(self.param_groups)
        self._keep_lookups()

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
        groups, others, parts = [], [], parts_of(model)
        for part in parts:
            if not part.parameter.requires_grad:
                continue
            if part.sparse_in and part.dense_in:
                sparse, other = (" and ".join(one) for one in (part.sparse_in, part.dense_in))
                clash = f"is a sparse table in {sparse}, but {other} gives it a dense gradient"
                raise ValueError(f"{part.name} {clash}: use sparse=True in all of them or in none")
            if part.sparse_in:
                groups.append({"params": [(part.name, part.parameter)]})
            else:
                others.append(part.parameter)
        if not groups:
            frozen = [part.name for part in parts if part.sparse_in]
            if frozen:
                names = ", ".join(frozen)
                remedy = "train the rest by a dense optimizer, or unfreeze one by requires_grad_()"
                raise ValueError(f"all tables with sparse=True are frozen, {names}: {remedy}")
            lacks = "the model has no nn.Embedding or nn.EmbeddingBag with sparse=True"
            dense_ones = ", ".join(f"{part.name} ({part.shape})" for part in parts if part.tables)
            without = f"those without it are {dense_ones or 'none'}"
            raise ValueError(f"{lacks}; {without}: make_sparse(model) changes large ones")
        if not others:
            raise ValueError("the model has no dense parameter: use EmbeddingOptimizer by itself")
        embedding_options["lr"] = embedding_lr
        _share_out(embedding_options, groups)
        embedding = EmbeddingOptimizer(groups, **embedding_options)
        return cls(dense(others, lr=dense_lr), embedding, model)

    @property  # type: ignore[override]
    def param_groups(self) -> tuple[dict[str, Any], ...]:
        """The groups of both optimizers, the dense ones first; a tuple, since each has its own."""
        return *self.dense.param_groups, *self.embedding.param_groups

    @param_groups.setter
    def param_groups(self, groups: Sequence[dict[str, Any]]) -> None:
        """Refuses groups, save the empty list of `Optimizer.__init__`: the two have their own."""
        if groups:
            raise RuntimeError("set optimizer.dense.param_groups and optimizer.embedding's instead")

    @property  # type: ignore[override]
    def state(self) -> MutableMapping[Tensor, Any]:
        """Reads and writes the states of both optimizers as one mapping."""
        return _State(self.dense, self.embedding)

    @state.setter
    def state(self, state: Mapping[Tensor, Any]) -> None:
        new = dict(state)  # before clearing, since it may be a view of the same
        self.state.clear()
        self.state.update(new)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Refuses new groups, since it cannot know which of the two optimizers should have them."""
        if any(param_group is group for group in self.param_groups):
            return  # Optimizer.__init__ adds the groups that the two already have
        raise RuntimeError("add the group to optimizer.dense or to optimizer.embedding instead")

    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Steps both; first calls `closure`, if given, once and returns its value."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._check_ratios()
        # The tables first: their optimizer rejects a bad gradient before anything has changed.
        self.embedding.step()
        self.dense.step()
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clears the gradients of both."""
        self.dense.zero_grad(set_to_none)
        self.embedding.zero_grad(set_to_none)

    def table_modules(self) -> list[nn.Embedding | nn.EmbeddingBag]:
        """Lists the `nn.Embedding` and `nn.EmbeddingBag` of the model that use a table."""
        return [module for part in self._parts for module in part.tables]

    def _keep_lookups(self) -> None:
        if any(map(self.embedding.counts, self.embedding.param_groups)):
            accumulate_lookups(self)

    def grow_table(self, table: str | Tensor, new_rows: int | Tensor) -> None:
        """Appends rows to a table, its state and its modules; see `EmbeddingOptimizer`."""
        self.embedding.grow_table(table, new_rows)
        for part in self._parts:
            for module in part.tables:
                module.num_embeddings = len(part.parameter)

    def state_dict(self) -> dict[str, Any]:
        """Returns torch's layout, as `torch.distributed.checkpoint` takes it; dense ones first."""
        return plain(super().state_dict())

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores a saved state, all of it or, if it does not fit, none.

        Raises:
            ValueError: If it is the state of another kind of optimizer or of other parameters.
        """
        for before_loading in self._optimizer_load_state_dict_pre_hooks.values():
            changed = before_loading(self, state_dict)
            state_dict = state_dict if changed is None else changed
        dense, embedding = _parted(state_dict)
        earlier = self.embedding.state_dict()
        self.embedding.load_state_dict(embedding)
        try:
            self.dense.load_state_dict(dense)
        except Exception:
            self.embedding.load_state_dict(earlier)
            raise
        self._rates = _rates(self.param_groups)
        self._keep_lookups()
        for after_loading in self._optimizer_load_state_dict_post_hooks.values():
            after_loading(self)

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch, counted from 0, for `FrequencyAdaptiveLR(gap_decay=...)`."""
        self.embedding.set_epoch(epoch)

    def keep_ratio(self) -> None:
        """Makes `step` expect the present ratio of the rates; call it after changing one rate."""
        self._rates = _rates(self.param_groups)

    def summary(self) -> str:
        """Tabulates each parameter's optimizer, shape and learning rate."""
        parts = {id(part.parameter): part for part in self._parts}
        rates = {}
        for optimizer in (self.dense, self.embedding):
            for group in optimizer.param_groups:
                for p, name in zip_longest(group["params"], group.get("param_names") or ()):
                    rates[id(p)] = f"{float(group['lr']):g}"
                    parts.setdefault(id(p), Part(p, name or "added later, without a name"))
        tables = {id(p) for p in _parameters(self.embedding)}
        rows: list[tuple[str, ...]] = [("optimizer", "parameter", "shape", "lr", "")]
        others: dict[str, list[str]] = {}
        for key, part in parts.items():
            users = part.sparse_in + part.dense_in
            if key not in rates:
                rows.append(("none", part.name, part.shape, "-", "frozen"))
            elif key in tables:
                note = f"shared by {', '.join(users)}" if len(users) > 1 else ""
                rows.append(("embedding", part.name, part.shape, rates[key], note))
            elif part.tables:
                note = "an embedding without sparse=True"
                rows.append(("dense", part.name, part.shape, rates[key], note))
            else:
                others.setdefault(rates[key], []).append(part.name)
        for lr, names in others.items():
            shown = names if len(names) <= 4 else [*names[:3], f"{len(names) - 3} more"]
            rows.append(("dense", ", ".join(shown), "", lr, ""))
        widths = [max(len(row[k]) for row in rows) for k in range(4)]
        lines = ["  ".join([*map(str.ljust, row, widths), row[4]]).rstrip() for row in rows]
        return "\n".join(lines)

    def __repr__(self) -> str:
        kinds = f"{type(self.dense).__name__} and {type(self.embedding).__name__}"
        return f"{type(self).__name__} of {kinds}, {self.embedding.path}\n{self.summary()}"

    def __getstate__(self) -> dict[str, Any]:
        """Copies and pickles the two optimizers, which hold everything else."""
        kept = {key: self.__dict__[key] for key in ("defaults", "dense", "embedding", "_rates")}
        return kept | {"_parts": [replace(part, users={}) for part in self._parts]}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._keep_lookups()

    def _check_ratios(self) -> None:
        """Warns once if a scheduler has set the rates instead of multiplying them."""
        before, now = self._rates, _rates(self.param_groups)
        if before is None or now is None or not any(now):  # warned before, or at zero
            return
        if len(now) != len(before) or not any(before):
            self._rates = now  # a group was added, or a schedule begins
            return
        largest = max(range(len(now)), key=before.__getitem__)
        factor = now[largest] / before[largest]
        if any(not math.isclose(a, factor * b, rel_tol=1e-3) for a, b in zip(now, before)):
            self._rates = None
            changed = "the ratio of the tables' learning rates to the dense rate has changed"
            remedy = "give a scheduler that takes an absolute rate (max_lr, eta_min, ...) a list"
            such = "such as [group['lr'] for group in optimizer.param_groups]"
            warnings.warn(f"{changed}: {remedy}, {such}", stacklevel=3)


TableOptimizer = EmbeddingOptimizer | SparseOptimizer  # what has the tables of a model


class _State(MutableMapping):
    """The states of both optimizers; each parameter's is in the optimizer that has it."""

    def __init__(self, dense: Optimizer, embedding: EmbeddingOptimizer) -> None:
        self._both = dense.state, embedding.state
        self._tables = {id(table) for table in _parameters(embedding)}

    def _of(self, key: Any) -> dict[Any, Any]:
        return self._both[id(key) in self._tables]

    def __getitem__(self, key: Any) -> Any:
        return self._of(key)[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        self._of(key)[key] = value

    def __delitem__(self, key: Any) -> None:
        del self._of(key)[key]

    def __contains__(self, key: Any) -> bool:  # the default would create the key
        return key in self._of(key)

    def __iter__(self) -> Iterator[Any]:
        return chain(*self._both)

    def __len__(self) -> int:
        return sum(map(len, self._both))

    def get(self, key: Any, default: Any = None) -> Any:
        return self._of(key).get(key, default)


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


def _rates(groups: Sequence[dict[str, Any]]) -> list[float] | None:
    """Returns each group's rate; None if one is a tensor, which may be on a GPU."""
    rates = [group["lr"] for group in groups]
    return None if any(isinstance(rate, Tensor) for rate in rates) else rates

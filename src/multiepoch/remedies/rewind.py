"""What is put back before a repeated epoch over the same data: MEDA, tail rewind, what lies between.

After one epoch an infrequent row knows the labels of the few impressions it was trained on. In the
next epoch over them the dense layers learn to trust that, and it misleads them on fresh ones. MEDA
(arXiv 2305.19531) redraws every table before each repeated epoch. Tail rewind puts back only the
rows that the data touches fewer than `below` times, whose leak is large, and keeps the others.

    rewind = tail_rewind(model, optimizer, below=100)
    for index in range(n_epochs):
        rewind.before_epoch(index)
        for batch in data: ...

**FAL's counts stay.** They say how often the data has each row, and neither a redrawn weight nor
another epoch over the same data changes that. The optimizer's own step, which corrects Adam's bias,
stays too: it belongs to the table and not to a row.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from multiepoch.optim.embedding import EmbeddingOptimizer
from multiepoch.optim.sparse import SparseOptimizer
from multiepoch.remedies.undo_log import Counts, UndoLog, copied, n_bytes_of

Init = Callable[[Tensor], Any]


class Rewind:
    """Before each repeated epoch, puts back the rows that its data touches fewer than `below` times.

    A row is put back as a whole: its weights, its moments or accumulators, AdamAR's wait.

    model: the module of the tables.
    optimizer: the `EmbeddingOptimizer` of the tables, or the `SparseOptimizer` with it.
    below: tau. 0 puts nothing back (plain multi-epoch training), infinity puts back every row.
        Lookups are counted in epoch 0, over the processes of a distributed run together.
    to: "reinit", a fresh draw of the weights, with moments zero and AdamAR's wait starting now. With
        `below` infinite that is every row of every table. Counts take 4 bytes a row of the table,
        and the draw, before each repeated epoch, needs room for one more table.
        "start", what the row was when epoch 0 first touched it, from a undo log whose memory grows
        with the rows touched and not with the table; AdamAR's wait is what it was when epoch 0
        began.
    seed: the draws are a function of it, the table's place in the optimizer and the number of
        epochs so far; the global random state stays as it is.
    init: draws a whole table in place, as `torch.nn.init.*` do. By default the model's own
        `init_table_` where it has one, else as `nn.Embedding`: normal, mean 0, deviation 1.
        The row of `padding_idx` is never trained and stays as it is.

    Raises ValueError for an argument out of range or a table that is not the model's.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: EmbeddingOptimizer | SparseOptimizer,
        below: float = math.inf,
        to: Literal["reinit", "start"] = "reinit",
        seed: int = 0,
        init: Init | None = None,
    ) -> None:
        if not below >= 0:
            raise ValueError(f"below={below} must be a number of lookups, 0 or more, or math.inf")
        if to not in ("reinit", "start"):
            raise ValueError(f"to={to!r} must be 'reinit' or 'start'")
        self.below, self.to = below, to
        self._optimizer = _embedding(optimizer)
        self._tables = _Tables(model, self._optimizer, seed, init)
        self._index: int | None = None  # of the epoch that runs
        self._n_epochs = 0  # that began so far, of all data
        self._records: list[Counts | UndoLog] = []  # one a table, where one is needed
        self._began: list[int] = []  # each table's step when epoch 0 began
        self._hook: Any = None

    @torch.no_grad()
    def before_epoch(self, index: int) -> None:
        """Called before each epoch over data: index 0, the first over new data; then 1, 2, ...

        Epoch 0 starts counting anew. RuntimeError when an epoch is left out.
        """
        if index != 0 and (self._index is None or index != self._index + 1):
            last = "no epoch" if self._index is None else f"epoch {self._index}"
            raise RuntimeError(f"before_epoch({index}) after {last}: call it for 0, 1, 2, ...")
        if index == 0:
            self._records = self._new_records()
            self._began = [self._tables.step(table) for table in self._tables]
        else:
            self._put_back()
        self._index = index
        self._n_epochs += 1
        self._listen()

    @property
    def n_bytes(self) -> int:
        """Bytes that the counts or the undo log take now."""
        return sum(record.n_bytes for record in self._records)

    def state_dict(self) -> dict[str, Any]:
        """What a restart needs, in the middle of an epoch too; the tensors are copies."""
        return {
            "below": self.below,
            "to": self.to,
            "seed": self._tables.seed,
            "index": self._index,
            "n_epochs": self._n_epochs,
            "began": self._began,
            "records": [record.state_dict() for record in self._records],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """ValueError when it was saved with other arguments or of other tables."""
        for name, here in (("below", self.below), ("to", self.to), ("seed", self._tables.seed)):
            if state_dict[name] != here:
                raise ValueError(
                    f"the state is of a Rewind with {name}={state_dict[name]!r}, this one has "
                    f"{here!r}: make it with the arguments it was saved with"
                )
        records = [] if state_dict["index"] is None else self._new_records()
        if len(records) != len(state_dict["records"]):
            raise ValueError(
                f"the state is of {len(state_dict['records'])} tables, here are {len(records)}"
            )
        for record, saved in zip(records, state_dict["records"]):
            record.load_state_dict(saved)
        self._records = records
        self._index, self._n_epochs = state_dict["index"], state_dict["n_epochs"]
        self._began = list(state_dict["began"])
        self._listen()

    def _new_records(self) -> list[Counts | UndoLog]:
        if self.below == 0 or (self.to == "reinit" and math.isinf(self.below)):
            return []  # nothing or everything is put back, whatever the counts
        kind = Counts if self.to == "reinit" else UndoLog
        return [kind(table) for table in self._tables]

    def _listen(self) -> None:
        """Follows the optimizer's steps in epoch 0, and only then."""
        if self._hook is not None:
            self._hook.remove()
            self._hook = None
        if self._index == 0 and self._records:
            self._hook = self._optimizer.register_row_hook(self._record)

    @torch.no_grad()
    def _record(self, table: Tensor, rows: Tensor, occurrences: Tensor) -> None:
        record = self._records[self._tables.place(table)]
        record.add(rows, occurrences, lambda: self._tables.values(table))

    def _put_back(self) -> None:
        if self.below == 0:
            return
        for k, table in enumerate(self._tables):
            if not self._records:
                self._tables.redraw(table, None, self._n_epochs)
                continue
            if isinstance(self._records[k], Counts):
                self._tables.redraw(table, self._records[k].rows(self.below), self._n_epochs)
                continue
            since = self._tables.step(table) - self._began[k]
            for rows, saved in self._records[k].put_back(self.below):
                for name, value in self._tables.values(table).items():
                    # The steps that a row has waited are those of when epoch 0 began.
                    before = saved[name] + since if name == "last_step" else saved[name]
                    value.index_copy_(0, rows, before)


class TableGroups:
    """One group of tables for each epoch index beside one dense network: MEDA's continual form.

    Group 0 is what the model has; the others are drawn when their epoch first comes. The group of
    the epoch that runs is in the model, in place; the others wait, with their optimizer's row
    state, so the memory is `n_epochs` times that of one group. Evaluate after the last epoch, with
    the group that it trained. FAL's counts are one for all groups: each has seen the same data.

    Arguments as for `Rewind`.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: EmbeddingOptimizer | SparseOptimizer,
        n_epochs: int,
        seed: int = 0,
        init: Init | None = None,
    ) -> None:
        if n_epochs < 1:
            raise ValueError(f"n_epochs={n_epochs} must be 1 or more")
        self.n_epochs = n_epochs
        self._tables = _Tables(model, _embedding(optimizer), seed, init)
        self._index = 0  # of the group in the model
        self._waiting: dict[int, list[dict[str, Tensor]]] = {}  # by index: values of each table

    @torch.no_grad()
    def before_epoch(self, index: int) -> None:
        """Brings the tables of epoch `index` into the model. ValueError when there is none."""
        if not 0 <= index < self.n_epochs:
            raise ValueError(f"before_epoch({index}): the groups are 0 to {self.n_epochs - 1}")
        if index == self._index:
            return
        arriving = self._waiting.pop(index, None)
        leaving = self._waiting[self._index] = []
        for k, table in enumerate(self._tables):
            values, step = self._tables.values(table), self._tables.step(table)
            # Last steps wait as the steps that lie between, so that no row ages while its group
            # is away.
            leaving.append({name: value - step if name == "last_step" else value.clone()
                            for name, value in values.items()})  # fmt: skip
            if arriving is None:
                self._tables.redraw(table, None, index)
                continue
            for name, value in values.items():
                value.copy_(arriving[k][name] + step if name == "last_step" else arriving[k][name])
            arriving[k] = {}  # its memory back before the next table's is taken
        self._index = index

    @property
    def n_bytes(self) -> int:
        """Bytes that the waiting groups take."""
        return sum(map(n_bytes_of, (v for group in self._waiting.values() for v in group)))

    def state_dict(self) -> dict[str, Any]:
        """The waiting groups, copied; the one at work is in the states of model and optimizer."""
        waiting = {i: [copied(values) for values in group] for i, group in self._waiting.items()}
        return {"n_epochs": self.n_epochs, "seed": self._tables.seed, "index": self._index,
                "waiting": waiting}  # fmt: skip

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """ValueError when it is of another number of epochs, seed, or other tables."""
        for name, here in (("n_epochs", self.n_epochs), ("seed", self._tables.seed)):
            if state_dict[name] != here:
                raise ValueError(
                    f"the state is of table groups with {name}={state_dict[name]}, these have "
                    f"{here}: make them with the arguments they were saved with"
                )
        shapes = [_shapes(self._tables.values(table)) for table in self._tables]
        for index, group in state_dict["waiting"].items():
            if [_shapes(values) for values in group] != shapes:
                raise ValueError(f"group {index} of the state is of tables of other shapes or rule")
        devices = [table.device for table in self._tables]
        self._waiting = {
            index: [copied(values, device) for values, device in zip(group, devices)]
            for index, group in state_dict["waiting"].items()
        }
        self._index = state_dict["index"]


def meda(model, optimizer, seed: int = 0, init: Init | None = None) -> Rewind:
    """MEDA on a fixed window: every table is redrawn before each repeated epoch."""
    return Rewind(model, optimizer, math.inf, "reinit", seed, init)


def meda_redrawn(model, optimizer, seed: int = 0, init: Init | None = None) -> Rewind:
    """MEDA under continual training, first meaning: the tables are redrawn before a repeated epoch.

    What earlier days taught them is lost with each day's second epoch; the same call as `meda`.
    """
    return meda(model, optimizer, seed, init)


def meda_restored(model, optimizer) -> Rewind:
    """MEDA under continual training, second meaning: the tables as they were before the day."""
    return Rewind(model, optimizer, math.inf, "start")


def meda_groups(
    model, optimizer, n_epochs: int, seed: int = 0, init: Init | None = None
) -> TableGroups:
    """MEDA under continual training, third meaning: tables for each epoch index, carried on."""
    return TableGroups(model, optimizer, n_epochs, seed, init)


def tail_rewind(
    model,
    optimizer,
    below: float,
    to: Literal["reinit", "start"] = "start",
    seed: int = 0,
    init: Init | None = None,
) -> Rewind:
    """Tail rewind: only the rows that the data touches fewer than `below` times go back.

    "start" serves continual days, where a row holds what earlier days taught it, and a fixed
    window too, where it puts back the very draw that training began with; "reinit" is MEDA's.
    """
    return Rewind(model, optimizer, below, to, seed, init)


class _Tables:
    """The tables of an embedding optimizer: their values by row, and how they are drawn."""

    def __init__(
        self, model: nn.Module, optimizer: EmbeddingOptimizer, seed: int, init: Init | None
    ) -> None:
        self.seed = seed
        self._optimizer = optimizer
        known = {id(p) for p in model.parameters()}
        for k, table in enumerate(self):
            if id(table) not in known:
                raise ValueError(
                    f"table {k} of the optimizer, of shape {tuple(table.shape)}, is not a "
                    "parameter of the model: build the optimizer from this model"
                )
        # A model wrapped for distributed training has its own initialiser a level down.
        own = (module.init_table_ for module in model.modules() if hasattr(module, "init_table_"))
        self._init = init or next(own, nn.init.normal_)
        self._padding = _padding_rows(model)

    def __iter__(self):
        return (p for group in self._optimizer.param_groups for p in group["params"])

    def place(self, table: Tensor) -> int:
        return next(k for k, other in enumerate(self) if other is table)

    def values(self, table: Tensor) -> dict[str, Tensor]:
        """Everything that belongs to a row, live, the first dimension the row."""
        return {"weight": table.detach(), **self._optimizer.row_state(table)}

    def step(self, table: Tensor) -> int:
        """Steps of the optimizer so far, with a gradient for the table."""
        return int(self._optimizer.state.get(table, {}).get("step", 0))

    def redraw(self, table: Tensor, rows: Tensor | None, n_epochs: int) -> None:
        """New weights and row state for `rows`, int64 (k,); None: for all of the table."""
        values = self.values(table)
        weight = values.pop("weight")
        padding = self._padding.get(id(table))
        kept = None if padding is None else weight[padding].clone()
        if rows is None:
            self._draw(weight, self.place(table), n_epochs)
            rows = slice(None)
        else:
            # The whole table, since an initialiser may look at the shape, and so that a row's
            # fresh draw is the same whichever other rows are drawn.
            fresh = self._draw(torch.empty_like(weight), self.place(table), n_epochs)
            weight[rows] = fresh[rows]
        if kept is not None:
            weight[padding] = kept
        step = self.step(table)
        for name, value in values.items():
            value[rows] = step if name == "last_step" else 0

    def _draw(self, weight: Tensor, place: int, n_epochs: int) -> Tensor:
        digest = hashlib.sha256(f"{self.seed} {place} {n_epochs}".encode()).digest()
        seed = int.from_bytes(digest[:7], "little")
        on_gpu = weight.is_cuda
        with torch.random.fork_rng(devices=[weight.device] if on_gpu else []):
            torch.default_generator.manual_seed(seed)
            if on_gpu:
                with torch.cuda.device(weight.device):
                    torch.cuda.manual_seed(seed)
            self._init(weight)
        return weight


def _shapes(values: dict[str, Tensor]) -> dict[str, tuple]:
    return {name: (value.dtype, tuple(value.shape)) for name, value in values.items()}


def _embedding(optimizer: EmbeddingOptimizer | SparseOptimizer) -> EmbeddingOptimizer:
    embedding = optimizer.embedding if isinstance(optimizer, SparseOptimizer) else optimizer
    if not isinstance(embedding, EmbeddingOptimizer):
        raise TypeError(
            f"optimizer must be an EmbeddingOptimizer or a SparseOptimizer, not {type(optimizer)}"
        )
    return embedding


def _padding_rows(model: nn.Module) -> dict[int, int]:
    """By the id of a table: the row that every module which uses it takes for padding."""
    rows: dict[int, set[int | None]] = {}
    for module in model.modules():
        if isinstance(module, nn.Embedding | nn.EmbeddingBag):
            rows.setdefault(id(module.weight), set()).add(module.padding_idx)
    return {k: next(iter(r)) for k, r in rows.items() if len(r) == 1 and r != {None}}

"""Resets embedding rows before each repeated epoch over the same data: MEDA and tail rewind.

After one epoch, an infrequent row has learned the labels of its few impressions. In the next epoch
the dense layers learn to trust it, and on fresh impressions it misleads them. MEDA (arXiv
2305.19531) redraws every table before each repeated epoch. Tail rewind resets only the rows that
the data touches fewer than `below` times, which leak the most::

    repeat = tail_rewind(model, optimizer, below=100, dense_factor=0.1, average=True)
    for epoch in repeat.epochs(4):
        for batch in data: ...
    with repeat.serving():
        save_to_serve(model)

A reset leaves FAL's counts alone, since they say how often the data contains each row, and the
optimizer's step count, which is the table's.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from multiepoch.optim.sparse import TableOptimizer
from multiepoch.remedies.average import EndsMean, scale_steps
from multiepoch.remedies.tables import Init, Tables, check_same, unwrapped
from multiepoch.remedies.undo_log import Counts, Keep, UndoLog

Target = Literal["reinit", "start"]


class Rewind:
    """Resets the rows that the data touches fewer than `below` times before each repeated epoch.

    A reset covers weights, moments or accumulators, and AdamAR's wait.

    Args:
        model: The module of the tables.
        optimizer: The `EmbeddingOptimizer` of the tables, or the `SparseOptimizer` with it.
        below: The threshold tau, in lookups. 0 resets nothing (plain multi-epoch training),
            math.inf resets every row. Lookups are counted in epoch 0, over all processes.
        to: "reinit" draws new weights, zeroes the moments and restarts AdamAR's wait. If `below` is
            infinite, it redraws untouched rows, too. Counts take 4 bytes per row of the table, and
            a draw needs room for one more table. "start" restores the row as it was when epoch 0
            began, from an undo log whose memory grows with the rows touched, not with the table:
            20 bytes for each, and its weights and row state (with Adam, 20 + 12 dim bytes).
        seed: Seed of the draws, which leave the global random state alone.
        init: Draws a whole table in place, as `nn.init.normal_` does. By default the model's own
            `init_table_` if it has one, else a normal of the mean and standard deviation that the
            table has when the Rewind is built. The row of `padding_idx` is never redrawn.
        undo_log: Where the undo log keeps weights and row state: "table" on the device of the
            table, "cpu" in the host's memory. A saved state can be loaded with the other.
        dense_factor: Multiplies the rate of the dense layers from the second epoch on, within their
            optimizer's steps, so that no scheduler sees it.
        dense: The dense optimizer, if `optimizer` is an `EmbeddingOptimizer`.
        average: Serves the mean of the model at the ends of the epochs, instead of the last end:
            its weights and floating buffers, in float32 or wider. Training goes on from the last
            end, and epoch 0 of new data begins a new mean.
        average_from: The first epoch whose end is in the mean, counted from 1.
        average_on: Where the mean is: "cpu" for host memory, None for the device of the model.

    `epoch` is the index of the current epoch, None before the first. A copy made together with the
    model and the optimizer, by `copy.deepcopy` or `pickle`, continues as the original would. If you
    build a Rewind for each day, close the last one, or use it as a context: else it goes on
    counting.

    Raises:
        ValueError: If an argument is out of range, a table is not a parameter of the model, or an
            empty table has nothing to be redrawn by.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: TableOptimizer,
        below: float = math.inf,
        to: Target = "reinit",
        *,
        seed: int = 0,
        init: Init | None = None,
        undo_log: Keep = "table",
        dense_factor: float = 1.0,
        dense: Optimizer | None = None,
        average: bool = False,
        average_from: int = 2,
        average_on: Literal["cpu"] | None = None,
    ) -> None:
        if not below >= 0:
            raise ValueError(f"below={below} must be a number of lookups, 0 or more, or math.inf")
        if to not in ("reinit", "start"):
            raise ValueError(f"to={to!r} must be 'reinit' or 'start'")
        if undo_log not in ("table", "cpu"):
            raise ValueError(f"undo_log={undo_log!r} must be 'table' or 'cpu'")
        if undo_log != "table" and to != "start":
            raise ValueError(f"undo_log={undo_log!r} has no effect without to='start'")
        if average_from < 1 or average_on not in (None, "cpu"):
            found = f"average_from={average_from!r} and average_on={average_on!r}"
            raise ValueError(f"{found}: they must be an epoch from 1 on, and None or 'cpu'")
        if not 0 <= dense_factor < math.inf:
            raise ValueError(f"dense_factor={dense_factor} must be a number, 0 or more")
        own = getattr(unwrapped(optimizer), "dense", None)
        if own is not None and dense is not None:
            raise ValueError("dense= is for an EmbeddingOptimizer: this optimizer has its own")
        self._dense = own if own is not None else unwrapped(dense)
        if dense_factor != 1 and self._dense is None:
            wrong = "the optimizer has the tables alone"
            raise ValueError(f"dense_factor={dense_factor}, and {wrong}: give dense=, too")
        self.dense_factor, self.average, self.average_from = dense_factor, average, average_from
        self.below, self.to, self.undo_log = below, to, undo_log
        # An optimizer for sharded tables makes them itself.
        make: Callable[..., Tables] = getattr(
            optimizer, "tables", partial(Tables, optimizer=optimizer)
        )
        self._tables = make(model=model, seed=seed, init=init)
        if to == "reinit":
            self._tables.check_moments()
        self.epoch: int | None = None
        self._ended = False  # the mean has the end of this epoch, if it is to have it
        self._resumed = False  # no epoch has begun or ended since a state was loaded
        self._n_epochs = 0  # begun so far, over all data
        self._records: list[Counts] = []  # one per table, if needed
        self._began: list[int] = []  # each table's step when epoch 0 began
        self._mean = EndsMean(self._tables, average_on)
        self._hook: Any = None

    def epochs(self, n: int) -> Iterator[int]:
        """Yields the epochs 0 to n - 1 over the same data, each prepared, and ends each.

        After `load_state_dict` it goes on at the saved epoch, of which you train what is left.
        """
        first = 0
        if self._resumed and self.epoch is not None:
            first = self.epoch + 1
            if not self._ended:
                yield self.epoch
                self.end_epoch()
            self._resumed = False
        for index in range(first, n):
            self.before_epoch(index)
            yield index
            self.end_epoch()

    def end_epoch(self) -> None:
        """Takes the model into the mean of the ends, once; `epochs` and `before_epoch` call it.

        Call it after the last epoch of a loop of your own, and before a checkpoint at an end.
        """
        if self.epoch is None or self._ended:
            return
        self._check_not_serving("end_epoch")
        if self.average and self.epoch + 1 >= self.average_from:
            self._mean.add()
        self._ended, self._resumed = True, False

    def new_data(self) -> None:
        """Ends the run over the data so far: `before_epoch(0)` may follow, whatever was resumed."""
        self.epoch = None

    @torch.no_grad()
    def before_epoch(self, index: int) -> None:
        """Starts counting before epoch 0 over new data; resets rows before epochs 1, 2, ...

        Skip the call if a resumed job continues within an epoch, that is if `epoch` is `index`.

        Raises:
            RuntimeError: If an epoch is skipped, if the call would discard a resumed epoch 0, or
                within `serving`.
        """
        self._check_not_serving("before_epoch")
        if index != 0 and (self.epoch is None or index != self.epoch + 1):
            last = "no epoch" if self.epoch is None else f"epoch {self.epoch}"
            raise RuntimeError(f"before_epoch({index}) after {last}: call it for 0, 1, 2, ...")
        if index == 0 == self.epoch and self._resumed and self._records and not self._ended:
            lost = "before_epoch(0) would discard what the loaded state recorded of epoch 0"
            remedy = "skip the call while rewind.epoch is 0, or call rewind.new_data() first"
            raise RuntimeError(f"{lost}: {remedy} if new data begins")
        if index == 0:
            self._mean.clear()
            self._records = self._new_records()
            self._began = [self._tables.step(table) for table in self._tables]
        else:
            self.end_epoch()
            self._reset()
        self._tables.optimizer.set_epoch(index)
        self.epoch, self._n_epochs = index, self._n_epochs + 1
        self._resumed = self._ended = False
        self._listen()

    def serving(self) -> AbstractContextManager[None]:
        """Puts what is to be served into the model, and at exit what is trained, bit for bit.

        Evaluate, or save the model to be served, within this context. With average=True that is
        the mean of the ends so far, if there is one, for a copy of the model. Else it does nothing.

        Within the context, a step of an optimizer, `before_epoch`, and the states of the optimizer
        and of this object raise a RuntimeError: a step would be lost, and a checkpoint would have
        served rows. In a handler of SIGTERM, set a flag and save after the batch.
        """
        return self._mean.serving() if self._mean.n else nullcontext()

    def close(self) -> None:
        """Stops following the optimizer and frees what was kept; `before_epoch(0)` begins anew."""
        self._check_not_serving("close")
        self._records, self.epoch = [], None
        self._mean.clear()
        self._listen()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def n_bytes(self) -> int:
        """The memory of the counts, the undo log and the mean, in bytes."""
        return sum(record.n_bytes for record in self._records) + self._mean.n_bytes

    def state_dict(self) -> dict[str, Any]:
        """Returns the state as copies; it can be saved in the middle of an epoch, too."""
        self._check_not_serving("state_dict")
        return self._given() | {
            "index": self.epoch,
            "n_epochs": self._n_epochs,
            "moments": list(self._tables.moments),
            "began": self._began,
            "records": [record.state_dict() for record in self._records],
            "mean": self._mean.state_dict(),
            "ended": self._ended,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores a saved state; raises a ValueError if it has other arguments or tables."""
        self._check_not_serving("load_state_dict")
        saved = state_dict
        check_same(saved, self._given(), "a Rewind", "this one has")
        records = [] if saved["index"] is None else self._new_records()
        self._mean.load_state_dict(saved["mean"])
        for record, state in zip(records, saved["records"]):
            record.load_state_dict(state)
        self._records, self._began = records, list(saved["began"])
        self.epoch, self._n_epochs, self._resumed = saved["index"], saved["n_epochs"], True
        self._ended = saved["ended"]
        self._tables.moments = saved.get("moments") or self._tables.moments
        self._listen()

    def _given(self) -> dict[str, Any]:
        names = "below", "to", "dense_factor", "average", "average_from"
        given = {name: getattr(self, name) for name in names}
        return given | {"seed": self._tables.seed, "tables": self._tables.names()}

    def _check_not_serving(self, call: str) -> None:
        self._mean.check_not_serving(call)

    def __getstate__(self) -> dict[str, Any]:
        self._check_not_serving("a copy")
        return self.__dict__ | {"_hook": None}  # the optimizer's copy has no hooks either

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._listen()

    def _new_records(self) -> list[Counts]:
        every_row = self.to == "reinit" and math.isinf(self.below)  # whatever the counts
        if self.below == 0 or every_row:
            return []
        if self.to == "reinit":
            return [Counts(table) for table in self._tables]
        return [UndoLog(table, self.undo_log) for table in self._tables]

    def _listen(self) -> None:
        """Follows the tables' steps in epoch 0, and sets the dense rate."""
        if self._hook is not None:
            self._hook.remove()
        listens = self.epoch == 0 and self._records
        self._hook = self._tables.follow(self._record) if listens else None
        if self._dense is not None:
            scale_steps(self._dense, self.dense_factor if self.epoch else 1.0)

    @torch.no_grad()
    def _record(self, table: Tensor, rows: Tensor, occurrences: Tensor) -> None:
        self._check_not_serving("a step")
        record = self._records[self._tables.place(table)]
        record.add(rows, occurrences, lambda: self._tables.values(table))

    def _reset(self) -> None:
        for k, table in enumerate(self._tables):
            if self.below == 0 or self._tables.is_frozen(table):
                continue
            record = self._records[k] if self._records else None
            if not isinstance(record, UndoLog):
                few = None if record is None else record.few(self.below)
                self._tables.redraw(table, few, self._n_epochs)
                continue
            since = self._tables.step(table) - self._began[k]
            for saved in record.put_back(self.below):
                for name, value in self._tables.values(table).items():
                    # A restored row has waited as long as when epoch 0 began.
                    before = saved[name] + since if name == "last_step" else saved[name]
                    value.index_copy_(0, saved["rows"].to(value.device), before.to(value))


def meda(model: nn.Module, optimizer: TableOptimizer, **options: Any) -> Rewind:
    """Redraws every table before each repeated epoch: MEDA. The options are those of `Rewind`.

    Under continual training this discards what earlier days taught the tables; `meda_restored` and
    `meda_groups` are two other readings of MEDA.
    """
    return Rewind(model, optimizer, math.inf, "reinit", **options)


def meda_restored(model: nn.Module, optimizer: TableOptimizer, **options: Any) -> Rewind:
    """Restores every touched row to its state before the day: MEDA for continual training."""
    return Rewind(model, optimizer, math.inf, "start", **options)


def tail_rewind(
    model: nn.Module,
    optimizer: TableOptimizer,
    below: float,
    to: Target = "start",
    **options: Any,
) -> Rewind:
    """Resets only the rows that the data touches fewer than `below` times.

    "start" suits continual training, where a row holds what earlier days taught it. On a fixed
    window it restores the very draw that training began with; "reinit" draws anew, as MEDA does.
    The options are those of `Rewind`.
    """
    return Rewind(model, optimizer, below, to, **options)

"""Resets embedding rows before each repeated epoch over the same data: MEDA and tail rewind.

After one epoch, an infrequent row has learned the labels of its few impressions. In the next epoch
over them the dense layers learn to trust it, and on fresh impressions it misleads them. MEDA (arXiv
2305.19531) redraws every table before each repeated epoch. Tail rewind resets only the rows that
the data touches fewer than `below` times, which leak the most, and keeps the others::

    rewind = tail_rewind(model, optimizer, below=100)
    for index in range(n_epochs):
        rewind.before_epoch(index)
        for batch in data: ...

A reset leaves FAL's counts alone: they say how often the data contains each row, which neither a
reset nor another epoch changes. It also leaves the optimizer's step count, which is the table's.
"""

from __future__ import annotations

import math
import warnings
from typing import Any, Literal

import torch
from torch import Tensor, nn

from multiepoch.optim.embedding import EmbeddingOptimizer
from multiepoch.optim.sparse import SparseOptimizer
from multiepoch.remedies.tables import Init, Tables, check_same
from multiepoch.remedies.undo_log import Counts, UndoLog


class Rewind:
    """Resets the rows that the data touches fewer than `below` times before each repeated epoch.

    A reset covers all that belongs to a row: weights, moments or accumulators, and AdamAR's wait.

    Args:
        model: The module of the tables.
        optimizer: The `EmbeddingOptimizer` of the tables, or the `SparseOptimizer` with it.
        below: The threshold tau, in lookups. 0 resets nothing (plain multi-epoch training),
            math.inf resets every row. Lookups are counted in epoch 0, over all processes.
        to: "reinit" draws new weights, zeroes the moments and restarts AdamAR's wait. If `below` is
            infinite, it redraws untouched rows, too. Counts take 4 bytes per row of the table, and
            a draw needs room for one more table. "start" restores the row as it was when epoch 0
            began, from an undo log whose memory grows with the rows touched, not with the table.
        seed: Seed of the draws, which leave the global random state alone.
        init: Draws a whole table in place, as `nn.init.normal_` does. By default the model's own
            `init_table_` if it has one, else a normal of the mean and standard deviation that the
            table has when the Rewind is built. The row of `padding_idx` is never redrawn.

    `epoch` is the index of the current epoch, None before the first. A copy made together with the
    model and the optimizer, by `copy.deepcopy` or `pickle`, continues as the original would.

    Raises:
        ValueError: If an argument is out of range, or a table is not a parameter of the model.
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
        if to == "draw":
            words = "to='draw' is deprecated: use to='reinit'"
            warnings.warn(words, DeprecationWarning, stacklevel=2)
            to = "reinit"
        if not below >= 0:
            raise ValueError(f"below={below} must be a number of lookups, 0 or more, or math.inf")
        if to not in ("reinit", "start"):
            raise ValueError(f"to={to!r} must be 'reinit' or 'start'")
        self.below, self.to = below, to
        self._tables = Tables(model, optimizer, seed, init)
        self.epoch: int | None = None
        self._resumed = False  # no epoch has begun since a state was loaded
        self._n_epochs = 0  # begun so far, over all data
        self._records: list[Counts | UndoLog] = []  # one per table, if needed
        self._began: list[int] = []  # each table's step when epoch 0 began
        self._hook: Any = None

    @torch.no_grad()
    def before_epoch(self, index: int) -> None:
        """Starts counting before epoch 0 over new data; resets rows before epochs 1, 2, ...

        Skip the call if a resumed job continues within an epoch, that is if `epoch` is `index`.

        Raises:
            RuntimeError: If an epoch is skipped, or if the call would discard a resumed epoch 0.
        """
        if index != 0 and (self.epoch is None or index != self.epoch + 1):
            last = "no epoch" if self.epoch is None else f"epoch {self.epoch}"
            raise RuntimeError(f"before_epoch({index}) after {last}: call it for 0, 1, 2, ...")
        if index == 0 == self.epoch and self._resumed and self._records:
            raise RuntimeError(
                "before_epoch(0) would discard what the loaded state recorded of epoch 0: skip the "
                "call while rewind.epoch is 0, or set rewind.epoch = None first if new data begins"
            )
        if index == 0:
            self._records = self._new_records()
            self._began = [self._tables.step(table) for table in self._tables]
        else:
            self._reset()
        self.epoch, self._n_epochs, self._resumed = index, self._n_epochs + 1, False
        self._listen()

    @property
    def n_bytes(self) -> int:
        """The memory of the counts or the undo log, in bytes."""
        return sum(record.n_bytes for record in self._records)

    def state_dict(self) -> dict[str, Any]:
        """Returns the state as copies; it can be saved in the middle of an epoch, too."""
        return {
            "below": self.below,
            "to": self.to,
            "seed": self._tables.seed,
            "index": self.epoch,
            "n_epochs": self._n_epochs,
            "moments": list(self._tables.moments),
            "began": self._began,
            "records": [record.state_dict() for record in self._records],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores a saved state; raises a ValueError if it has other arguments or tables."""
        saved = {"n_epochs": state_dict.get("n_passes")} | state_dict  # as version 0.1 named it
        saved["to"] = "reinit" if saved["to"] == "draw" else saved["to"]
        here = {"below": self.below, "to": self.to, "seed": self._tables.seed}
        check_same(saved, here, "a Rewind", "this one has")
        records = [] if saved["index"] is None else self._new_records()
        n, n_saved = len(records), len(saved["records"])
        if n != n_saved:
            raise ValueError(f"the state is of {n_saved} tables, this Rewind has {n}")
        for record, state in zip(records, saved["records"]):
            record.load_state_dict(state)
        self._records, self._began = records, list(saved["began"])
        self.epoch, self._n_epochs, self._resumed = saved["index"], saved["n_epochs"], True
        self._tables.moments = saved.get("moments") or self._tables.moments
        self._listen()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_hook": None}  # the optimizer's copy has no hooks either

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._listen()

    def _new_records(self) -> list[Counts | UndoLog]:
        if self.below == 0 or (self.to == "reinit" and math.isinf(self.below)):
            return []  # no row or every row is reset, whatever the counts
        kind = Counts if self.to == "reinit" else UndoLog
        return [kind(table) for table in self._tables]

    def _listen(self) -> None:
        """Follows the optimizer's steps in epoch 0 only."""
        if self._hook is not None:
            self._hook.remove()
        listens = self.epoch == 0 and self._records
        self._hook = self._tables.optimizer.register_row_hook(self._record) if listens else None

    @torch.no_grad()
    def _record(self, table: Tensor, rows: Tensor, occurrences: Tensor) -> None:
        record = self._records[self._tables.place(table)]
        record.add(rows, occurrences, lambda: self._tables.values(table))

    def _reset(self) -> None:
        for k, table in enumerate(self._tables if self.below > 0 else ()):
            if self.to == "reinit":
                rows = self._records[k].rows(self.below) if self._records else None
                self._tables.redraw(table, rows, self._n_epochs)
                continue
            since = self._tables.step(table) - self._began[k]
            for rows, saved in self._records[k].put_back(self.below):
                for name, value in self._tables.values(table).items():
                    # A restored row has waited as long as when epoch 0 began.
                    before = saved[name] + since if name == "last_step" else saved[name]
                    value.index_copy_(0, rows, before)


def meda(model, optimizer, seed: int = 0, init: Init | None = None) -> Rewind:
    """Redraws every table before each repeated epoch: MEDA.

    Under continual training this discards what earlier days taught the tables; `meda_restored` and
    `meda_groups` are two other readings of MEDA.
    """
    return Rewind(model, optimizer, math.inf, "reinit", seed, init)


def meda_restored(model, optimizer) -> Rewind:
    """Restores every touched row to its state before the day: MEDA for continual training."""
    return Rewind(model, optimizer, math.inf, "start")


def tail_rewind(
    model, optimizer, below: float, to: str = "start", seed: int = 0, init: Init | None = None
) -> Rewind:
    """Resets only the rows that the data touches fewer than `below` times.

    "start" suits continual training, where a row holds what earlier days taught it. On a fixed
    window it restores the very draw that training began with; "reinit" draws anew, as MEDA does.
    """
    return Rewind(model, optimizer, below, to, seed, init)

"""MEDA's continual form: a set of tables for each epoch index, carried from day to day."""

from typing import Any

import torch
from torch import Tensor, nn

from multiepoch.optim.sparse import TableOptimizer
from multiepoch.remedies.tables import Init, Tables, check_not_grown, check_same


class TableGroups:
    """Trains one group of tables for each epoch index, together with one dense network.

    Group 0 is the model's own; each other group is drawn when its epoch first begins. The group of
    the current epoch is in the model; the others wait with their optimizer's row state, so the
    memory is `n_epochs` times that of one group. Evaluate after the last epoch, with the group it
    trained. All groups share FAL's counts, since all have seen the same data.

    The arguments are those of `Rewind`, and the number of epochs over each part of the data.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: TableOptimizer,
        n_epochs: int,
        seed: int = 0,
        init: Init | None = None,
    ) -> None:
        if n_epochs < 1:
            raise ValueError(f"n_epochs={n_epochs} must be 1 or more")
        self.n_epochs = n_epochs
        self._tables = Tables(model, optimizer, seed, init)
        self._tables.check_moments()
        self._index = 0  # of the group in the model
        self._waiting: dict[int, list[dict[str, Tensor]]] = {}  # by index: values of each table

    @torch.no_grad()
    def before_epoch(self, index: int) -> None:
        """Swaps the tables of epoch `index` into the model; ValueError if there are none."""
        if not 0 <= index < self.n_epochs:
            raise ValueError(f"before_epoch({index}): the groups are 0 to {self.n_epochs - 1}")
        if index == self._index:
            return
        for table, values in zip(self._tables, self._waiting.get(index, ())):
            check_not_grown(table, len(values["weight"]), "TableGroups")
        arriving = self._waiting.pop(index, None)
        leaving = self._waiting[self._index] = []
        for k, table in enumerate(self._tables):
            values, step = self._tables.values(table), self._tables.step(table)
            # Last steps are kept relative to the present one, so that no row ages while it waits.
            away = {name: value.clone() for name, value in values.items()}
            if "last_step" in away:
                away["last_step"] -= step
            leaving.append(away)
            if arriving is None:
                self._tables.redraw(table, None, index)
                continue
            for name, value in values.items():
                value.copy_(arriving[k][name] + step if name == "last_step" else arriving[k][name])
            arriving[k] = {}  # frees its memory before the next table is copied
        self._index = index

    @property
    def n_bytes(self) -> int:
        """The memory of the waiting groups, in bytes."""
        tables = (table for group in self._waiting.values() for table in group)
        return sum(value.nbytes for table in tables for value in table.values())

    def state_dict(self) -> dict[str, Any]:
        """Copies the waiting groups; the active one is in the states of model and optimizer."""
        waiting = {i: [_copied(values) for values in group] for i, group in self._waiting.items()}
        sizes = {"n_epochs": self.n_epochs, "seed": self._tables.seed}
        moments = list(self._tables.moments)
        return sizes | {"index": self._index, "waiting": waiting, "moments": moments}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores a saved state; raises a ValueError if it has other arguments or tables."""
        here = {"n_epochs": self.n_epochs, "seed": self._tables.seed}
        check_same(state_dict, here, "table groups", "these have")
        shapes = [_shapes(self._tables.values(table)) for table in self._tables]
        for index, group in state_dict["waiting"].items():
            if [_shapes(values) for values in group] != shapes:
                raise ValueError(f"group {index} of the state has tables of other shapes or rule")
        self._waiting = {
            index: [_copied(values, table.device) for values, table in zip(group, self._tables)]
            for index, group in state_dict["waiting"].items()
        }
        self._index = state_dict["index"]
        self._tables.moments = state_dict.get("moments") or self._tables.moments


def _copied(values: dict[str, Tensor], device: torch.device | None = None) -> dict[str, Tensor]:
    return {name: value.to(device or value.device, copy=True) for name, value in values.items()}


def _shapes(values: dict[str, Tensor]) -> dict[str, tuple]:
    return {name: (value.dtype, tuple(value.shape)) for name, value in values.items()}


meda_groups = TableGroups  # MEDA for continual training, named like the other remedies

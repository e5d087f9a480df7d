"""MEDA's continual form: a set of tables for each epoch index, carried from day to day."""

import torch
from torch import Tensor, nn

from multiepoch.optim.sparse import TableOptimizer
from multiepoch.remedies.tables import Init, Tables, check_not_grown


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


meda_groups = TableGroups  # MEDA for continual training, named like the other remedies

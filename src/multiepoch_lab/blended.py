"""Blended serving: what a row had learned before a reset is served until it has learned it anew.

Just after a reset the rows know nothing, and within a tenth of an epoch the dense layers have
adapted to that, so a model that is served then is worse for a while. Training needs the reset, but
serving does not. So the model is trained as ever, and served with what it was before::

    served = share * trained + (1 - share) * old
    share of a row = min(1, its lookups since the reset / its lookups in epoch 0)
    share of the dense layers = the same, summed over all rows that were reset
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from multiepoch.optim import SparseOptimizer
from multiepoch.remedies import Rewind
from multiepoch.remedies.row_counts import DenseCounts
from multiepoch.remedies.tables import Tables


class Blended:
    """Resets rows as a `Rewind` does, and serves them blended with what they were."""

    def __init__(self, model: nn.Module, optimizer: SparseOptimizer, rewind: Rewind) -> None:
        self.rewind, self.tables = rewind, Tables(model, optimizer, seed=0, init=None)
        self.counts: list[DenseCounts] = []  # of lookups in epoch 0
        self.since: list[DenseCounts] = []  # of lookups since the reset; empty before the first
        self.rows: list[Tensor] = []  # by table, those that are reset, (k,)
        self.old: list[Tensor] = []  # what they were, (k, dim), and the dense tensors
        self.hook: RemovableHandle | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"hook": None}  # the optimizer's copy has no hooks either

    def _count(self, table: Tensor, rows: Tensor, occurrences: Tensor) -> None:
        (self.since or self.counts)[self.tables.place(table)].add(rows, occurrences.int())

    @torch.no_grad()
    def before_epoch(self, index: int) -> None:
        if index == 0:  # new data begins with the model as it is served
            if self.since:
                self._write(self._served())
            self.counts, self.since = self._zeros(), []
        else:
            if not self.since:
                every = (counts.all() for counts in self.counts)
                self.rows = [rows[n < self.rewind.below] for rows, n in every]
            self.old, self.since = self._served() if self.since else self._trained(), self._zeros()
        self.rewind.before_epoch(index)
        if self.hook is None:
            self.hook = self.tables.follow(self._count)

    def new_data(self) -> None:
        self.rewind.new_data()

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Puts what is served into the model, and at exit what is trained, bit for bit."""
        if not self.since:
            yield
            return
        with torch.no_grad():
            trained = self._trained()
            self._write(self._served())
            try:
                yield
            finally:
                self._write(trained)

    def _zeros(self) -> list[DenseCounts]:
        return [DenseCounts(table) for table in self.tables]

    def _trained(self) -> list[Tensor]:
        rows = [table.detach()[of] for table, of in zip(self.tables, self.rows)]
        return rows + [tensor.detach().clone() for tensor in self.tables.others()]

    def _served(self) -> list[Tensor]:
        of = zip(self.rows, self.since, self.counts)
        seen = [(since.of(rows), counts.of(rows)) for rows, since, counts in of]
        shares: list = [(since / counts).clamp(max=1)[:, None] for since, counts in seen]
        since, counts = (sum(int(one.sum()) for one in several) for several in zip(*seen))
        shares += [min(1.0, since / counts) if counts else 1.0] * len(self.tables.others())
        return [old.lerp(new, by) for old, new, by in zip(self.old, self._trained(), shares)]

    def _write(self, values: list[Tensor]) -> None:
        for table, rows, value in zip(self.tables, self.rows, values):
            table.detach()[rows] = value
        for tensor, value in zip(self.tables.others(), values[len(self.rows) :]):
            tensor.detach().copy_(value)

    @property
    def n_bytes(self) -> int:
        """The memory of the rows that are reset, with 16 bytes for the counts of each."""
        kept = sum(one.nbytes for one in self.old) + 16 * sum(map(len, self.rows))
        return self.rewind.n_bytes + kept

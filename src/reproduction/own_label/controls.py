"""Chapter 9's controls, which no one should train by: what each shows is in the chapter."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from multiepoch.methods import TAU
from multiepoch.remedies import TwoFoldTables
from reproduction.remedies.remedy import Remedy, hook
from reproduction.remedies.sum_rows import SumRows


class SumRule(SumRows):
    """Tail rewind under the rule of `SumRows`.

    Every row adds up all gradients, no vote is kept, and infrequent rows return to their start
    before each repeated epoch. Arguments as there, without `exclude` and `votes`.
    """

    def __init__(self, model, optimizer, below: float = 100, c: float = 0.1) -> None:
        super().__init__(model, optimizer, below, exclude=False, c=c)

    def before_epoch(self, index: int) -> None:
        for rows in self._rows if index > 0 else ():
            few = rows.count < self.below
            rows.total[few], rows.square[few] = 0, 0
            rows.module.weight.detach()[few] = rows.start[few]
        super().before_epoch(index)

    def _kept(self, rows: Any, impressions: Tensor, votes: Tensor) -> Tensor:
        return votes


class TwoPassTables(TwoFoldTables):
    """Two-fold tables in two passes.

    Evaluation reads the mean of the copies, so that no third one must learn, and rows with `below`
    or more lookups in epoch 0, in which one label weighs little, are shared from epoch 1 on: they
    learn in the first pass, with the dense layers. Which rows these are is known only after epoch
    0, so the copies are of whole tables all the same.
    """

    def __init__(self, model, optimizer, below: float) -> None:
        super().__init__(model, optimizer)
        self.below, self._index, self._n_passes = float(below), 0, 0
        tables = list(self._tables)
        self._counts = [torch.zeros(len(t), dtype=torch.int32, device=t.device) for t in tables]
        self._read: dict[int, Tensor] = {}  # by table: the ids of the pass

    def before_epoch(self, index: int) -> None:
        super().before_epoch(index)
        if (index == 0) != (self._index == 0):
            self._share(begin=index > 0)
        self._index = index
        if index == 0:
            for counts in self._counts:
                counts.zero_()

    def backward(self, impressions: Tensor, closure: Callable[[], Any]) -> Any:
        """Calls the closure twice, and returns what it returns out of fold."""
        self._n_passes, self._read = 0, {}

        def one_pass() -> Any:
            self._n_passes += 1
            return closure()

        return super().backward(impressions, one_pass)

    @torch.no_grad()
    def _learn_own(self, closure: Callable[[], Any], result: Any, gradients: list) -> Any:
        """Writes the mean of the copies into the model's own tables, for the rows of the pass."""
        for k, table in enumerate(self._tables):
            if k not in self._read:
                continue
            if self._index == 0:
                self._counts[k] += torch.bincount(self._read[k], minlength=len(table))
            ids = self._read[k].unique()
            ids = ids[~self._is_shared(k, ids)]
            table[ids] = torch.stack([copy[ids] for copy in self.copies[k]]).mean(dim=0)
        for p, gradient in zip([*self._dense, *self._tables], gradients):
            p.grad = gradient
        return result

    @torch.no_grad()
    def _share(self, begin: bool) -> None:
        """Gives frequent rows the mean of their copies, or the copies what these rows became."""
        for table, pair, counts in zip(self._tables, self.copies, self._counts):
            rows = (counts >= self.below).nonzero()[:, 0]
            own = {"weight": table.detach(), **self._tables.optimizer.row_state(table)}
            for name, value in own.items():
                copies = [
                    copy.detach() if name == "weight" else self._optimizer.row_state(copy)[name]
                    for copy in pair
                ]
                if begin:
                    value[rows] = torch.stack([copy[rows] for copy in copies]).mean(dim=0)
                else:
                    for copy in copies:
                        copy[rows] = value[rows]

    def _is_shared(self, k: int, ids: Tensor) -> Tensor:
        """Says which of the ids' rows, (n,), have no copies of their own."""
        if self._index == 0:
            return torch.zeros_like(ids, dtype=torch.bool)
        return self._counts[k][ids] >= self.below

    def _sources(self, module, k: int, ids: Tensor, reader: Tensor) -> list[tuple[Tensor, Tensor]]:
        self._read[k], shared = ids, self._is_shared(k, ids)
        own = module.weight if self._n_passes == 1 else module.weight.detach()
        copies = super()._sources(module, k, ids, reader)
        return [(copy, reads & ~shared) for copy, reads in copies] + [(own, shared)]

    @property
    def n_bytes(self) -> int:
        return super().n_bytes + sum(counts.nbytes for counts in self._counts)

    def state_dict(self) -> dict[str, Any]:
        counts = [counts.clone() for counts in self._counts]
        return super().state_dict() | {"index": self._index, "counts": counts}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._index, self._counts = state_dict["index"], [c.clone() for c in state_dict["counts"]]


CONTROLS: dict[str, Remedy] = {
    # Its rows are sums, so its rates are 30 times as high.
    "leave_one_out": Remedy(
        "leave-one-out rows", remedy=hook(SumRows), **TAU, scale=lambda _: 30.0
    ),
    "leave_one_out_bf16": Remedy(
        "leave-one-out rows, bfloat16 votes", remedy=hook(SumRows, votes=torch.bfloat16), **TAU
    ),
    "leave_one_out_int8": Remedy(
        "leave-one-out rows, 8-bit votes", remedy=hook(SumRows, votes=torch.int8), **TAU
    ),
    "sum_rule": Remedy("tail rewind, sum rule", remedy=hook(SumRule), **TAU),
    # The rule of "leave_one_out" with the leak.
    "in_sample": Remedy("in-sample rows", remedy=hook(SumRows, exclude=False), **TAU),
    "two_fold_tail": Remedy("two-fold tables, two passes", remedy=hook(TwoPassTables), **TAU),
}

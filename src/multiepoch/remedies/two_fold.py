"""Two-fold tables: dense layers that learn from rows which never saw the impression's label.

This is the second control that leaks nothing, by another way than `leave_one_out`: the impressions
fall into two folds, and each fold has tables that learn from the other one only, as out-of-fold
statistics do in target encoding. What no row has seen, no dense layer can learn to trust.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from multiepoch.optim.embedding import EmbeddingOptimizer
from multiepoch.optim.sparse import SparseOptimizer
from multiepoch.remedies.tables import Tables, check_not_grown, check_same, embeddings


class TwoFoldTables:
    """Trains two copies of every table on a fold each, and the dense layers out of fold.

    Even impressions are fold 0, odd ones fold 1. Each batch takes three forward and backward
    passes: the dense layers learn on fold k through copy k, which learns from the other fold only;
    the copies learn with the dense layers held fixed; and so do the model's own tables, from all
    impressions. These are the ones that evaluation reads. The model needs no change; the calls are
    those of `LeaveOneOutRows`. The memory is twice the tables and their optimizer's state.

    With `below`, two passes do. Evaluation then reads the mean of the copies, so that no third one
    must learn, and rows with `below` or more lookups in epoch 0, in which one label weighs little,
    are shared from epoch 1 on: they learn in the first pass, with the dense layers. Which rows
    these are is known only after epoch 0, so the copies are of whole tables all the same.

    Args:
        model: The module of the tables, each used by one `nn.Embedding`.
        optimizer: The `EmbeddingOptimizer` of the tables, or the `SparseOptimizer` with it. The
            copies learn by its rule and options, and at its present learning rate.
        below: None for three passes, or the threshold of the two passes, in lookups.

    Raises:
        ValueError: If a table is not looked up by one `nn.Embedding` of the model.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: EmbeddingOptimizer | SparseOptimizer,
        below: float | None = None,
    ) -> None:
        self.below, self._index = below, 0
        self._tables = Tables(model, optimizer, 0, None)
        counted = self._tables if below is not None else ()
        self._counts = [torch.zeros(len(t), dtype=torch.int32, device=t.device) for t in counted]
        tables = {id(table) for table in self._tables}
        self._dense = [p for p in model.parameters() if id(p) not in tables]
        self.copies: list[tuple[Tensor, Tensor]] = []  # by table
        self._copy_of: Tensor | None = None  # which copy each impression of the pass reads, (n,)
        self._shared_learn = True  # in this pass
        self._read: dict[int, Tensor] = {}  # by table: the ids of the pass
        for k, module in enumerate(embeddings(model, self._tables)):
            start = module.weight.detach()
            self.copies.append((start.clone().requires_grad_(), start.clone().requires_grad_()))
            module.register_forward_hook(lambda m, args, _, k=k: self._look_up(m, k, *args))
        groups, copies = [], iter(self.copies)
        for group in self._tables.optimizer.param_groups:
            options = {k: v for k, v in group.items() if k not in ("params", "param_names")}
            params = [copy for _ in group["params"] for copy in next(copies)]
            groups.append(options | {"params": params})
        self._optimizer = EmbeddingOptimizer(groups, lr=0.0)

    def before_epoch(self, index: int) -> None:
        """Announces the epoch to the copies; frequent rows are shared from epoch 1 on."""
        self._optimizer.set_epoch(index)
        if (index == 0) != (self._index == 0) and self.below is not None:
            self._share(self.below, begin=index > 0)
        self._index = index
        if index == 0:
            for counts in self._counts:
                counts.zero_()

    def backward(self, impressions: Tensor, closure: Callable[[], Any]) -> Any:
        """Calls the closure three times, and steps the copies.

        Args:
            impressions: The impressions of the batch, int64 (n,), numbered as in earlier epochs.
            closure: Clears the gradients, computes the loss of the batch in this order, and calls
                `backward` on it.

        Returns:
            What the closure returns with the model's own tables or, in two passes, out of fold.
        """
        fold, learned, self._read = impressions % 2, [*self._dense, *self._tables], {}
        try:
            self._copy_of, self._shared_learn = fold, True
            result = closure()
            self._optimizer.zero_grad()  # this pass is for the dense layers and shared rows alone
            gradients = [p.grad for p in learned]
            for p in learned:
                p.grad = None
            self._copy_of, self._shared_learn = 1 - fold, False
            with _held(self._dense):
                closure()
        finally:
            self._copy_of = None
        for mine, theirs in zip(self._optimizer.param_groups, self._tables.optimizer.param_groups):
            mine["lr"] = theirs["lr"]
        self._optimizer.step()
        self._optimizer.zero_grad()
        if self.below is None:
            learned = self._dense
            with _held(self._dense):
                result = closure()
        else:
            self._serve()
        for p, gradient in zip(learned, gradients):
            p.grad = gradient
        return result

    @torch.no_grad()
    def _serve(self) -> None:
        """Writes the mean of the copies into the model's own tables, for the rows of the pass."""
        for k, table in enumerate(self._tables):
            if k not in self._read:
                continue
            if self._index == 0:
                self._counts[k] += torch.bincount(self._read[k], minlength=len(table))
            ids = self._read[k].unique()
            ids = ids[~self._is_shared(k, ids)]
            table[ids] = torch.stack([copy[ids] for copy in self.copies[k]]).mean(dim=0)

    @torch.no_grad()
    def _share(self, below: float, begin: bool) -> None:
        """Gives frequent rows the mean of their copies, or the copies what these rows became."""
        for table, pair, counts in zip(self._tables, self.copies, self._counts):
            rows = (counts >= below).nonzero()[:, 0]
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
        """Returns whether the rows of the ids have no copies of their own, as ids, (n, ...)."""
        if self.below is None or self._index == 0:
            return torch.zeros_like(ids, dtype=torch.bool)
        return self._counts[k][ids] >= self.below

    def _look_up(self, module: nn.Embedding, k: int, ids: Tensor) -> Tensor | None:
        """Returns the rows of the ids, (n, ..., dim), each from the copy its impression reads."""
        if self._copy_of is None:
            return None
        check_not_grown(module.weight, len(self.copies[k][0]), "TwoFoldTables")
        if len(ids) != len(self._copy_of):
            raise ValueError(
                f"table {k} gets ids of shape {tuple(ids.shape)}: TwoFoldTables needs one entry "
                f"for each of the {len(self._copy_of)} impressions"
            )
        parts, places = [], []
        self._read[k] = ids.reshape(-1)
        # Read from the copies, or from the table if there may be shared rows.
        shared, n = self._is_shared(k, ids), 2 if self.below is None else 3
        reader = self._copy_of.reshape(-1, *[1] * (ids.dim() - 1)).expand_as(ids)
        own = module.weight if self._shared_learn else module.weight.detach()
        for which, rows in enumerate((*self.copies[k], own)[:n]):
            reads = shared if which == 2 else ~shared & (reader == which)
            at = reads.reshape(-1).nonzero()[:, 0]
            # Only the ids of its own impressions: others would be rows with a gradient of zero.
            parts.append(F.embedding(self._read[k][at], rows, module.padding_idx, sparse=True))
            places.append(at)
        return torch.cat(parts)[torch.cat(places).argsort()].reshape(*ids.shape, -1)

    @property
    def n_bytes(self) -> int:
        """The memory of the copies and of their optimizer's state, in bytes."""
        state = (value for one in self._optimizer.state.values() for value in one.values())
        copies = (copy for pair in self.copies for copy in pair)
        return sum(tensor.nbytes for tensor in (*copies, *state, *self._counts))

    def state_dict(self) -> dict[str, Any]:
        """Returns the state as copies; it can be saved in the middle of an epoch, too."""
        copies = [[copy.detach().clone() for copy in pair] for pair in self.copies]
        counts = [counts.clone() for counts in self._counts]
        given = {"below": self.below, "index": self._index, "counts": counts}
        return given | {"copies": copies, "optimizer": self._optimizer.state_dict()}

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores a saved state; raises a ValueError if it is of tables of other shapes."""
        check_same(state_dict, {"below": self.below}, "TwoFoldTables", "these have")
        saved = state_dict["copies"]
        shapes = [[copy.shape for copy in pair] for pair in self.copies]
        if [[copy.shape for copy in pair] for pair in saved] != shapes:
            raise ValueError("the state is of tables of other shapes")
        self._optimizer.load_state_dict(state_dict["optimizer"])
        for pair, values in zip(self.copies, saved):
            for copy, value in zip(pair, values):
                copy.copy_(value)
        self._index, self._counts = state_dict["index"], [c.clone() for c in state_dict["counts"]]


@contextmanager
def _held(parameters: Sequence[Tensor]) -> Iterator[None]:
    """Saves the time for the gradients of parameters that do not learn in a pass."""
    learning = [p for p in parameters if p.requires_grad]
    for p in learning:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in learning:
            p.requires_grad_()

"""Two-fold tables: dense layers that learn from rows which never saw the impression's label.

A control that leaks nothing: each of two folds of the impressions has tables that learn from the
other one only, as out-of-fold statistics do in target encoding.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from multiepoch.optim.embedding import EmbeddingOptimizer
from multiepoch.optim.sparse import TableOptimizer
from multiepoch.remedies.tables import Tables, check_not_grown, embeddings


class TwoFoldTables:
    """Trains two copies of every table on a fold each, and the dense layers out of fold.

    Even impressions are fold 0, odd ones fold 1. Each batch takes three forward and backward
    passes: the dense layers learn on fold k through copy k, which learns from the other fold only;
    the copies learn with the dense layers held fixed; and so do the model's own tables, from all
    impressions, which evaluation reads. The calls are those of `LeaveOneOutRows`. The memory is
    twice the tables and their optimizer's state.

    Args:
        model: The module of the tables, each used by one `nn.Embedding`.
        optimizer: The `EmbeddingOptimizer` of the tables, or the `SparseOptimizer` with it. The
            copies learn by its rule and options, and at its present learning rate.

    Raises:
        ValueError: If a table is not looked up by one `nn.Embedding` of the model.
    """

    def __init__(self, model: nn.Module, optimizer: TableOptimizer) -> None:
        self._tables = Tables(model, optimizer, 0, None)
        tables = {id(table) for table in self._tables}
        self._dense = [p for p in model.parameters() if id(p) not in tables]
        self.copies: list[Tensor] = []  # by table, (2 n_rows, dim): copy 0 and then copy 1
        self._copy_of: Tensor | None = None  # which copy each impression of the pass reads, (n,)
        for k, module in enumerate(embeddings(self._tables)):
            self.copies.append(module.weight.detach().repeat(2, 1).requires_grad_())
            module.register_forward_hook(lambda m, args, _, k=k: self._look_up(m, k, *args))
        groups, copies = [], iter(self.copies)
        for group in self._tables.optimizer.param_groups:
            options = {k: v for k, v in group.items() if k not in ("params", "param_names")}
            groups.append(options | {"params": [next(copies) for _ in group["params"]]})
        self._optimizer = EmbeddingOptimizer(groups, lr=0.0)

    def before_epoch(self, index: int) -> None:
        """Announces the epoch to the copies."""
        self._optimizer.set_epoch(index)

    def backward(self, impressions: Tensor, closure: Callable[[], Any]) -> Any:
        """Calls the closure three times, steps the copies, and returns what the last call returns.

        The arguments are those of `LeaveOneOutRows.backward`.
        """
        fold, learned = impressions % 2, [*self._dense, *self._tables]
        try:
            self._copy_of = fold
            closure()
            self._optimizer.zero_grad()  # this pass is for the dense layers alone
            gradients = [p.grad for p in self._dense]
            for p in learned:
                p.grad = None
            self._copy_of = 1 - fold
            with _held(self._dense):
                closure()
        finally:
            self._copy_of = None
        for mine, theirs in zip(self._optimizer.param_groups, self._tables.optimizer.param_groups):
            mine["lr"] = theirs["lr"]
        self._optimizer.step()
        self._optimizer.zero_grad()
        with _held(self._dense):
            result = closure()  # for the model's own tables
        for p, gradient in zip(self._dense, gradients):
            p.grad = gradient
        return result

    def _look_up(self, module: nn.Embedding, k: int, ids: Tensor) -> Tensor | None:
        """Returns the rows of the ids, (n, ..., dim), each from the copy its impression reads."""
        if self._copy_of is None:
            return None
        n_rows = len(self.copies[k]) // 2
        check_not_grown(module.weight, n_rows, "TwoFoldTables")
        if len(ids) != len(self._copy_of):
            needed = f"one entry for each of the {len(self._copy_of)} impressions"
            found = f"table {k} gets ids of shape {tuple(ids.shape)}"
            raise ValueError(f"{found}: TwoFoldTables needs {needed}")
        rows = ids + n_rows * self._copy_of.reshape(-1, *[1] * (ids.dim() - 1))
        if module.padding_idx is not None:  # never trained, so that one copy has both's
            rows[ids == module.padding_idx] = module.padding_idx
        return F.embedding(rows, self.copies[k], module.padding_idx, sparse=True)

    @property
    def n_bytes(self) -> int:
        """The memory of the copies and of their optimizer's state, in bytes."""
        state = (value for one in self._optimizer.state.values() for value in one.values())
        return sum(tensor.nbytes for tensor in (*self.copies, *state))


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

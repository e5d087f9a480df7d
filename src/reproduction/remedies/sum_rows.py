"""Leave-one-out rows that are sums of gradients, as the record of claim C18 has them.

`multiepoch.remedies.LeaveOneOutRows` has another rule.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from multiepoch.optim.embedding import EmbeddingOptimizer
from multiepoch.optim.sparse import SparseOptimizer
from multiepoch.remedies.tables import Tables, embeddings


class SumRows:
    """Learns every table by sums over impressions, and leaves an impression's own share out.

    A row is a function of G and S, the sums of its impressions' gradients and of their squares::

        row = start - lr * G / sqrt(S + c)

    An impression of an infrequent row has one vote: when it comes again, its earlier gradient g is
    replaced, not added to. Its forward pass reads the row of G - g and S - g^2, that is without its
    own vote. Taking g out of G alone is not enough: S then still tells its size. A frequent row
    adds up all gradients and excludes none. The tables' optimizer gives the learning rate and
    nothing else; evaluation reads the full rows. A trace of second order stays: the gradients of a
    row's other impressions were taken on rows that held this one's.

    Args:
        model: The module of the tables, each an `nn.Embedding` that a forward pass calls once, with
            ids of shape (n,).
        optimizer: The `EmbeddingOptimizer` of the tables, or the `SparseOptimizer` with it.
        below: A row is infrequent with fewer lookups than this in epoch 0.
        c: Added to S; in squared units of one impression's gradient.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: EmbeddingOptimizer | SparseOptimizer,
        below: float = 100,
        c: float = 0.1,
    ) -> None:
        self.below, self.c = below, c
        self._tables = Tables(model, optimizer, 0, None)
        self._rows = [_Rows(module) for module in embeddings(model, self._tables)]
        self._impressions: Tensor | None = None  # of the current pass; None while evaluating
        self._read: dict[int, tuple[Tensor, Tensor]] = {}  # by table: ids and rows of the pass
        self._index = 0
        for k, rows in enumerate(self._rows):
            rows.module.register_forward_hook(lambda _, args, out, k=k: self._look_up(k, *args))

    def before_epoch(self, index: int) -> None:
        """Starts new data before epoch 0: what was voted stays, and its voters are forgotten."""
        self._index = index
        for rows in self._rows if index == 0 else ():
            rows.count.zero_()
            rows.votes = rows.votes[:0]

    def backward(self, impressions: Tensor, closure: Callable[[], Any]) -> Any:
        """Calls the closure once on rows without the own votes, then lets the impressions vote.

        Args:
            impressions: The impressions of the batch, int64 (n,), numbered as in earlier epochs.
            closure: Clears the gradients, computes the mean loss of the batch in this order, and
                calls `backward` on it.

        Returns:
            What the closure returns.
        """
        self._impressions, self._read = impressions, {}
        try:
            result = closure()
        finally:
            self._impressions = None
        with torch.no_grad():
            for k, (ids, read) in self._read.items():
                if read.grad is not None:
                    self._vote(k, impressions, ids, len(impressions) * read.grad)
        return result

    @torch.no_grad()
    def _look_up(self, k: int, ids: Tensor) -> Tensor | None:
        """Returns the rows of the ids, (n, dim), each without the vote of its own impression."""
        if self._impressions is None:
            return None
        rows = self._rows[k]
        own = rows.own(self._impressions, ids, self.below)[0]
        read = rows.value(self._lr(k), self.c, ids, own).requires_grad_()
        self._read[k] = ids, read
        return read

    def _vote(self, k: int, impressions: Tensor, ids: Tensor, gradient: Tensor) -> None:
        rows = self._rows[k]
        if rows.module.padding_idx is not None:
            gradient[ids == rows.module.padding_idx] = 0
        before, infrequent = rows.own(impressions, ids, self.below)
        rows.votes[impressions[infrequent]] = gradient[infrequent]
        rows.total.index_add_(0, ids, gradient - before)
        rows.square.index_add_(0, ids, gradient.square() - before.square())
        if self._index == 0:
            rows.count += torch.bincount(ids, minlength=len(rows.count))
        ids = ids.unique()
        rows.module.weight.detach()[ids] = rows.value(self._lr(k), self.c, ids)

    def _lr(self, k: int) -> float:
        table = self._rows[k].module.weight
        groups = self._tables.optimizer.param_groups
        return next(g["lr"] for g in groups if any(p is table for p in g["params"]))

    @property
    def n_bytes(self) -> int:
        """The memory of the sums, the votes and the counts, in bytes."""
        kept = (t for r in self._rows for t in (r.start, r.total, r.square, r.count, r.votes))
        return sum(tensor.nbytes for tensor in kept)


class _Rows:
    """The sums of one table, and the votes of the impressions they are made of."""

    def __init__(self, module: nn.Embedding) -> None:
        self.module = module
        self.start = module.weight.detach().clone()  # (n_rows, dim)
        self.total = torch.zeros_like(self.start)  # G
        self.square = torch.zeros_like(self.start)  # S
        self.count = torch.zeros(len(self.start), dtype=torch.int64, device=self.start.device)
        self.votes = self.start.new_zeros(0, self.start.shape[1])  # by impression

    def own(self, impressions: Tensor, ids: Tensor, below: float) -> tuple[Tensor, Tensor]:
        """Returns the votes to replace, (n, dim), 0 in a frequent row, and which rows are not."""
        if (n := int(impressions.max()) + 1) > len(self.votes):
            more = max(n, 2 * len(self.votes)) - len(self.votes)
            self.votes = torch.cat([self.votes, self.votes.new_zeros(more, self.votes.shape[1])])
        infrequent = self.count[ids] < below
        return self.votes[impressions] * infrequent[:, None], infrequent

    def value(self, lr: float, c: float, ids: Tensor, without: Tensor | float = 0.0) -> Tensor:
        """Returns the rows, (n, dim), without a part of the votes."""
        total = self.total[ids] - without
        square = (self.square[ids] - without**2).clamp(min=0)  # rounding may take it below
        return self.start[ids] - lr * total / (square + c).sqrt()

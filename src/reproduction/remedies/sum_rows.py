"""Leave-one-out rows that are sums of gradients, as the board and the controls have them.

The committed records are of this rule; `multiepoch.remedies.LeaveOneOutRows` has another.

After one epoch, an infrequent row holds the label of each of its few impressions, and in the next
epoch the dense layers learn to trust it. This control takes that away and nothing else: when an
impression is predicted again, its own contribution is left out of its rows. If the loss then no
longer jumps at the start of a repeated epoch, the jump was labels that rows have seen.

UWSR (Lettich and Gupta, arXiv 2609.34083) gives the same explanation and tests it by other
interventions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from multiepoch.optim.embedding import EmbeddingOptimizer
from multiepoch.optim.sparse import SparseOptimizer
from multiepoch.remedies.tables import Tables, check_not_grown, check_same, embeddings


class SumRows:
    """Learns every table by sums over impressions, and leaves an impression's own share out.

    A row is a function of G and S, the sums of its impressions' gradients and of their squares::

        row = start - lr * G / sqrt(S + c)

    An impression of an infrequent row has one vote: when it comes again, its earlier gradient g is
    replaced, not added to. Its forward pass reads the row of G - g and S - g^2, that is without its
    own vote. Taking g out of G alone is not enough: S then still tells its size. A frequent row
    adds up all gradients and excludes none. The tables' optimizer gives the learning rate and
    nothing else; the model needs no change. For each batch::

        rows = SumRows(model, optimizer)
        rows.before_epoch(index)  # before each epoch

        def closure():
            optimizer.zero_grad()
            loss = loss_of(model(ids, dense), labels)  # a mean over the batch
            loss.backward()
            return loss

        rows.backward(impressions, closure)  # impressions: int64 (n,), the same in every epoch
        optimizer.step()

    Evaluation reads the full rows. The memory is three times the tables and, for each table, four
    bytes per impression and one vector for each of its lookups of an infrequent row. A trace of
    second order stays: the gradients of a row's other impressions were taken on rows that held this
    one's.

    Args:
        model: The module of the tables, each an `nn.Embedding` that a forward pass calls once, with
            ids of shape (n,).
        optimizer: The `EmbeddingOptimizer` of the tables, or the `SparseOptimizer` with it.
        below: A row is infrequent with fewer lookups than this in epoch 0.
        exclude: False keeps an impression's own vote in its rows: the same rule with the leak.
        c: Added to S; in squared units of one impression's gradient.
        votes: The type that votes are kept in: torch.float32, torch.bfloat16 or torch.int8, which
            takes one scale (4 bytes) per vote. A vote counts as it is kept, so that taking it out
            of a row leaves nothing.

    Raises:
        ValueError: If a table is not looked up by one `nn.Embedding` of the model, or an argument
            is not one of those above.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: EmbeddingOptimizer | SparseOptimizer,
        below: float = 100,
        exclude: bool = True,
        c: float = 0.1,
        votes: torch.dtype = torch.float32,
    ) -> None:
        if votes not in (torch.float32, torch.bfloat16, torch.int8):
            raise ValueError(f"votes={votes} must be torch.float32, torch.bfloat16 or torch.int8")
        self.below, self.exclude, self.c = below, exclude, c
        self._tables = Tables(model, optimizer, 0, None)
        self._rows = [_Rows(module, votes) for module in embeddings(model, self._tables)]
        self._impressions: Tensor | None = None  # of the current pass; None while evaluating
        self._read: dict[int, tuple[Tensor, Tensor]] = {}  # by table: ids and rows of the pass
        self._index = 0
        for k, rows in enumerate(self._rows):
            rows.module.register_forward_hook(lambda _, args, out, k=k: self._look_up(k, *args))

    def before_epoch(self, index: int) -> None:
        """Starts new data before epoch 0: what was voted stays, and its voters are forgotten."""
        self._index = index
        for rows in self._rows:
            if index == 0:
                rows.count.zero_()
                rows.votes.clear()
            rows.votes.trim()

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
        rows, n = self._rows[k], len(self._impressions)
        check_not_grown(rows.module.weight, len(rows.start), "SumRows")
        if ids.shape != (n,) or k in self._read:
            what = "is called twice in one pass" if k in self._read else f"gets {tuple(ids.shape)}"
            raise ValueError(
                f"table {k}, of shape {tuple(rows.start.shape)}, {what}: SumRows needs "
                f"one call with one id for each of the {n} impressions"
            )
        own = self._own(rows, self._impressions, ids)[0] if self.exclude else 0.0
        read = rows.value(self._lr(k), self.c, ids, own).requires_grad_()
        self._read[k] = ids, read
        return read

    def _vote(self, k: int, impressions: Tensor, ids: Tensor, gradient: Tensor) -> None:
        rows = self._rows[k]
        if rows.module.padding_idx is not None:
            gradient[ids == rows.module.padding_idx] = 0
        before, infrequent = self._own(rows, impressions, ids)
        at = infrequent.nonzero()[:, 0]
        gradient[at] = self._kept(rows, impressions[at], gradient[at])
        rows.total.index_add_(0, ids, gradient - before)
        rows.square.index_add_(0, ids, gradient.square() - before.square())
        if self._index == 0:
            rows.count += torch.bincount(ids, minlength=len(rows.count))
        ids = ids.unique()
        rows.module.weight.detach()[ids] = rows.value(self._lr(k), self.c, ids)

    def _own(self, rows: _Rows, impressions: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the votes to replace, (n, dim), 0 in a frequent row, and which rows are not."""
        infrequent = rows.count[ids] < self.below
        return rows.votes.of(impressions) * infrequent[:, None], infrequent

    def _kept(self, rows: _Rows, impressions: Tensor, votes: Tensor) -> Tensor:
        """Keeps the votes, (n, dim), of impressions in infrequent rows; returns them as kept."""
        return rows.votes.keep(impressions, votes)

    def _lr(self, k: int) -> float:
        table = self._rows[k].module.weight
        groups = self._tables.optimizer.param_groups
        return next(g["lr"] for g in groups if any(p is table for p in g["params"]))

    @property
    def n_bytes(self) -> int:
        """The memory of the sums, the votes and the counts, in bytes."""
        return sum(tensor.nbytes for rows in self._rows for tensor in rows.state().values())

    def state_dict(self) -> dict[str, Any]:
        """Returns the state as copies; it can be saved in the middle of an epoch, too."""
        rows = [{k: v.clone() for k, v in rows.state().items()} for rows in self._rows]
        return self._given() | {"index": self._index, "rows": rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores a saved state; raises a ValueError if it has other arguments or tables."""
        check_same(state_dict, self._given(), "SumRows", "these have")
        for rows, saved in zip(self._rows, state_dict["rows"], strict=True):
            if saved["start"].shape != rows.start.shape:
                raise ValueError("the state is of tables of other shapes")
            rows.load(saved)
        self._index = state_dict["index"]

    def _given(self) -> dict[str, Any]:
        given = {name: getattr(self, name) for name in ("below", "exclude", "c")}
        return given | {"votes": [str(rows.votes.vectors.dtype) for rows in self._rows]}


class _Votes:
    """The latest vote of each impression, as far as it is kept.

    `at` has the place of an impression's vote, int32 (n_impressions,); place 0 is for those that
    have none and holds zeros. `scale` is used by 8-bit votes alone.
    """

    def __init__(self, like: Tensor, dtype: torch.dtype) -> None:
        self.dim, self.n = like.shape[1], 1
        self.at = torch.zeros(0, dtype=torch.int32, device=like.device)
        self.vectors = torch.zeros(1, self.dim, dtype=dtype, device=like.device)
        self.scale = torch.ones(int(dtype == torch.int8), 1, device=like.device)

    def clear(self) -> None:
        self.n, self.at = 1, self.at[:0]

    def trim(self) -> None:
        """Gives back the room that is not used."""
        self.vectors, self.scale = self.vectors[: self.n].clone(), self.scale[: self.n].clone()

    def of(self, impressions: Tensor) -> Tensor:
        """Returns the votes, float32 (n, dim); zeros where there are none."""
        if (n := int(impressions.max()) + 1) > len(self.at):
            self.at = _longer(self.at, max(n, 2 * len(self.at)))
        return self._read(self.at[impressions].long())

    def keep(self, impressions: Tensor, votes: Tensor) -> Tensor:
        """Replaces the votes of impressions that `of` was asked for; returns them as kept."""
        new = impressions[self.at[impressions] == 0]
        if (n := self.n + len(new)) > len(self.vectors):
            self.vectors = _longer(self.vectors, 2 * n)
            self.scale = _longer(self.scale, 2 * n) if len(self.scale) else self.scale
        self.at[new] = torch.arange(self.n, n, dtype=torch.int32, device=new.device)
        self.n, at = n, self.at[impressions].long()
        if len(self.scale):
            self.scale[at] = votes.abs().amax(dim=1, keepdim=True).clamp(min=1e-30) / 127
            votes = (votes / self.scale[at]).round()
        self.vectors[at] = votes.to(self.vectors.dtype)
        return self._read(at)

    def _read(self, at: Tensor) -> Tensor:
        votes = self.vectors[at].float()
        return votes * self.scale[at] if len(self.scale) else votes


def _longer(values: Tensor, n: int) -> Tensor:
    return torch.cat([values, values.new_zeros(n - len(values), *values.shape[1:])])


class _Rows:
    """The sums of one table, and the votes they are made of."""

    def __init__(self, module: nn.Embedding, votes: torch.dtype) -> None:
        self.module = module
        self.start = module.weight.detach().clone()  # (n_rows, dim)
        self.total = torch.zeros_like(self.start)  # G
        self.square = torch.zeros_like(self.start)  # S
        self.count = torch.zeros(len(self.start), dtype=torch.int64, device=self.start.device)
        self.votes = _Votes(self.start, votes)

    def value(self, lr: float, c: float, ids: Tensor, without: Tensor | float = 0.0) -> Tensor:
        """Returns the rows, (n, dim), without a part of the votes."""
        total = self.total[ids] - without
        square = (self.square[ids] - without**2).clamp(min=0)  # rounding may take it below
        return self.start[ids] - lr * total / (square + c).sqrt()

    def state(self) -> dict[str, Tensor]:
        names = ("start", "total", "square", "count")
        votes = {name: getattr(self.votes, name) for name in ("at", "vectors", "scale")}
        return {name: getattr(self, name) for name in names} | votes

    def load(self, state: dict[str, Tensor]) -> None:
        for name, value in state.items():
            of = self if hasattr(self, name) else self.votes
            setattr(of, name, value.to(self.start.device, copy=True))
        self.votes.n = 1 + int(torch.cat([self.votes.at, self.votes.at.new_zeros(1)]).max())

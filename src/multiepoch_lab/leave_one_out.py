"""Rows that leave an impression's own label out, so that a repeated epoch reads no label twice.

After one epoch, an infrequent row holds the label of each of its few impressions, and in the next
epoch the dense layers learn to trust it. Here each impression reads its rows without the changes
that it made to them itself. UWSR (Lettich and Gupta, arXiv 2609.34083) gives the same explanation
and lowers the dense layers' reliance on such rows instead.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from multiepoch.optim.sparse import TableOptimizer
from multiepoch.remedies.tables import Tables, check_not_grown, embeddings, named

_SLOWEST = 1000  # steps over which the mean square of a table is taken
# What a row of no votes counts already: the first few votes move it less than Adagrad's would.
EARLIER = 4.0


class LeaveOneOutRows:
    """Trains tables on votes: an impression's latest change of a row, which it does not read.

    A lookup changes its row by ::

        vote = -lr * g / sqrt(m * (n + 4))

    where g is the gradient of its impression's loss, m the mean square of such gradients in the
    table, weight by weight, over the last thousand steps, and n the votes of the row. No term but g
    depends on the labels of the row, so that an impression's vote is all that tells its label. When
    the impression comes again, it reads its rows without its votes, and its new votes replace them.
    They weigh what the votes of a first epoch do on average, 2 * (sqrt(n + 4) - 2) / n in place of
    1 / sqrt(n + 4). In a frequent row, votes add up and are not kept. The tables' optimizer gives
    the learning rate and nothing else. Scaling the loss changes nothing::

        rows = LeaveOneOutRows(model, optimizer)
        for index in range(n_epochs):
            rows.before_epoch(index)
            for impressions, ids, labels in data:  # impressions: int64 (n,), the same every epoch

                def closure():
                    optimizer.zero_grad()
                    loss = loss_of(model(ids), labels)  # a mean over the impressions
                    loss.backward()
                    return loss

                rows.backward(impressions, closure)  # changes the tables
                optimizer.step()  # changes the dense layers

    A second-order trace stays: the neighbours of an impression voted on rows that held its vote.
    That the dense layers fit it is not tested. Evaluation reads the full rows. New data (epoch 0)
    keep what was voted and forget by whom. A vote takes 4 dim + 1 bytes for each impression.

    Args:
        model: The module of the tables, each float32, and looked up by one `nn.Embedding` once in
            an impression. It is on one process and not compiled.
        optimizer: The `EmbeddingOptimizer` of the tables, or the `SparseOptimizer` with it.
        below: A row keeps votes while it has fewer than this.

    Raises:
        ValueError: If a table or an option of the optimizer is not one of those above.
    """

    def __init__(self, model: nn.Module, optimizer: TableOptimizer, below: float = 100) -> None:
        if not below >= 0:
            raise ValueError(f"below={below} must be a number of votes, 0 or more, or math.inf")
        if dist.is_initialized() and dist.get_world_size() > 1:
            raise ValueError("LeaveOneOutRows trains on one process: train without others")
        self.below, tables = float(below), Tables(model, optimizer, 0, None)
        self._optimizer = tables.optimizer
        for group in self._optimizer.param_groups:
            names = ("row_lr", "row_decay", "weight_decay")
            if others := ", ".join(f"{name}={group[name]!r}" for name in names if group[name]):
                own = "LeaveOneOutRows has a rule of its own"
                raise ValueError(f"{own}: build the tables' optimizer without {others}")
        self._tables = []
        for k, module in enumerate(embeddings(tables)):
            if module.weight.dtype != torch.float32:
                found = f"{named(k, module.weight)} is {module.weight.dtype}"
                raise ValueError(f"{found}, and must be torch.float32")
            for name in ("padding_idx", "max_norm"):
                if getattr(module, name) is not None:
                    has = f"{named(k, module.weight)} has {name}={getattr(module, name)}"
                    raise ValueError(f"{has}, which LeaveOneOutRows lacks: leave it out")
            self._tables.append(_VotedTable(module, self.below))

    def before_epoch(self, index: int) -> None:
        """Starts new data before epoch 0: what was voted stays, and its voters are forgotten."""
        for table in self._tables if index == 0 else ():
            table.forget()

    def backward(self, impressions: Tensor, closure: Callable[[], Any]) -> Any:
        """Calls the closure once, on rows without the impressions' own votes, and lets them vote.

        Args:
            impressions: The impressions of the batch, int64 (n,), numbered as in earlier epochs,
                from 0 on and without gaps.
            closure: Clears the gradients, computes the mean loss of the batch in this order, and
                calls `backward` on it.

        Returns:
            What the closure returns.
        """
        if impressions.dtype != torch.int64 or impressions.dim() != 1:
            given = f"{impressions.dtype} {tuple(impressions.shape)}"
            raise ValueError(f"impressions are int64 (n,), not {given}")
        ordered = impressions.sort().values
        if (ordered[:1] < 0).any() or (ordered[1:] == ordered[:-1]).any():
            raise ValueError("the impressions of a batch must be distinct, and none negative")
        # Hooks of one pass alone: the model may be copied, saved and evaluated meanwhile.
        handles = [table.leave_out(impressions) for table in self._tables]
        try:
            result = closure()
        finally:
            for handle in handles:
                handle.remove()
        for k, table in enumerate(self._tables):
            gradient = table.weight.grad
            if gradient is not None and not (gradient.is_sparse and gradient._nnz() == 0):
                remedy = "call its module, and neither compile the model nor add up gradients"
                found = f"{named(k, table.weight)} has a gradient of a lookup that was not seen"
                raise RuntimeError(f"{found}: {remedy}")
        for table in self._tables:
            table.vote(impressions, float(self._optimizer.options(table.weight)["lr"]))
        return result

    @property
    def n_bytes(self) -> int:
        """The memory of the votes and of the counts of rows, in bytes."""
        return sum(value.nbytes for table in self._tables for value in table.tensors().values())


class _VotedTable:
    """The table of a module, with the last vote of each impression, (n, dim)."""

    def __init__(self, module: nn.Embedding, below: float) -> None:
        self.module, self.below, self.steps = module, below, 0
        self.weight, device = module.weight, module.weight.device
        self.count = torch.zeros(len(self.weight), dtype=torch.int32, device=device)
        self.mean_square = torch.zeros(self.weight.shape[1], dtype=torch.float64, device=device)
        self.read: tuple[Tensor, Tensor] | None = None  # in a pass: ids, (n,), and rows, (n, dim)
        self.forget()

    def forget(self) -> None:
        self.votes = self.weight.new_zeros(0, self.weight.shape[1])
        self.voted = torch.zeros(0, dtype=torch.bool, device=self.weight.device)

    def tensors(self) -> dict[str, Tensor]:
        names = ("count", "mean_square", "votes", "voted")
        return {name: getattr(self, name) for name in names}

    def leave_out(self, impressions: Tensor) -> torch.utils.hooks.RemovableHandle:
        """Takes the votes of impressions out of what the module looks up until the hook is gone."""
        check_not_grown(self.weight, len(self.count), "LeaveOneOutRows")
        self.read, n = None, int(impressions.max()) + 1 if len(impressions) else 0
        if n > len(self.votes):
            more = max(n, 2 * len(self.votes)) - len(self.votes)
            try:
                votes = self.votes.new_zeros(more, self.votes.shape[1])
            except RuntimeError as error:
                remedy = "number them from 0 on, without gaps"
                raise ValueError(f"no room for votes of {n:,} impressions: {remedy}") from error
            self.votes = torch.cat([self.votes, votes])
            self.voted = torch.cat([self.voted, self.voted.new_zeros(more)])
        return self.module.register_forward_hook(
            lambda module, args, out: self._look_up(impressions, args, out)
        )

    @torch.no_grad()
    def _look_up(self, impressions: Tensor, args: tuple, out: Tensor) -> Tensor:
        name = f"the nn.Embedding of shape {tuple(self.weight.shape)}"
        if self.read is not None:
            once = "LeaveOneOutRows needs one lookup of each impression"
            raise ValueError(
                f"{name} is called twice in a pass, by the model or a checkpoint: {once}"
            )
        if type(out.grad_fn).__name__ != "EmbeddingBackward0":
            found = f"{name} returns something else than rows that get a gradient"
            remedy = "it must not scale them, have hooks, be frozen, or run in a checkpoint"
            raise ValueError(f"{found}: {remedy}")
        (ids,) = args
        if ids.shape != impressions.shape:
            needed = f"those of the {len(impressions)} of the batch, in its order"
            got = f"{name} gets ids of shape {tuple(ids.shape)}"
            raise ValueError(f"{got}: LeaveOneOutRows needs {needed}")
        own = self.votes.index_select(0, impressions.to(ids.device))
        self.read = ids, (out.detach() - own).requires_grad_()
        return self.read[1]

    @torch.no_grad()
    def vote(self, impressions: Tensor, lr: float) -> None:
        """Lets the lookups of a pass replace their votes, and change their rows."""
        if self.read is None or self.read[1].grad is None or len(impressions) == 0:
            return
        ids, gradient = self.read[0], len(impressions) * self.read[1].grad  # the loss is their mean
        self.read, at = None, impressions.to(ids.device)
        few, had, own = self.count[ids] < self.below, self.voted[at], self.votes[at]
        again = few & had
        self.count.index_add_(0, ids, (~again).int())
        self.steps += 1
        change = gradient.double().square().mean(dim=0) - self.mean_square
        self.mean_square += change / min(self.steps, _SLOWEST)
        rate = (lr / self.mean_square.clamp(min=1e-60).sqrt()).float()
        n = self.count[ids].float()
        root = (n + EARLIER).sqrt()
        weigh = torch.where(again, 2 * (root - EARLIER**0.5) / n, 1 / root)
        new = -weigh[:, None] * (rate * gradient)
        self.weight.index_add_(0, ids, new - own * again[:, None])
        # Of a row that has become frequent a vote stays, and is no longer known.
        self.votes[at], self.voted[at] = new * few[:, None], few

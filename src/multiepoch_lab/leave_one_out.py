"""Rows that leave an impression's own label out, so that a repeated epoch reads no label twice.

After one epoch, an infrequent row holds the label of each of its few impressions, and in the next
epoch the dense layers learn to trust it. Here each impression reads its rows without the changes
that it made to them itself. UWSR (Lettich and Gupta, arXiv 2609.34083) gives the same explanation
and lowers the dense layers' reliance on such rows instead.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from multiepoch.optim import compiled
from multiepoch.optim.checks import check_gradient
from multiepoch.optim.lookups import all_gather, concatenated, gradient_of
from multiepoch.optim.sparse import TableOptimizer
from multiepoch.remedies.tables import Tables, check_same
from multiepoch_lab.passes import Call, Module, Pass, modules_of
from multiepoch_lab.votes import Lookups, VotedTable, VoteStore

Where = Literal["memory", "column"] | Path


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

                rows.backward(impressions, closure)
                optimizer.step()

    Lower the dense learning rate to a tenth from the second epoch on: at a constant rate, the loss
    of an earlier rule crept up from epoch 4 on. A second-order trace stays: the neighbours of an
    impression voted on rows that held its vote. That the dense layers fit it is not tested.

    Between `backward` and `step`, gradients may be clipped by norm or unscaled. Several calls of
    `backward` without `zero_grad` accumulate. Evaluation reads the full rows. New data (epoch 0)
    keep what was voted and forget by whom. With several processes, build this before
    `DistributedDataParallel`, which then leaves the tables alone: on a CPU the processes take the
    step of one with all their batches, to rounding. An impression must come to the same process
    every epoch, unless its votes come with it.

    Args:
        model: The module of the tables, each the weight of `nn.Embedding` or `nn.EmbeddingBag`
            modules (sum or mean) alone, float32. A module may be called several times in a pass.
        optimizer: The `EmbeddingOptimizer` of the tables, or the `SparseOptimizer` with it.
        below: A row keeps votes while it has fewer than this.
        votes: Where votes are. "memory" keeps dim + 2 bytes for each lookup of an impression, and
            the Path of a folder keeps them in a file there, which ends with this object. With
            "column" they are a column of the data: `backward` is given the records of the batch,
            uint8 (n, width), in place of the impressions' numbers, zeros in epoch 0, and `step`
            writes the new ones over them.
        lookups: By module name, the most ids of one impression that it looks up; 1 where absent.
            An impression's ids must be in the same order every epoch.
        bits: 8, or 32 to keep votes whole, in 4 dim + 2 bytes. A vote counts as it is kept, so that
            taking it out of a row leaves nothing.

    Raises:
        ValueError: If a table or an option of the optimizer is not one of those above.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: TableOptimizer,
        below: float = 100,
        votes: Where = "memory",
        lookups: Mapping[str, int] | None = None,
        bits: int = 8,
    ) -> None:
        if bits not in (8, 32):
            raise ValueError(f"bits={bits} must be 8 or 32")
        if not below >= 0:
            raise ValueError(f"below={below} must be a number of votes, 0 or more, or math.inf")
        if votes not in ("memory", "column") and not isinstance(votes, Path):
            raise ValueError(f'votes={votes!r} must be "memory", "column" or the Path of a folder')
        if isinstance(model, DistributedDataParallel):
            raise ValueError("build LeaveOneOutRows before DistributedDataParallel wraps the model")
        self.below, self.bits = float(below), bits
        tables = Tables(model, optimizer, 0, None)
        self._optimizer = tables.optimizer
        for group in self._optimizer.param_groups:
            names = ("row_lr", "row_decay", "weight_decay", "maximize")
            if others := ", ".join(f"{name}={group[name]!r}" for name in names if group[name]):
                own = "LeaveOneOutRows has a rule of its own"
                raise ValueError(f"{own}: build the tables' optimizer without {others}")
        self._processes = dist.get_world_size() if dist.is_initialized() else 1
        together = all_gather if self._processes > 1 else lambda entries: entries
        self._tables = [VotedTable(table, below, bits, together) for table in tables]
        self._modules = modules_of(tables, lookups or {})
        self.width = 0  # of an impression's record, in bytes
        for one in self._modules:
            one.first, table = self.width, self._tables[one.k]
            self.width += one.slots * table.size
            table.slots += one.slots
        self.width += -self.width % 4
        folder = votes if isinstance(votes, Path) else None
        self._store = None if votes == "column" else VoteStore(self.width, folder)
        self._pass: Pass | None = None  # the one that runs
        self._passes: list[Pass] = []  # those that the next step waits for
        if self._processes > 1:
            _leave_alone(model, list(tables))
        self._handles = [
            # No partial, which a copy of the model would copy, with this object.
            one.module.register_forward_hook(
                lambda *call, one=one: self._look_up(one, *call), with_kwargs=True
            )
            for one in self._modules
        ]
        self._handles.append(self._optimizer.register_step_pre_hook(self._before_step))

    def before_epoch(self, index: int) -> None:
        """Starts new data before epoch 0: what was voted stays, and its voters are forgotten."""
        if index == 0 and self._store is not None:
            self._store.clear()

    def backward(self, impressions: Tensor, closure: Callable[[], Any]) -> Any:
        """Calls the closure once, on rows without the impressions' own votes.

        Args:
            impressions: The impressions of the batch, int64 (n,), numbered as in earlier epochs;
                with votes="column" their records, uint8 (n, width), which the step changes and
                which are on the tables' device.
            closure: Clears the gradients, computes the mean loss of the batch in this order, and
                calls `backward` on it.

        Returns:
            What the closure returns.
        """
        if self._store is not None:
            impressions = impressions.to(self._tables[0].weight.device)
        order = torch.arange(len(impressions), device=impressions.device)
        self._pass = now = Pass(self._records(impressions), impressions, order)
        try:
            result = closure()
        finally:
            self._pass = None
        self._collect(now)
        return result

    def _records(self, impressions: Tensor) -> Tensor:
        given = f"{impressions.dtype} {tuple(impressions.shape)}"
        if self._store is None:
            if impressions.dtype != torch.uint8 or impressions.shape[1:] != (self.width,):
                raise ValueError(f"records of votes are uint8 (n, {self.width}), not {given}")
            return impressions.contiguous()
        if impressions.dtype != torch.int64 or impressions.dim() != 1:
            raise ValueError(f"impressions are int64 (n,), not {given}")
        ordered = impressions.sort().values
        if (ordered[:1] < 0).any() or (ordered[1:] == ordered[:-1]).any():
            raise ValueError("the impressions of a batch must be distinct, and none negative")
        return self._store.of(impressions)

    @torch.no_grad()
    def _look_up(
        self, module: Module, _: nn.Module, args: tuple, kwargs: dict, out: Tensor
    ) -> Tensor | None:
        """Takes the own votes out of what a module has looked up."""
        now = self._pass
        if now is None or out.grad_fn is None:  # evaluation
            return None
        ids, who, slot, share = module.lookups(args, kwargs, now.order)
        used = now.used.get(module.name, 0)
        more = used + (1 if slot is None else int(slot.max()) + 1 if len(slot) else 0)
        if more > module.slots:
            room = f"there is room for the votes of {module.slots}"
            wanted = f"{room}: give lookups={{{module.name!r}: {more}}}"
            raise ValueError(f"{module.name} looks up {more} ids of one impression, and {wanted}")
        now.used[module.name] = more
        table = self._tables[module.k]
        at = who * self.width + (module.first + table.size * used)
        at = at if slot is None else at + table.size * slot
        place = who if isinstance(module.module, nn.EmbeddingBag) else None
        call = Call(module, ids, at, place, share, out.detach())
        table.leave_out(now.records, call, self._is_fused(table))
        now.calls.append(call)
        return call.read.requires_grad_()

    def _group(self, table: VotedTable) -> dict[str, Any]:
        groups = self._optimizer.param_groups
        return next(g for g in groups if any(p is table.weight for p in g["params"]))

    def _is_fused(self, table: VotedTable) -> bool:
        wanted = self._group(table)["fused"] is not False
        return wanted and compiled.usable(table.weight, table.weight)

    @torch.no_grad()
    def _collect(self, now: Pass) -> None:
        """Gives each table a gradient that lists the lookups of the passes since `zero_grad`."""
        grads = (table.weight.grad for table in self._tables)
        if all(grad is None or grad._nnz() == 0 for grad in grads):
            self._passes = []
            for table in self._tables:
                table.found = []
        first = sum(len(one.records) for one in self._passes) * self.width
        self._passes.append(now)
        for k, table in enumerate(self._tables):
            calls = [one for one in now.calls if one.module.k == k and one.read.grad is not None]
            if not calls:
                continue
            found = [one.gradients() for one in calls]
            ids, at, values = map(torch.cat, zip(*found)) if len(found) > 1 else found[0]
            n = values.new_full((len(ids), 1), len(now.records))
            table.found.append((ids, at + first, n))
            gradient = gradient_of(ids[None], values, table.weight.shape)
            earlier = table.weight.grad
            table.weight.grad = gradient if earlier is None else concatenated([earlier, gradient])
        now.calls = []

    @torch.no_grad()
    def _before_step(self, _: Any, args: tuple, kwargs: dict) -> None:
        """Takes the gradients from the optimizer and lets their lookups vote."""
        if any(one is not None for one in (*args[1:], *kwargs.values())):
            raise ValueError("give the closure to LeaveOneOutRows.backward, and none to step")
        if not (passes := self._passes):
            return
        # All tables are checked before the first changes; a step that was refused can be repeated.
        found = [self._lookups(k, table) for k, table in enumerate(self._tables)]
        self._passes = []
        parts = [one.records for one in passes]
        records = parts[0] if len(parts) == 1 else torch.cat(parts)
        for table, lookups in zip(self._tables, found):
            lr = float(self._group(table)["lr"])
            fused = self._processes == 1 and self._is_fused(table)
            table.vote(lookups, records, lr, fused)
            table.weight.grad, table.found = None, []
        for one, new in zip(passes, records.split([len(part) for part in parts])):
            if self._store is not None:
                self._store.replace(one.given, new)
            elif new is not one.given:
                one.given.copy_(new)

    def _lookups(self, k: int, table: VotedTable) -> Lookups:
        """Returns the lookups of table k since `zero_grad`."""
        weight, grad, found = table.weight, table.weight.grad, table.found
        if grad is None or (not found and grad.is_sparse and grad._nnz() == 0):
            none = torch.empty(0, dtype=torch.int64, device=weight.device)
            return Lookups(none, none, weight.new_empty(0, weight.shape[1]))
        if not found:
            remedy = "call its module, and build this before torch.compile has run the model"
            raise RuntimeError(f"table {k} has a gradient of no lookup that was seen: {remedy}")
        ids, at, n = map(torch.cat, zip(*found)) if len(found) > 1 else found[0]
        check_gradient(weight, grad, f"table {k}", self._group(table)["check_finite"])
        if not torch.equal(grad._indices()[0], ids):
            remedy = "clip it by norm, and do not coalesce it between backward and step"
            lost = f"the gradient of table {k} no longer lists the lookups of the batch"
            raise RuntimeError(f"{lost}: {remedy}")
        return Lookups(ids, at, grad._values() * n)

    def close(self) -> None:
        """Leaves the model and the optimizer as they would be without this object."""
        for handle in self._handles:
            handle.remove()

    @property
    def n_bytes(self) -> int:
        """The memory of the votes and of the counts of rows, in bytes, without that of a file."""
        counts = sum(table.count.nbytes for table in self._tables)
        return counts + (self._store.n_bytes if self._store is not None else 0)

    def state_dict(self) -> dict[str, Any]:
        """Returns the state; it can be saved in the middle of an epoch, too.

        Votes in a file are mapped, not read into memory, so save them before the next step. Those
        of votes="column" are the caller's.
        """
        votes = None if self._store is None else self._store.state()
        return self._given() | {"tables": [table.state() for table in self._tables], "votes": votes}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores a saved state; raises a ValueError if it has other arguments or tables."""
        check_same(state_dict, self._given(), "LeaveOneOutRows", "these have")
        of_each = (one["count"].shape + one["mean_square"].shape for one in state_dict["tables"])
        saved, here = [*map(tuple, of_each)], [tuple(table.weight.shape) for table in self._tables]
        if saved != here:
            raise ValueError(f"the state is of tables of shapes {saved}, these have {here}")
        for table, one in zip(self._tables, state_dict["tables"]):
            table.load(one)
        if self._store is not None:
            self._store.load(state_dict["votes"])
        self._passes = []

    def __getstate__(self) -> dict[str, Any]:
        remedy = "build one for the copy of the model, and give it the state_dict of this one"
        # The hooks of a copied model would call this object.
        raise TypeError(f"LeaveOneOutRows cannot be copied or pickled: {remedy}")

    def _given(self) -> dict[str, Any]:
        given = {name: getattr(self, name) for name in ("below", "bits", "width")}
        lookups = {one.name: one.slots for one in self._modules}
        return given | {"lookups": lookups, "column": self._store is None}


def _leave_alone(model: nn.Module, tables: list[Tensor]) -> None:
    """Makes DistributedDataParallel leave the tables alone; all take those of process 0."""
    every = model.named_parameters(remove_duplicate=False)
    names = {name for name, p in every if any(p is table for table in tables)}
    ignored = {*getattr(model, "_ddp_params_and_buffers_to_ignore", ()), *names}
    model._ddp_params_and_buffers_to_ignore = ignored  # type: ignore[assignment]
    for table in tables:
        dist.broadcast(table.detach(), 0)

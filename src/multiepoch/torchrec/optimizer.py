"""FAL, AdamAR, weight decay and rates by group around the fused optimizers of a sharded model.

A fused optimizer updates rows during the backward pass, by w_old - lr * direction, so that FAL,
AdamAR and decoupled weight decay can be applied afterwards::

    w <- keep * w_old + factor * (w_new - w_old)

The rows that a batch looks up are copied before the lookup and corrected in `step`. This is exact
for each rule whose state does not depend on the rate, as in SGD, Adagrad and row-wise Adagrad.
"""

from collections import OrderedDict
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from torchrec.distributed import DistributedModelParallel
from torchrec.optim.keyed import CombinedOptimizer, KeyedOptimizer, KeyedOptimizerWrapper
from torchrec.optim.optimizers import in_backward_optimizer_filter

from multiepoch.optim import compiled, eager
from multiepoch.optim.adamar import AdaptiveRegularization
from multiepoch.optim.embedding import EmbeddingOptimizer, RowHook
from multiepoch.optim.fal import FrequencyAdaptiveLR
from multiepoch.optim.lookups import gradient_of
from multiepoch.optim.memory import use_huge_pages, zeros
from multiepoch.remedies.tables import Init
from multiepoch.torchrec.shards import Shard, find_shards
from multiepoch.torchrec.tables import ShardedTables


class ShardedOptimizer(CombinedOptimizer):
    """Steps the fused optimizers, the data-parallel tables and the dense part of a model together.

    The groups of all of them are in `param_groups`, for torch's schedulers that multiply each rate
    (`LinearLR`, `LambdaLR`, ...). The rate of a fused table takes effect at the next lookup. States
    are keyed by fully qualified names.

    Each step must follow one forward and one backward pass, on all processes of the default group.

    Args:
        model: A `DistributedModelParallel` whose sharded tables have a fused optimizer
            (`apply_optimizer_in_backward`, and compute_kernel="fused" in the plan).
        dense: Builds the optimizer of the dense parameters from their list.
        row_lr, row_decay: FAL and AdamAR, for all tables, or None.
        data_parallel: Options of the `EmbeddingOptimizer` of the data-parallel tables, with "lr".
        weight_decay: Decoupled, for all tables, as that of `EmbeddingOptimizer`. Leave it out of
            the fused optimizer's options and of `data_parallel`.

    Raises:
        ValueError: If a table cannot be trained like this; see `find_shards`.
    """

    def __init__(
        self,
        model: DistributedModelParallel,
        dense: Callable[[list[nn.Parameter]], torch.optim.Optimizer],
        row_lr: FrequencyAdaptiveLR | None = None,
        row_decay: AdaptiveRegularization | None = None,
        data_parallel: dict[str, Any] | None = None,
        weight_decay: float = 0.0,
    ) -> None:
        if not 0 <= weight_decay < float("inf"):
            raise ValueError(f"weight_decay={weight_decay} must be a number of 0 or more")
        self.model, self.row_lr, self.row_decay = model, row_lr, row_decay
        self.weight_decay = weight_decay
        self.shards, self.epoch, self.n_steps = find_shards(model), 0, 0
        self._row_hooks: OrderedDict[int, RowHook] = OrderedDict()
        # Of this step: the rate at the lookup, and the rows that are corrected.
        self._touched: dict[Shard, tuple[float, eager.Kept | None]] = {}
        device = self.shards[0].weight.device
        self.max_count = torch.zeros(len(self.shards), dtype=torch.int32, device=device)
        for shard, max_count in zip(self.shards, self.max_count):
            for rows in (shard.weight, *shard.state.values()):
                use_huge_pages(rows, written=True)
            of_rows = (len(shard.weight),), torch.int32, device
            if row_lr is not None:
                shard.fal = {"count": zeros(*of_rows), "max_count": max_count}
            if row_decay is not None:
                shard.state["last_step"] = zeros(*of_rows)
        self.replicated: _ReplicatedTables | None = None
        optimizers: list[KeyedOptimizer] = [model.fused_optimizer]
        if any(shard.replicated for shard in self.shards):
            if data_parallel is None:
                raise ValueError("the model has data-parallel tables: give data_parallel={'lr': …}")
            self.replicated = _ReplicatedTables(self.shards, data_parallel)
            optimizers.append(self.replicated)
        tables = {shard.name for shard in self.shards}
        others = dict(in_backward_optimizer_filter(model.named_parameters()))
        others = {name: parameter for name, parameter in others.items() if name not in tables}
        self.dense = KeyedOptimizerWrapper(others, dense)
        super().__init__([*optimizers, self.dense])
        for kernel in {shard.kernel for shard in self.shards if shard.kernel is not None}:
            kernel.register_forward_pre_hook(self._before_lookup)
        model.register_forward_hook(self._after_forward)
        self._sent: list[dist.Work] = []  # collective calls that the backward pass hides

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch, counted from 0, for `FrequencyAdaptiveLR(gap_decay=...)`."""
        self.epoch = epoch

    def register_row_hook(self, hook: RowHook) -> RemovableHandle:
        """Calls hook(weight, rows, occurrences) with each batch's local rows before they change."""
        handle = RemovableHandle(self._row_hooks)
        self._row_hooks[handle.id] = hook
        return handle

    def tables(self, model: nn.Module, seed: int, init: Init | None) -> ShardedTables:
        """Returns the tables as the remedies see them; `Rewind` calls this."""
        return ShardedTables(self, seed, init)

    def rates(self) -> dict[str, float]:
        """Returns the learning rate of each parameter of this process, by name."""
        rate = {id(p): group["lr"] for group in self.param_groups for p in group["params"]}
        return {name: rate[id(p)] for name, p in self.params.items()}

    def set_progress(self, n_steps: int, epoch: int, rates: dict[str, float]) -> None:
        """Continues after `n_steps`, once a checkpoint has filled the tensors; collective."""
        self.n_steps, self.epoch = n_steps, epoch
        names = {id(p): name for name, p in self.params.items()}
        for group in self.param_groups:
            for p in group["params"][:1]:
                group["lr"] = rates[names[id(p)]]
        if self.replicated is not None:
            for state in self.replicated.embedding.state.values():
                state["step"].fill_(n_steps)
        if self.row_lr is not None:
            self.max_count.zero_()
            for shard in self.shards:
                if len(shard.weight) > 0:
                    shard.fal["max_count"].copy_(shard.fal["count"].max())
            dist.all_reduce(self.max_count, dist.ReduceOp.MAX)

    def _before_lookup(self, kernel: Any, inputs: tuple) -> None:
        """Finds the rows of a batch, and copies them; does nothing within torch.no_grad()."""
        if not torch.is_grad_enabled():
            return
        features = inputs[0]
        shards = [shard for shard in self.shards if shard.kernel is kernel]
        if not shards[0].replicated:
            kernel.fused_optimizer.step()  # which sets the rate of the group, and nothing else
            if not (self._corrects or self._row_hooks):
                return
        waiting = [*self._touched, *(self.replicated.occurrences if self.replicated else ())]
        if any(shard in waiting for shard in shards):
            remedy = "call step() after each backward pass, and evaluate within torch.no_grad()"
            raise RuntimeError(f"a second lookup for training before step(): {remedy}")
        ends = [0, *features.offset_per_key()[1:]]
        for shard in shards:
            first, last = shard.features
            ids = features.values()[ends[first] : ends[last]].long()
            if self.replicated is not None and shard.replicated:
                self.replicated.occurrences[shard] = torch.bincount(ids, minlength=shard.n_rows)
            else:
                self._touch(shard, *_distinct(ids, shard))

    def _after_forward(self, *_: Any) -> None:
        """Sends counts to the other processes; every process comes here, and in the same order."""
        if not torch.is_grad_enabled():
            return
        if self.replicated is not None:
            self._sent += self.replicated.send()
        if self.row_lr is not None:
            most = dist.all_reduce(self.max_count, dist.ReduceOp.MAX, async_op=True)
            self._sent.append(most)

    @property
    def _corrects(self) -> bool:
        return self.row_lr is not None or self.row_decay is not None or self.weight_decay > 0

    def _options(self, lr: float) -> dict[str, Any]:
        options = {name: getattr(self, name) for name in ("row_lr", "row_decay", "weight_decay")}
        return options | {"epoch": self.epoch, "lr": lr}

    @torch.no_grad()
    def _touch(self, shard: Shard, rows: Tensor, occurrences: Tensor) -> None:
        for hook in tuple(self._row_hooks.values()):
            hook(shard.weight, rows, occurrences)
        of_table: Any = self.replicated if shard.replicated else shard.kernel.fused_optimizer
        lr, kept = of_table.param_groups[0]["lr"], None
        if self._corrects:
            options = self._options(lr)
            kept = _kernels(shard).keep_rows(options, shard.weight, shard.fal, rows, occurrences)
        self._touched[shard] = lr, kept

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        """Updates all that the backward pass has not, and corrects the rows that it has."""
        while self._sent:
            self._sent.pop().wait()
        if self.replicated is not None:
            for shard, rows, occurrences in self.replicated.gathered():
                self._touch(shard, rows, occurrences)
        super().step(closure)
        self.n_steps += 1
        for shard, (lr, kept) in self._touched.items():
            if kept is not None:
                state, options = shard.fal | shard.state, self._options(lr)
                _kernels(shard).correct_rows(options, shard.weight, state, kept, self.n_steps)
        self._touched.clear()


def _kernels(shard: Shard) -> ModuleType:
    return compiled if compiled.usable(shard.weight, shard.weight) else eager


def _distinct(ids: Tensor, shard: Shard) -> tuple[Tensor, Tensor]:
    """Returns the rows in `ids` and how often each is there, (k,)."""
    fast = _kernels(shard) is compiled
    found = compiled.distinct_rows(ids, len(shard.weight)) if fast else None
    return ids.unique(return_counts=True) if found is None else found


class _ReplicatedTables(KeyedOptimizer):
    """The `EmbeddingOptimizer` of the data-parallel tables, whose gradients arrive dense."""

    def __init__(self, shards: list[Shard], options: dict[str, Any]) -> None:
        self.tables = {s: nn.Parameter(s.weight) for s in shards if s.replicated}
        self.occurrences: dict[Shard, Tensor] = {}  # of this process, int64 (n_rows,)
        self.embedding = EmbeddingOptimizer(list(self.tables.values()), **options)
        for shard, table in self.tables.items():
            shard.state |= self.embedding.row_state(table)
        params = {shard.name: table for shard, table in self.tables.items()}
        super().__init__(params, self.embedding.state, self.embedding.param_groups)

    def send(self) -> list[dist.Work]:
        """Begins to sum each row's lookups over all processes; collective."""
        for shard in self.tables:
            if shard not in self.occurrences:
                self.occurrences[shard] = shard.weight.new_zeros(shard.n_rows, dtype=torch.int64)
        return [dist.all_reduce(self.occurrences[shard], async_op=True) for shard in self.tables]

    def gathered(self) -> list[tuple[Shard, Tensor, Tensor]]:
        """Returns each table's rows and their lookups on all processes."""
        found = []
        for shard, lookups in self.occurrences.items():
            rows = lookups.nonzero().squeeze(1)
            found.append((shard, rows, lookups[rows]))
            name = shard.name.split(".")[-2]
            gradient = dict(shard.kernel.named_parameters_by_table())[name].grad
            if gradient is not None:
                values = gradient.index_select(0, rows)
                self.tables[shard].grad = gradient_of(rows[None], values, gradient.shape)
        self.occurrences = {}
        return found

    def step(self, closure: Any = None) -> None:
        self.embedding.step()
        self.embedding.zero_grad()

    def zero_grad(self, set_to_none: bool = True) -> None:
        for kernel in {shard.kernel for shard in self.tables}:
            kernel.emb_module.weights.grad = None

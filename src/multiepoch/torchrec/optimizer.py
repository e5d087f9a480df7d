"""FAL, AdamAR, weight decay and rates by group around the fused optimizers of a sharded model.

A fused optimizer updates rows during the backward pass, by w_old - lr * direction, so that FAL,
AdamAR and decoupled weight decay can be applied afterwards::

    w <- keep * w_old + factor * (w_new - w_old)

The rows that a batch looks up are copied when its backward pass reaches them and corrected in
`step`. This is exact for each rule whose state does not depend on the rate, as in SGD, Adagrad and
row-wise Adagrad.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import asdict
from types import ModuleType
from typing import Any, NoReturn

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from torchrec.distributed import DistributedModelParallel
from torchrec.optim.keyed import CombinedOptimizer, KeyedOptimizerWrapper
from torchrec.optim.optimizers import in_backward_optimizer_filter

from multiepoch.optim import compiled, eager
from multiepoch.optim.adamar import AdaptiveRegularization
from multiepoch.optim.embedding import RowHook
from multiepoch.optim.fal import FrequencyAdaptiveLR
from multiepoch.optim.memory import use_huge_pages, zeros
from multiepoch.remedies.tables import Init
from multiepoch.torchrec.shards import Shard, find_shards
from multiepoch.torchrec.tables import ShardedTables


class ShardedOptimizer(CombinedOptimizer):
    """Steps the fused optimizers and the dense part of a model together.

    The groups of all of them are in `param_groups`, for torch's schedulers that multiply each rate
    (`LinearLR`, `LambdaLR`, ...). The rate of a fused table takes effect at the next lookup.

    Each step must follow one backward pass, on all processes of the default group. A batch whose
    backward pass is left out leaves no trace. What a backward pass has moved, `zero_grad` cannot
    take back: it skips the rest of the step.

    Args:
        model: A `DistributedModelParallel` whose sharded tables have a fused optimizer
            (`apply_optimizer_in_backward`, and compute_kernel="fused" in the plan).
        dense: Builds the optimizer of the dense parameters from their list.
        row_lr, row_decay: FAL and AdamAR, for all tables, or None.
        weight_decay: Decoupled, for all tables, as that of `EmbeddingOptimizer`. Leave it out of
            the fused optimizer's options.
        initial_accumulator_value: As that of `EmbeddingOptimizer`, for all tables; a value or, by
            the tables' names, a mapping. FBGEMM itself has none.

    Raises:
        ValueError: If a table cannot be trained like this; see `find_shards`.
    """

    def __init__(
        self,
        model: DistributedModelParallel,
        dense: Callable[[list[nn.Parameter]], torch.optim.Optimizer],
        row_lr: FrequencyAdaptiveLR | None = None,
        row_decay: AdaptiveRegularization | None = None,
        weight_decay: float = 0.0,
        initial_accumulator_value: float | Mapping[str, float] = 0.0,
    ) -> None:
        if not 0 <= weight_decay < float("inf"):
            raise ValueError(f"weight_decay={weight_decay} must be a number of 0 or more")
        self.model, self.row_lr, self.row_decay = model, row_lr, row_decay
        self.weight_decay = weight_decay
        self.shards, self.epoch, self.n_steps = find_shards(model), 0, 0
        self._row_hooks: OrderedDict[int, RowHook] = OrderedDict()
        # Since the last step: the rate at the lookup, and the rows that are corrected.
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
        self._start_accumulators(initial_accumulator_value)
        others = dict(in_backward_optimizer_filter(model.named_parameters()))
        self._dense = dense(list(others.values()))
        self.dense = KeyedOptimizerWrapper(others, lambda _: self._dense)
        super().__init__([model.fused_optimizer, self.dense])
        for kernel in {shard.kernel for shard in self.shards if shard.kernel is not None}:
            kernel.register_forward_pre_hook(self._before_lookup)
            kernel.register_forward_hook(self._after_lookup)

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
        """Returns the learning rate of each table of this process, by name."""
        rate = {id(p): group["lr"] for group in self.param_groups for p in group["params"]}
        tables = {shard.name for shard in self.shards}
        return {name: rate[id(p)] for name, p in self.params.items() if name in tables}

    def arguments(self) -> dict[str, Any]:
        """Returns what must be the same where a saved run goes on."""
        found: dict[str, Any] = {shard.name: shard.options for shard in self.shards}
        for name in ("row_lr", "row_decay"):
            found[name] = None if getattr(self, name) is None else asdict(getattr(self, name))
        return found | {"weight_decay": self.weight_decay, "dense": type(self._dense).__name__}

    def dense_state(self) -> dict[str, Any]:
        """Returns the state of the optimizer that `dense` built."""
        return self._dense.state_dict()

    def load_dense_state(self, state: dict[str, Any]) -> None:
        """Loads what `dense_state` returned."""
        self._dense.load_state_dict(state)
        self.dense.state, self.dense.param_groups = self._dense.state, self._dense.param_groups

    def set_progress(self, n_steps: int, epoch: int, rates: dict[str, float]) -> None:
        """Continues after `n_steps`, once a checkpoint has filled the tensors; collective."""
        self.n_steps, self.epoch = n_steps, epoch
        names = {id(p): name for name, p in self.params.items()}
        for group in self.param_groups:
            for p in group["params"][:1]:
                group["lr"] = rates.get(names[id(p)], group["lr"])
        if self.row_lr is not None:
            self.max_count.zero_()
            for shard in self.shards:
                if len(shard.weight) > 0:
                    shard.fal["max_count"].copy_(shard.fal["count"].max())
            dist.all_reduce(self.max_count, dist.ReduceOp.MAX)

    def state_dict(self) -> NoReturn:
        """Refuses: no process has the state of whole tables."""
        remedy = "save a ShardedState with torch.distributed.checkpoint"
        raise RuntimeError(f"a ShardedOptimizer's state is spread over the processes: {remedy}")

    load_state_dict: Any = state_dict

    def _start_accumulators(self, values: float | Mapping[str, float]) -> None:
        names = [shard.table for shard in self.shards]
        by_table = values if isinstance(values, Mapping) else dict.fromkeys(names, values)
        if by_table.keys() != set(names):
            wrong = f"initial_accumulator_value is for {[*by_table]}"
            raise ValueError(f"{wrong}: give one value, or one for each of {sorted(set(names))}")
        for shard in self.shards:
            start = by_table[shard.table]
            wrong = f"initial_accumulator_value={start} of table {shard.table!r}"
            if not 0 <= start < float("inf"):
                raise ValueError(f"{wrong} must be a number of 0 or more")
            if start and "sum" not in shard.state:
                raise ValueError(f"{wrong}: its rule {shard.options['rule']!r} has no accumulators")
            shard.options["initial_accumulator_value"] = float(start)
            if start:
                shard.state["sum"].fill_(start)

    def _before_lookup(self, kernel: Any, inputs: tuple) -> None:
        """Sets the rate of a kernel's group, which is all that a fused optimizer's step does."""
        if torch.is_grad_enabled():
            kernel.fused_optimizer.step()

    def _after_lookup(self, kernel: Any, inputs: tuple, vectors: Tensor) -> None:
        """Has the backward pass find the rows of a batch just before it moves them."""
        if vectors.requires_grad:
            lr = kernel.fused_optimizer.param_groups[0]["lr"]
            vectors.register_hook(lambda _: self._before_update(kernel, inputs[0], lr))

    @torch.no_grad()
    def _before_update(self, kernel: Any, features: Any, lr: float) -> None:
        if not (self._corrects or self._row_hooks):
            return
        ends = [0, *features.offset_per_key()[1:]]
        for shard in self.shards:
            if shard.kernel is not kernel:
                continue
            if shard in self._touched:
                remedy = "call step() after each backward pass, and look each table up once in it"
                raise RuntimeError(f"a second backward pass of a table before step(): {remedy}")
            first, last = shard.features
            ids = features.values()[ends[first] : ends[last]].long()
            self._touch(shard, *_distinct(ids, shard), lr)

    @property
    def _corrects(self) -> bool:
        return self.row_lr is not None or self.row_decay is not None or self.weight_decay > 0

    def _options(self, lr: float) -> dict[str, Any]:
        options = {name: getattr(self, name) for name in ("row_lr", "row_decay", "weight_decay")}
        return options | {"epoch": self.epoch, "lr": lr}

    def _touch(self, shard: Shard, rows: Tensor, occurrences: Tensor, lr: float) -> None:
        for hook in tuple(self._row_hooks.values()):
            hook(shard.weight, rows, occurrences)
        kept = None
        if self._corrects:
            options = self._options(lr)
            kept = _kernels(shard).keep_rows(options, shard.weight, shard.fal, rows, occurrences)
        self._touched[shard] = lr, kept

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Updates all that the backward pass has not, and corrects the rows that it has.

        Returns the loss of the closure, if given.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if self.row_lr is not None:
            dist.all_reduce(self.max_count, dist.ReduceOp.MAX)
        super().step()
        self._correct_rows()
        self.n_steps += 1
        return loss

    @torch.no_grad()
    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clears the gradients; corrects rows that a backward pass without a step has moved."""
        super().zero_grad(set_to_none)
        moved = [(shard, kept[0]) for shard, (_, kept) in self._touched.items() if kept is not None]
        self._correct_rows()
        if self.row_decay is not None:  # they will not have waited in the step that comes
            for shard, rows in moved:
                shard.state["last_step"][rows] = self.n_steps

    def _correct_rows(self) -> None:
        for shard, (lr, kept) in self._touched.items():
            if kept is not None:
                state, options = shard.fal | shard.state, self._options(lr)
                _kernels(shard).correct_rows(options, shard.weight, state, kept, self.n_steps + 1)
        self._touched.clear()


def _kernels(shard: Shard) -> ModuleType:
    return compiled if compiled.usable(shard.weight, shard.weight) else eager


def _distinct(ids: Tensor, shard: Shard) -> tuple[Tensor, Tensor]:
    """Returns the rows in `ids` and how often each is there, (k,)."""
    fast = _kernels(shard) is compiled
    found = compiled.distinct_rows(ids, len(shard.weight)) if fast else None
    return ids.unique(return_counts=True) if found is None else found

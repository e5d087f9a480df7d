"""Gradients that keep every lookup, for FAL and tail rewind, which count them.

A table's gradient lists each lookup of the batch. When torch adds two such gradients, it merges
some repetitions of a row, or all of them if the list is longer than the table has weights. The
weights come out right either way, but the counts do not.
"""

# No `from __future__ import annotations` here: DistributedDataParallel inspects a hook's.
from collections.abc import Iterable
from typing import Any
from weakref import WeakSet

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.utils.hooks import unserializable_hook
from torch.utils.weak import TensorWeakRef, WeakTensorKeyDictionary


def gradient_of(ids: Tensor, values: Tensor, shape: torch.Size) -> Tensor:
    """Builds a table's gradient from ids, int64 (1, n), and values, (n, dim), without checks."""
    # With `check_invariants=False` torch 2.11 and 2.12 still warn of the missing check.
    with torch.sparse.check_sparse_tensor_invariants(enable=False):
        return torch.sparse_coo_tensor(ids, values, shape, device=values.device)


def accumulate_lookups(optimizer: Any, model: nn.Module | None = None) -> None:
    """Makes gradients that torch adds count lookups as those of one big batch would.

    torch adds gradients if a step has several backward passes, or if a table is looked up several
    times in one. `SparseOptimizer` calls this for FAL, and so do the remedies that count, with the
    model; an `EmbeddingOptimizer` has none, and sees to the backward passes alone. If the model is
    compiled, build them before it first runs. A backward pass whose gradient torch adds then costs
    some copies of it more.

    Args:
        optimizer: The optimizer of the tables.
        model: The module whose `nn.Embedding` and `nn.EmbeddingBag` look the tables up. A
            `SparseOptimizer` knows its own.
    """
    optimizer = getattr(optimizer, "optimizer", optimizer)  # as Accelerate wraps it
    model = getattr(optimizer, "model", None) if model is None else model
    modules = [] if model is None else model.modules()
    users = [one for one in modules if isinstance(one, nn.Embedding | nn.EmbeddingBag)]
    for group in getattr(optimizer, "embedding", optimizer).param_groups:
        for table in group["params"]:
            keep_lookups(table, [module for module in users if module.weight is table])


def keep_lookups(table: Tensor, modules: Iterable[nn.Module]) -> None:
    """Does so for one table and the modules that look it up; once, however often it is called."""
    kept = _KEPT.get(table)
    if kept is None:
        kept = _KEPT[table] = _Kept(TensorWeakRef(table))
        frozen = not table.requires_grad  # now, and torch would take no hook
        table.requires_grad_()
        table.register_hook(kept.before_torch_adds)
        table.register_post_accumulate_grad_hook(kept.after_torch_added)
        table.requires_grad_(not frozen)
    for module in modules:
        if module not in kept.modules:
            kept.modules.add(module)
            module.register_forward_hook(kept.in_forward)


def keeps_lookups(table: Tensor) -> bool:
    """Says whether the gradients of a table are kept."""
    return table in _KEPT


class _Kept:
    """Keeps the gradients of one table that torch is about to add, and concatenates them."""

    def __init__(self, table: TensorWeakRef | None = None) -> None:
        self.table = table if table is not None else lambda: None
        self.modules: WeakSet[nn.Module] = WeakSet()
        # One gradient for each use of the table, by backward pass: one that raised leaves its own,
        # and a pass may run within another, as in a checkpoint with use_reentrant=True.
        self.features: dict[int, list[Tensor]] = {}
        self.all: list[Tensor] = []  # of this pass and of those before

    def __reduce__(self) -> tuple:
        """Does nothing in a copy of the module, since the hooks of tensors are not copied."""
        return _Kept, ()

    def in_forward(self, module: nn.Module, inputs: tuple, output: Any) -> None:
        if _backward_pass() < 0:  # so that what is here is of passes that raised
            self.features.clear()
        table, seen = self.table(), set()
        nodes = [output.grad_fn] if isinstance(output, Tensor) else []
        while nodes:  # down to the lookup, since a module may go on to scale what it has read
            node = nodes.pop()
            if node is None or node in seen:
                continue
            seen.add(node)
            below = [its for its, _ in node.next_functions]
            nodes += below
            if below and getattr(below[0], "variable", self) is table:
                node.register_hook(self._from_feature)

    def _from_feature(self, gradients: tuple, _: tuple) -> tuple | None:
        """Puts an empty gradient in the place of a feature's, for torch to add."""
        gradient = gradients[0]
        if gradient is None or not gradient.is_sparse:
            return None
        self.features.setdefault(_backward_pass(), []).append(gradient)
        ids, values = gradient._indices()[:, :0], gradient._values()[:0]
        return gradient_of(ids, values, gradient.shape), *gradients[1:]

    @unserializable_hook
    def before_torch_adds(self, gradient: Tensor) -> Tensor:
        parts = [*self.features.pop(_backward_pass(), ()), gradient]
        if not gradient.is_sparse:
            return sum(parts[:-1], gradient)
        table, gradient, self.all = self.table(), concatenated(parts), []
        if table is not None and table.grad is not None and table.grad.is_sparse:
            # A copy of the earlier one, since torch adds to it in place.
            self.all = [concatenated([table.grad]).clone(), gradient]
        return gradient

    def after_torch_added(self, table: Tensor) -> None:
        if self.all:
            table.grad, self.all = concatenated(self.all), []


_KEPT = WeakTensorKeyDictionary()


def _backward_pass() -> int:
    """Returns the number of the backward pass that runs, or -1."""
    return torch._C._current_graph_task_id()


def concatenated(parts: list[Tensor]) -> Tensor:
    """Returns the gradient of a table that lists the lookups of several, in their order."""
    parts = [part for part in parts if part._nnz()] or parts[:1]
    if len(parts) == 1:
        return parts[0]
    ids = torch.cat([part._indices() for part in parts], dim=1)
    return gradient_of(ids, torch.cat([part._values() for part in parts]), parts[0].shape)


def gather_lookups(group: Any, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
    """Concatenates the lookups of all processes: a DistributedDataParallel communication hook.

    By default the gradient of a table arrives with each row once, and a step that counts lookups
    refuses it. With this hook every process sees every lookup, as one process with all the batches
    would::

        model = DistributedDataParallel(model)
        model.register_comm_hook(None, gather_lookups)

    The hook sends each lookup instead of each distinct row, and waits for the sizes. Dense
    gradients are averaged as by default. `group` is the process group, None for the default one.
    """
    gradient = bucket.buffer()
    if not gradient.is_sparse:
        return allreduce_hook(group, bucket)
    ids = all_gather(gradient._indices()[0], group)
    values = all_gather(gradient._values(), group) / dist.get_world_size(group)
    everything = gradient_of(ids[None], values, gradient.shape)
    devices: list[int | str | torch.device] = [gradient.device] if gradient.is_cuda else []
    done: torch.futures.Future[Tensor] = torch.futures.Future(devices=devices)
    done.set_result(everything)
    return done


def all_gather(entries: Tensor, group: Any = None) -> Tensor:
    """Concatenates the entries, (n, ...), of all processes; n may differ by process."""
    size = torch.tensor([len(entries)], device=entries.device)
    sizes = [torch.empty_like(size) for _ in range(dist.get_world_size(group))]
    dist.all_gather(sizes, size, group=group)
    lengths = [int(n) for n in sizes]
    # All processes must send the same size.
    padded = entries.new_zeros(max(lengths), *entries.shape[1:])
    padded[: len(entries)] = entries
    gathered = [torch.empty_like(padded) for _ in lengths]
    dist.all_gather(gathered, padded, group=group)
    return torch.cat([part[:n] for part, n in zip(gathered, lengths)])

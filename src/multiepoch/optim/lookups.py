"""Gradients that keep every lookup, for FAL and tail rewind, which count them.

A table's gradient lists each lookup of the batch. When torch adds two such gradients, it merges
some repetitions of a row, or all of them if the list is longer than the table has weights. The
weights come out right either way, but the counts do not.
"""

# No `from __future__ import annotations` here: DistributedDataParallel inspects a hook's.
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.utils.hooks import RemovableHandle

from multiepoch.optim.sparse import SparseOptimizer, TableOptimizer


def gradient_of(ids: Tensor, values: Tensor, shape: torch.Size) -> Tensor:
    """Builds a table's gradient from ids, int64 (1, n), and values, (n, dim), without checks."""
    # With `check_invariants=False` torch 2.11 and 2.12 still warn of the missing check.
    with torch.sparse.check_sparse_tensor_invariants(enable=False):
        return torch.sparse_coo_tensor(ids, values, shape, device=values.device)


def accumulate_lookups(
    optimizer: TableOptimizer, model: nn.Module | None = None
) -> list[RemovableHandle]:
    """Makes gradients that torch adds count lookups as those of one big batch would.

    torch adds gradients if a step has several backward passes, or if several features share a
    table. A backward pass then costs some copies of its gradient more. If the model is compiled,
    call this before it first runs.

    Args:
        optimizer: The optimizer of the tables.
        model: The module whose `nn.Embedding` and `nn.EmbeddingBag` share tables. A
            `SparseOptimizer` knows its own; an `EmbeddingOptimizer` without `model` preserves the
            lookups of several backward passes, but not those of several features.

    Returns:
        Handles; remove them all to undo the call.
    """
    modules = list(model.modules()) if model is not None else []
    embedding = getattr(optimizer, "optimizer", optimizer)  # as Accelerate wraps it
    if isinstance(embedding, SparseOptimizer):
        modules = modules or [*embedding.table_modules()]
        embedding = embedding.embedding
    handles = []
    for table in (table for group in embedding.param_groups for table in group["params"]):
        kept = _Kept(table)
        handles += [
            table.register_hook(kept.before_torch_adds),
            table.register_post_accumulate_grad_hook(kept.after_torch_added),
        ]
        for module in modules:
            if isinstance(module, nn.Embedding | nn.EmbeddingBag) and module.weight is table:
                handles.append(module.register_forward_hook(kept.in_forward))
    return handles


class _Kept:
    """Keeps the gradients of one table that torch is about to add, and concatenates them."""

    def __init__(self, table: Tensor | None = None) -> None:
        self.table = table
        # One gradient for each use of the table, by backward pass: one that raised leaves its own,
        # and a pass may run within another, as in a checkpoint with use_reentrant=True.
        self.features: dict[int, list[Tensor]] = {}
        self.all: list[Tensor] = []  # of this pass and of those before

    def __reduce__(self) -> tuple:
        """Does nothing in a copy of the module, since the hooks of tensors are not copied."""
        return _Kept, ()

    def in_forward(self, module: nn.Module, inputs: tuple, output: Tensor) -> None:
        if _backward_pass() < 0:  # so that what is here is of passes that raised
            self.features.clear()
        node = output.grad_fn
        if node is not None and node.next_functions:
            of_weight = node.next_functions[0][0]
            if getattr(of_weight, "variable", self) is self.table:
                node.register_hook(self._from_feature)

    def _from_feature(self, gradients: tuple, _: tuple) -> tuple | None:
        """Puts an empty gradient in the place of a feature's, for torch to add."""
        gradient = gradients[0]
        if gradient is None or not gradient.is_sparse:
            return None
        self.features.setdefault(_backward_pass(), []).append(gradient)
        ids, values = gradient._indices()[:, :0], gradient._values()[:0]
        return gradient_of(ids, values, gradient.shape), *gradients[1:]

    def before_torch_adds(self, gradient: Tensor) -> Tensor | None:
        parts = [*self.features.pop(_backward_pass(), ()), gradient]
        if not gradient.is_sparse:
            return sum(parts[:-1], gradient)
        gradient = concatenated(parts)
        earlier, self.all = self.table.grad if self.table is not None else None, []
        if earlier is not None and earlier.is_sparse:
            self.all = [concatenated([earlier]), gradient]  # torch adds to `earlier` in place
        return gradient

    def after_torch_added(self, table: Tensor) -> None:
        if self.all:
            table.grad, self.all = concatenated(self.all), []


def _backward_pass() -> int:
    """Returns the number of the backward pass that runs, or -1."""
    return torch._C._current_graph_task_id()


def concatenated(parts: list[Tensor]) -> Tensor:
    """Returns the gradient of a table that lists the lookups of several, in their order."""
    ids = torch.cat([part._indices() for part in parts], dim=1)
    return gradient_of(ids, torch.cat([part._values() for part in parts]), parts[0].shape)


def gather_lookups(group: Any, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
    """Concatenates the lookups of all processes: a DistributedDataParallel communication hook.

    By default the gradient of a table arrives with each row once, so FAL and the threshold of tail
    rewind count steps. With this hook every process sees every lookup, as one process with all the
    batches would::

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

"""Gradients that keep every lookup, for FAL and tail rewind, which count them.

A table's gradient lists each lookup of the batch. When torch adds two such gradients, it merges
some or all repetitions of a row. The weights come out right either way, but the counts do not.
"""

# No `from __future__ import annotations` here: DistributedDataParallel inspects a hook's.
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.utils.hooks import RemovableHandle

from multiepoch.optim.embedding import EmbeddingOptimizer
from multiepoch.optim.sparse import SparseOptimizer


def gradient_of(ids: Tensor, values: Tensor, shape: torch.Size) -> Tensor:
    """Builds a table's gradient from ids, int64 (1, n), and values, (n, dim), without checks."""
    # With `check_invariants=False` torch 2.11 and 2.12 still warn of the missing check.
    with torch.sparse.check_sparse_tensor_invariants(enable=False):
        return torch.sparse_coo_tensor(ids, values, shape)


def accumulate_lookups(optimizer: EmbeddingOptimizer | SparseOptimizer) -> list[RemovableHandle]:
    """Makes accumulated gradients count lookups as one big batch would.

    Without it, torch merges some entries of two sparse gradients, so a few percent of the lookups
    go uncounted. Each backward pass after the first then costs a copy of its gradient. If two
    features share a table, torch merges their lookups within one backward pass, and some may still
    be lost. Returns one handle per table; remove them to undo the call.
    """
    embedding = optimizer.embedding if isinstance(optimizer, SparseOptimizer) else optimizer
    tables = [p for group in embedding.param_groups for p in group["params"]]
    return [table.register_hook(_concatenated(table)) for table in tables]


def _concatenated(table: Tensor):
    def hook(gradient: Tensor) -> Tensor | None:
        if table.grad is None or not gradient.is_sparse:
            return None
        # torch merges lists whose values are contiguous and concatenates all others.
        values = gradient._values()
        apart = torch.stack([values, values], dim=-1)[..., 0]
        return gradient_of(gradient._indices(), apart, gradient.shape)

    return hook


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
    ids = _all_gather(gradient._indices()[0], group)
    values = _all_gather(gradient._values(), group) / dist.get_world_size(group)
    everything = gradient_of(ids[None], values, gradient.shape)
    done = torch.futures.Future(devices=[gradient.device] if gradient.is_cuda else [])
    done.set_result(everything)
    return done


def _all_gather(entries: Tensor, group: Any) -> Tensor:
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

"""Gradients that keep every lookup, for those who count them: FAL and tail rewind.

A table's gradient lists each lookup of the batch, until torch adds two of them: it then sums some
or all repetitions of a row. The weights are right either way; only the counts go by what is left.
"""

# No `from __future__ import annotations` here: DistributedDataParallel reads those of a hook.
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.utils.hooks import RemovableHandle

from multiepoch.optim.embedding import EmbeddingOptimizer
from multiepoch.optim.sparse import SparseOptimizer


def gradient_of(ids: Tensor, values: Tensor, shape: torch.Size) -> Tensor:
    """A table's sparse gradient that lists these lookups; the ids are not checked.

    ids: (1, lookups). values: (lookups, dim). torch 2.11 and 2.12 warn of the missing check even at
    `check_invariants=False`; they do not where it is switched off around the call.
    """
    with torch.sparse.check_sparse_tensor_invariants(enable=False):
        return torch.sparse_coo_tensor(ids, values, shape)


def accumulate_lookups(optimizer: EmbeddingOptimizer | SparseOptimizer) -> list[RemovableHandle]:
    """For gradients accumulated over several backward passes: count as one big batch would.

    torch adds two sparse gradients by merging their lists, and where the same row stands at the
    front of both, it becomes one entry: a few lookups in a hundred go uncounted. After this call
    the lists are joined end to end. A single backward pass costs nothing more; each further one
    a copy of its gradient. What two features of a shared table look up in one backward pass is
    added by torch before anyone can intervene, and may still lose some.

    Returns the handles of the gradient hooks, one a table, to undo it with.
    """
    embedding = optimizer.embedding if isinstance(optimizer, SparseOptimizer) else optimizer
    tables = [p for group in embedding.param_groups for p in group["params"]]
    return [table.register_hook(_to_be_joined(table)) for table in tables]


def _to_be_joined(table: Tensor):
    def hook(gradient: Tensor) -> Tensor | None:
        if table.grad is None or not gradient.is_sparse:
            return None
        # torch merges the lists of values that are contiguous and joins those that are not.
        values = gradient._values()
        apart = torch.stack([values, values], dim=-1)[..., 0]
        return gradient_of(gradient._indices(), apart, gradient.shape)

    return hook


def gather_lookups(group: Any, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
    """Communication hook of DistributedDataParallel: the lookups of all processes, in a row.

    By default the gradient of a table arrives summed, each row once: a row counts once a step
    however often it was looked up, and FAL and tail rewind's threshold go by steps. With this
    hook every process sees every lookup, as one process with all the batches would::

        model = DistributedDataParallel(model)
        model.register_comm_hook(None, gather_lookups)

    It sends an id and a row of values for each lookup, not for each distinct row, and waits for
    the sizes. Dense gradients are averaged as by default.

    group: the process group, None for the default one.
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
    """The entries, (n, ...), of all processes one after the other; n may differ by process."""
    size = torch.tensor([len(entries)], device=entries.device)
    sizes = [torch.empty_like(size) for _ in range(dist.get_world_size(group))]
    dist.all_gather(sizes, size, group=group)
    lengths = [int(n) for n in sizes]
    padded = entries.new_zeros(max(lengths), *entries.shape[1:])  # all must send the same size
    padded[: len(entries)] = entries
    gathered = [torch.empty_like(padded) for _ in lengths]
    dist.all_gather(gathered, padded, group=group)
    return torch.cat([part[:n] for part, n in zip(gathered, lengths)])

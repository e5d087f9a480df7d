"""The part of each sharded table that this process holds."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed._shard.sharded_tensor import Shard as LocalShard
from torch.distributed._shard.sharded_tensor import init_from_local_shards
from torch.distributed._shard.sharding_spec import ShardMetadata
from torchrec.distributed.batched_embedding_kernel import BatchedDenseEmbeddingBag
from torchrec.distributed.embeddingbag import ShardedEmbeddingBagCollection
from torchrec.distributed.model_parallel import get_unwrapped_module


@dataclass(eq=False)
class Shard:
    """Some rows of one table, live; all of them if the table is data-parallel, or none.

    Every process has a Shard of every table, in the same order, so that all processes take part in
    the collective calls of each table.
    """

    name: str  # the fully qualified name of the table
    n_rows: int  # of the whole table
    offset: int  # the table's row that is row 0 here
    weight: Tensor  # (n, dim), a view of the kernel's
    replicated: bool = False  # data-parallel
    state: dict[str, Tensor] = field(default_factory=dict)  # (n, ...), what a reset clears
    fal: dict[str, Tensor] = field(default_factory=dict)  # "count", int32 (n,); "max_count", ()
    kernel: Any = None  # TorchRec's, which looks the rows up; None if there are none here
    features: tuple[int, int] = (0, 0)  # first and last + 1 of the kernel's that look it up

    def sharded(self, local: Tensor) -> Tensor:
        """Returns a tensor over all rows of the table, of which `local`, (n, ...), is here.

        It is collective, and shares the memory of `local`.
        """
        if self.replicated:
            return local
        sizes, shards = [len(local), *local.shape[1:]], []
        if len(local):
            offsets = [self.offset, *[0] * (local.dim() - 1)]
            placement = f"rank:{dist.get_rank()}/{local.device}"
            shards = [LocalShard(local, ShardMetadata(offsets, sizes, placement))]
        return init_from_local_shards(shards, self.n_rows, *sizes[1:])


def find_shards(model: nn.Module) -> list[Shard]:
    """Lists a Shard of each table of a `DistributedModelParallel`; collective.

    Raises a ValueError if a table is sharded by columns, or not trained by a fused optimizer.
    """
    shards = [
        shard
        for prefix, module in get_unwrapped_module(model).named_modules()
        if isinstance(module, ShardedEmbeddingBagCollection)
        for shard in _shards_of(prefix, module)
    ]
    # A process without rows of a table learns from the others what state its rows have.
    layouts: list = [None] * dist.get_world_size()
    here = [
        {name: (one.dtype, one.shape[1:]) for name, one in shard.state.items()} for shard in shards
    ]
    dist.all_gather_object(layouts, here)
    for shard, *found in zip(shards, *layouts):
        for name, (dtype, shape) in max(found, key=len).items():
            if name not in shard.state:
                shard.state[name] = torch.empty(0, *shape, dtype=dtype, device=shard.weight.device)
    return shards


def _shards_of(prefix: str, module: ShardedEmbeddingBagCollection) -> Iterator[Shard]:
    lookups = (getattr(one, "module", one) for one in module._lookups)  # data-parallel: in DDP
    kernels = (kernel for lookup in lookups for kernel in lookup._emb_modules)
    local = {shard.name: shard for kernel in kernels for shard in _in_kernel(kernel)}
    for config in module._embedding_bag_configs:
        shard = local.get(config.name)
        if shard is None:
            empty = torch.empty(0, config.embedding_dim, device=module._device)
            shard = Shard("", config.num_embeddings, 0, empty)
        shard.name = f"{prefix}.embedding_bags.{config.name}.weight".lstrip(".")
        yield shard


def _in_kernel(kernel: Any) -> Iterator[Shard]:
    replicated = isinstance(kernel, BatchedDenseEmbeddingBag)
    weights, first = kernel.split_embedding_weights(), 0
    for k, (table, weight) in enumerate(zip(kernel.config.embedding_tables, weights)):
        where = table.local_metadata
        if weight.shape[1] != table.embedding_dim:
            raise ValueError(f"table {table.name!r} is sharded by columns: shard it by rows")
        if replicated and where is not None:
            dense = "is sharded, but its kernel is dense and has no fused optimizer"
            remedy = "ask for compute_kernel='fused' in the sharding plan"
            raise ValueError(f"table {table.name!r} {dense}: {remedy}")
        state = {} if replicated else _fused_state(kernel, k)
        offset = where.shard_offsets[0] if where else 0
        features = first, first + table.num_features()
        own = table.name, table.num_embeddings, offset, weight, replicated, state
        yield Shard(*own, kernel=kernel, features=features)
        first = features[1]


def _fused_state(kernel: Any, k: int) -> dict[str, Tensor]:
    """Returns the optimizer state of a kernel's k-th table by the names of torch's optimizers."""
    if not kernel.emb_module.split_optimizer_states():  # SGD has none
        return {}
    state = kernel.emb_module.get_optimizer_state()[k]
    return {name: value for name, value in state.items() if name != "iter"}

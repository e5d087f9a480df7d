"""The part of each sharded table that this process holds."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed._shard.sharded_tensor import Shard as LocalShard
from torch.distributed._shard.sharded_tensor import init_from_local_shards
from torch.distributed._shard.sharding_spec import ShardMetadata
from torchrec.distributed.batched_embedding_kernel import (
    BatchedDenseEmbedding,
    BatchedDenseEmbeddingBag,
)
from torchrec.distributed.embedding import ShardedEmbeddingCollection
from torchrec.distributed.embeddingbag import ShardedEmbeddingBagCollection
from torchrec.distributed.model_parallel import get_unwrapped_module


@dataclass(eq=False)
class Shard:
    """Some rows of one table, live, or none.

    Every process has a Shard of every table, in the same order, so that all processes take part in
    the collective calls of each table.
    """

    name: str  # the fully qualified name of the table
    n_rows: int  # of the whole table
    offset: int  # the table's row that is row 0 here
    weight: Tensor  # (n, dim), a view of the kernel's
    state: dict[str, Tensor] = field(default_factory=dict)  # (n, ...), what a reset clears
    fal: dict[str, Tensor] = field(default_factory=dict)  # "count", int32 (n,); "max_count", ()
    kernel: Any = None  # TorchRec's, which looks the rows up; None if there are none here
    features: tuple[int, int] = (0, 0)  # first and last + 1 of the kernel's that look it up
    options: dict[str, Any] = field(default_factory=dict)  # "rule", "eps", ... of its optimizer

    @property
    def table(self) -> str:
        """The table's name in its collection."""
        return self.name.split(".")[-2]

    def sharded(self, local: Tensor) -> Tensor:
        """Returns a tensor over all rows of the table, of which `local`, (n, ...), is here.

        It is collective, and shares the memory of `local`.
        """
        sizes, shards = [len(local), *local.shape[1:]], []
        if len(local):
            offsets = [self.offset, *[0] * (local.dim() - 1)]
            placement = f"rank:{dist.get_rank()}/{local.device}"
            shards = [LocalShard(local, ShardMetadata(offsets, sizes, placement))]
        return init_from_local_shards(shards, self.n_rows, *sizes[1:])

    def local(self, whole: Any) -> Tensor:
        """Returns what is here of a tensor that `sharded` has made."""
        for shard in whole.local_shards():
            return shard.tensor
        return self.weight.new_empty(0, *whole.size()[1:], dtype=whole.dtype)


def find_shards(model: Any) -> list[Shard]:
    """Lists a Shard of each table of a `DistributedModelParallel`; collective.

    Raises a ValueError if a table is data-parallel or sharded by columns, looked up without
    repetitions, in a module of another kind than the two collections of TorchRec, or not trained by
    a fused optimizer.
    """
    kinds = ShardedEmbeddingBagCollection, ShardedEmbeddingCollection
    shards = [
        shard
        for prefix, module in get_unwrapped_module(model).named_modules()
        if isinstance(module, kinds)
        for shard in _shards_of(prefix, module)
    ]
    unknown = set(model.fused_optimizer.params) - {shard.name for shard in shards}
    if unknown:
        wrong = f"table {min(unknown)!r} is in neither an EmbeddingBagCollection nor an"
        raise ValueError(f"{wrong} EmbeddingCollection: FAL and the remedies cannot reach it there")
    # A process without rows of a table learns from the others what its optimizer keeps of a row.
    found: list = [None] * dist.get_world_size()
    dist.all_gather_object(found, [(shard.options, _layout(shard)) for shard in shards])
    for shard, *of_each in zip(shards, *found):
        shard.options, layout = max(of_each, key=lambda one: len(one[0]))
        for name, (dtype, shape) in layout.items():
            if name not in shard.state:
                shard.state[name] = torch.empty(0, *shape, dtype=dtype, device=shard.weight.device)
    return shards


def _layout(shard: Shard) -> dict[str, tuple[torch.dtype, torch.Size]]:
    return {name: (value.dtype, value.shape[1:]) for name, value in shard.state.items()}


def _shards_of(prefix: str, module: Any) -> Iterator[Shard]:
    pooled = isinstance(module, ShardedEmbeddingBagCollection)
    if not pooled and module._use_index_dedup:
        wrong = f"{prefix!r} looks each distinct id up once (use_index_dedup), which hides how"
        raise ValueError(f"{wrong} often rows occur: leave it out of EmbeddingCollectionSharder")
    configs = module._embedding_bag_configs if pooled else module._embedding_configs
    lookups = (getattr(one, "module", one) for one in module._lookups)  # in DDP if data-parallel
    kernels = (kernel for lookup in lookups for kernel in lookup._emb_modules)
    local = {shard.name: shard for kernel in kernels for shard in _in_kernel(kernel)}
    for config in configs:
        shard = local.get(config.name)
        if shard is None:
            empty = torch.empty(0, config.embedding_dim, device=module._device)
            shard = Shard("", config.num_embeddings, 0, empty)
        tables = "embedding_bags" if pooled else "embeddings"
        shard.name = f"{prefix}.{tables}.{config.name}.weight".lstrip(".")
        yield shard


def _in_kernel(kernel: Any) -> Iterator[Shard]:
    weights, first = kernel.split_embedding_weights(), 0
    for k, (table, weight) in enumerate(zip(kernel.config.embedding_tables, weights)):
        where = table.local_metadata
        if weight.shape[1] != table.embedding_dim:
            raise ValueError(f"table {table.name!r} is sharded by columns: shard it by rows")
        if where is None or isinstance(kernel, BatchedDenseEmbedding | BatchedDenseEmbeddingBag):
            dense = "is data-parallel" if where is None else "is sharded with a dense kernel"
            remedy = "shard it by rows or as a whole, with compute_kernel='fused' in the plan"
            raise ValueError(f"table {table.name!r} {dense} and has no fused optimizer: {remedy}")
        state, options = _fused(kernel, k)
        features = first, first + table.num_features()
        own = table.name, table.num_embeddings, where.shard_offsets[0], weight, state
        yield Shard(*own, kernel=kernel, features=features, options=options)
        first = features[1]


def _fused(kernel: Any, k: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Returns the state of a kernel's k-th table by the names of torch's optimizers, and options.

    The names of rules and options are those of `EmbeddingOptimizer`.
    """
    module = kernel.emb_module
    rule = module.optimizer.name.lower().removeprefix("exact_")
    options = {"rule": rule, "eps": module.optimizer_args.eps}
    if not module.split_optimizer_states():  # SGD has none
        return {}, options
    state = module.get_optimizer_state()[k]
    return {name: value for name, value in state.items() if name != "iter"}, options

"""Sharding plans written by hand, since TorchRec's planner refuses row-wise sharding on a CPU."""

from typing import Literal

import torch.distributed as dist
from torch import nn
from torchrec import EmbeddingBagCollection, EmbeddingCollection
from torchrec.distributed.embedding import EmbeddingCollectionSharder
from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder
from torchrec.distributed.sharding_plan import (
    construct_module_sharding_plan,
    row_wise,
    table_wise,
)
from torchrec.distributed.types import ShardingPlan

How = Literal["row_wise", "table_wise"]


def sharding_plan(model: nn.Module, how: dict[str, How], device: str = "cpu") -> ShardingPlan:
    """Plans the tables of the collections of embeddings in the model; `how` is by table.

    Sharded tables ask for the fused kernel: without that TorchRec takes the dense one on a CPU.
    Tables that are sharded as a whole take turns among the processes.
    """
    world, turn, plan = dist.get_world_size(), 0, {}
    for path, module in model.named_modules():
        if isinstance(module, EmbeddingBagCollection):
            configs, sharder = module.embedding_bag_configs(), EmbeddingBagCollectionSharder()
        elif isinstance(module, EmbeddingCollection):
            configs, sharder = module.embedding_configs(), EmbeddingCollectionSharder()
        else:
            continue
        ways = {}
        for config in configs:
            if how[config.name] == "row_wise":
                ways[config.name] = row_wise(compute_kernel="fused")
            else:
                ways[config.name] = table_wise(turn % world, compute_kernel="fused")
                turn += 1
        plan[path] = construct_module_sharding_plan(module, ways, sharder, world, world, device)
    return ShardingPlan(plan)

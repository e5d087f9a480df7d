"""The processes that benchmarks/distributed.py starts: they train one sharded table.

Each step is timed by process 0, which waits for the others in the exchange of the lookups. The
contestants share one model and take turns step by step, each with batches of its own, since a row
that another has just read would be in the cache.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torchrec
from torch import Tensor, nn
from torch.distributed.optim import _apply_optimizer_in_backward as apply_optimizer_in_backward
from torchrec import EmbeddingBagCollection, EmbeddingBagConfig, KeyedJaggedTensor
from torchrec.distributed import DistributedModelParallel
from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder
from torchrec.optim.keyed import CombinedOptimizer

from multiepoch import FrequencyAdaptiveLR, tail_rewind
from multiepoch.torchrec import ShardedOptimizer, sharding_plan

DIM, BATCH, N_FEATURES, N_DENSE = 16, 2048, 8, 13  # of one process
N_RANKS, ZIPF = 1_000_000, 1.05  # as many rows are in use whatever the size of the table
FEATURES = [f"feature {k}" for k in range(N_FEATURES)]


class Model(nn.Module):
    def __init__(self, n_rows: int) -> None:
        super().__init__()
        config = EmbeddingBagConfig(
            name="table", embedding_dim=DIM, num_embeddings=n_rows, feature_names=FEATURES
        )
        # meta: a table that no process could hold is made shard by shard
        self.tables = EmbeddingBagCollection([config], device=torch.device("meta"))
        widths = [N_FEATURES * DIM + N_DENSE, 256, 128]
        layers = [nn.Linear(widths[0], widths[1]), nn.ReLU(), nn.Linear(widths[1], widths[2])]
        self.over = nn.Sequential(*layers, nn.ReLU(), nn.Linear(widths[2], 1))

    def forward(self, ids: Tensor, dense: Tensor) -> Tensor:
        lengths = torch.ones(len(ids), dtype=torch.int64)
        vectors = self.tables(KeyedJaggedTensor(FEATURES, ids, lengths=lengths)).values()
        return self.over(torch.cat([vectors, dense], dim=1))


def batches(n: int, n_rows: int, seed: int) -> list[Tensor]:
    """Zipf ids, int64 (lookups of a batch,); the rows in use are strewn over the whole table."""
    rng = np.random.default_rng([seed, dist.get_rank()])
    cumulative = np.cumsum(np.arange(1, N_RANKS + 1, dtype=np.float64) ** -ZIPF)
    draws = rng.random((n, BATCH * N_FEATURES)) * cumulative[-1]
    ranks = np.searchsorted(cumulative, draws)
    return list(torch.from_numpy((ranks * 2_654_435_761 + seed) % n_rows))


class Bench:
    def __init__(self, n_rows: int) -> None:
        model = Model(n_rows)
        options = {"lr": 0.02, "eps": 1e-8}
        tables = model.tables.parameters()
        apply_optimizer_in_backward(torchrec.optim.RowWiseAdagrad, tables, options)
        self.model = DistributedModelParallel(
            model,
            device=torch.device("cpu"),
            plan=sharding_plan(model, {"table": "row_wise"}),
            sharders=[EmbeddingBagCollectionSharder()],
        )
        self.optimizer = ShardedOptimizer(
            self.model, lambda params: torch.optim.Adam(params, lr=1e-3), FrequencyAdaptiveLR()
        )
        self.plain = CombinedOptimizer([self.model.fused_optimizer, self.optimizer.dense])
        (self.shard,) = self.optimizer.shards
        self.hooks = dict(self.shard.kernel._forward_hooks)

    def step(self, kind: str, ids: Tensor, dense: Tensor, labels: Tensor) -> float:
        """Trains a batch with plain TorchRec, with FAL, or with the undo log.

        Returns the seconds that passed.
        """
        hooks = self.shard.kernel._forward_hooks
        hooks.clear()
        if kind != "plain":
            hooks.update(self.hooks)
        self.optimizer.row_lr = FrequencyAdaptiveLR() if kind == "FAL" else None
        optimizer = self.plain if kind == "plain" else self.optimizer
        listening, self.optimizer._row_hooks = self.optimizer._row_hooks, {}
        if kind == "undo log":
            self.optimizer._row_hooks = listening
        dist.barrier()
        start = time.perf_counter()
        optimizer.zero_grad()
        loss = nn.functional.binary_cross_entropy_with_logits(self.model(ids, dense), labels)
        loss.backward()
        optimizer.step()
        elapsed = time.perf_counter() - start
        self.optimizer._row_hooks = listening
        return elapsed


def main(n_rows: int, n_steps: int, seed: int, out: Path) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    dist.init_process_group("gloo")
    bench = Bench(n_rows)
    dense, labels = torch.randn(BATCH, N_DENSE), torch.rand(BATCH, 1).round()
    kinds = ["plain", "FAL", "undo log"]
    seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
    rewind = tail_rewind(bench.model, bench.optimizer, below=100)
    rewind.before_epoch(0)
    every = batches(3 * (n_steps + 3), n_rows, seed)
    for k in range(n_steps + 3):
        for kind in kinds[k % 3 :] + kinds[: k % 3]:
            elapsed = bench.step(kind, every.pop(), dense, labels)
            if k >= 3:
                seconds[kind].append(elapsed)
    start = time.perf_counter()
    rewind.before_epoch(1)
    dist.barrier()
    rewound = time.perf_counter() - start
    found = {
        "n_rows": n_rows,
        "seed": seed,
        "seconds": {kind: [round(s, 6) for s in each] for kind, each in seconds.items()},
        "lookups": BATCH * N_FEATURES,  # of a process in a step
        "rewind": rewound,
        "undo_log_bytes": rewind.n_bytes,
        "table_bytes": bench.shard.weight.nbytes,
        "state_bytes": sum(value.nbytes for value in bench.shard.state.values()),
        "count_bytes": bench.shard.fal["count"].nbytes,
    }
    if dist.get_rank() == 0:
        out.write_text(json.dumps(found))
    del bench, rewind
    gc.collect()  # sharded models are cycles that hold the process group
    dist.destroy_process_group()


if __name__ == "__main__":
    n_rows, n_steps, seed = map(int, sys.argv[1:4])
    main(n_rows, n_steps, seed, Path(sys.argv[4]))

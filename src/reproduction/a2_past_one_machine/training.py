"""The model of chapter 2 in one process, and sharded over several with TorchRec.

    python -m torch.distributed.run --standalone --nproc-per-node 2 \
        -m reproduction.a2_past_one_machine.training SETTINGS.json FOUND.json

Imports the library alone, so that it runs in an environment that has TorchRec and not the book.
"""

import gc
import json
import sys
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from multiepoch.optim import FrequencyAdaptiveLR, SparseOptimizer
from multiepoch.remedies import Rewind
from multiepoch_lab.data import AdsWorld, Log
from multiepoch_lab.model import ConversionModel

QUARTERS = 4  # evaluations in an epoch


def train(
    run: dict[str, Any], settings: dict[str, Any], train_log: Log, test: Log, reverse: bool = False
) -> list[dict]:
    """Returns the expected logloss on the test day, four times in each epoch, by objective.

    Args:
        run: `method`, `rule`, `sharding`, `dense_lr`, `embedding_lr` and `seed` of one run.
        settings: `batch_size` and `epochs`.
        train_log: The training window.
        test: The test day.
        reverse: Reverses the impressions of each batch, which changes rounding and nothing else.
    """
    n, rank = (dist.get_world_size(), dist.get_rank()) if dist.is_initialized() else (1, 0)
    torch.manual_seed(run["seed"])
    row_lr = FrequencyAdaptiveLR() if run["method"] == "fal" else None
    if dist.is_initialized():
        model, optimizer = _sharded(run, train_log, row_lr)
        tables = optimizer
    else:
        model = ConversionModel(train_log.schema)
        optimizer = SparseOptimizer.from_model(
            model,
            dense_lr=run["dense_lr"],
            embedding_lr=run["embedding_lr"],
            rule=run["rule"],
            row_lr=row_lr,
        )
        tables = optimizer.embedding
    below = 100 if run["method"] == "tail_rewind" else 0
    rewind = Rewind(model, optimizer, below=below, to="start")
    orders, size, found = torch.Generator().manual_seed(run["seed"]), settings["batch_size"], []
    n_steps = len(train_log) // size
    at = {round(n_steps * (k + 1) / QUARTERS): (k + 1) / QUARTERS for k in range(QUARTERS)}
    for epoch in range(settings["epochs"]):
        tables.set_epoch(epoch)
        rewind.before_epoch(epoch)
        order = torch.randperm(len(train_log), generator=orders)[: n_steps * size]
        for k, rows in enumerate(order.split(size)):
            batch = train_log[rows.flip(0) if reverse else rows[rank::n]]
            optimizer.zero_grad()
            _loss(model(batch.ids, batch.dense), batch.labels).sum().backward()
            optimizer.step()
            if k + 1 in at:
                losses = _evaluate(model, test[slice(rank, None, n)], len(test))
                for objective, value in zip(test.objectives, losses.tolist()):
                    found.append({"epoch": epoch + at[k + 1], "objective": objective})
                    found[-1]["value"] = value
    return found


def _loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Returns the mean logloss of each objective; a target may be a probability."""
    return nn.functional.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(0)


@torch.no_grad()
def _evaluate(model: nn.Module, part: Log, n: int) -> Tensor:
    """Returns the loss over the test day, of which each process has a part."""
    batches = (part[k : k + 8192] for k in range(0, len(part), 8192))
    logits = torch.cat([model(some.ids, some.dense) for some in batches])
    total = _loss(logits.double(), part.p_true.double()) * len(part)
    if dist.is_initialized():
        dist.all_reduce(total)
    return total / n


def _sharded(run: dict[str, Any], log: Log, row_lr: FrequencyAdaptiveLR | None) -> tuple:
    """Returns the model as a DistributedModelParallel, with its optimizer."""
    import torchrec
    from torch.distributed.optim import _apply_optimizer_in_backward
    from torchrec.distributed import DistributedModelParallel

    from multiepoch.torchrec import ShardedOptimizer, sharding_plan

    class InBags(ConversionModel):
        """The model with an EmbeddingBagCollection in the place of its tables."""

        def __init__(self) -> None:
            super().__init__(log.schema)
            self.whole = {name: table.weight.detach() for name, table in self.tables.items()}
            self.bags = torchrec.EmbeddingBagCollection(
                [
                    torchrec.EmbeddingBagConfig(
                        name=name,
                        num_embeddings=len(weight),
                        embedding_dim=weight.shape[1],
                        feature_names=[name],
                    )
                    for name, weight in self.whole.items()
                ]
            )
            del self.tables

        def forward(self, ids: dict[str, Tensor], dense: Tensor) -> Tensor:
            rows = torch.cat([*self.rows(ids).values()])
            names, ones = list(self.whole), torch.ones_like(rows)
            vectors = self.bags(torchrec.KeyedJaggedTensor(names, rows, lengths=ones)).values()
            x = x0 = torch.cat([vectors, dense], dim=1)
            for cross in self.cross:
                x = x0 * cross(x) + x
            x = self.bottom(x)
            return torch.cat([tower(x) for tower in self.towers.values()], dim=1)

    model, options = InBags(), {"lr": run["embedding_lr"], "eps": 1e-8}
    if run["sharding"] != "data_parallel":
        _apply_optimizer_in_backward(
            torchrec.optim.RowWiseAdagrad, model.bags.parameters(), dict(options)
        )
    plan = sharding_plan(model, dict.fromkeys(model.whole, run["sharding"]))
    whole = model.whole
    model = DistributedModelParallel(model, device=torch.device("cpu"), plan=plan)
    optimizer = ShardedOptimizer(
        model,
        partial(torch.optim.Adam, lr=run["dense_lr"]),
        row_lr,
        data_parallel=options | {"rule": run["rule"]},
    )
    for shard in optimizer.shards:
        rows = slice(shard.offset, shard.offset + len(shard.weight))
        shard.weight.copy_(whole[shard.name.split(".")[-2]][rows])
    return model, optimizer


def logs(settings: dict[str, Any], seed: int) -> tuple[Log, Log]:
    """Returns the training window and the test day, both with the schema of the test day."""
    world, last = AdsWorld(seed=seed, **settings["world"]), settings["train_days"]
    parts = world.days(0, last - 1), world.day(last)
    return tuple(replace(log, schema=world.schema(last)) for log in parts)


def train_all(settings: dict[str, Any], reverse: bool = False) -> list[dict]:
    """Returns `train` of each run and seed, with the run's name, sharding and seed in each row."""
    rows = []
    for seed, run in product(settings["seeds"], settings["runs"]):
        found = train(run | {"seed": seed}, settings, *logs(settings, seed), reverse)
        if not dist.is_initialized() or dist.get_rank() == 0:
            said = f"seed {seed}, {run['method']}, {run['rule']}"
            print(f"{said}: {found[-1]['value']:.4f}", flush=True)
        rows += [{**row, "seed": seed, **{k: run[k] for k in ("method", "rule")}} for row in found]
    return rows


if __name__ == "__main__":
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    result = train_all(json.loads(Path(sys.argv[1]).read_text()))
    if dist.get_rank() == 0:
        Path(sys.argv[2]).write_text(json.dumps(result))
    # Sharded models are cycles that hold the process group. One that is left to Python's end takes
    # Gloo's threads down with the interpreter, and now and then the process aborts.
    gc.collect()
    dist.destroy_process_group()

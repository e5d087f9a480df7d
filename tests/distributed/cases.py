"""One small model, trained by one process with this package and by several with TorchRec."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from multiepoch.optim import AdaptiveRegularization, FrequencyAdaptiveLR, SparseOptimizer
from multiepoch.remedies import Rewind
from multiepoch.remedies.row_draws import normal_rows

ROWS, DIM, BATCH, STEPS = {"user": 37, "item": 53}, 8, 16, 6  # of an epoch
HOWS = {
    "row_wise": dict.fromkeys(ROWS, "row_wise"),
    "table_wise": dict.fromkeys(ROWS, "table_wise"),
    "mixed": {"user": "row_wise", "item": "table_wise"},
}


MEAN = {"average": True, "average_from": 1, "dense_factor": 0.1}


@dataclass(frozen=True)
class Case:
    """What is trained; `rewind` has the arguments of `Rewind`, None for no remedy."""

    rule: str = "rowwise_adagrad"
    row_lr: FrequencyAdaptiveLR | None = None
    row_decay: AdaptiveRegularization | None = None
    weight_decay: float = 0.0
    rewind: dict[str, Any] | None = None
    warm_up: bool = False
    dense: type[torch.optim.Optimizer] = torch.optim.SGD
    lr: float = 0.5
    dense_lr: float = 0.1
    epochs: int = 2
    start: float | dict[str, float] = 0.0  # initial_accumulator_value
    pooled: bool = True  # else in an EmbeddingCollection, and with one id in each bag

    def remedy(self) -> dict[str, Any]:
        return {"below": 0} if self.rewind is None else self.rewind

    def scheduler(self, optimizer: torch.optim.Optimizer) -> Any:
        if not self.warm_up:
            return None
        return torch.optim.lr_scheduler.LinearLR(optimizer, 0.1, total_iters=5)


CASES = {
    **{rule: Case(rule) for rule in ("sgd", "adagrad", "rowwise_adagrad")},
    **{
        f"FAL, {scale}, {count}": Case(
            row_lr=FrequencyAdaptiveLR(scale, count, threshold=4, gap_decay=0.5)
        )
        for scale in ("log", "linear", "power", "threshold")
        for count in ("occurrences", "steps")
    },
    "FAL, sgd": Case("sgd", FrequencyAdaptiveLR()),
    "FAL, adagrad": Case("adagrad", FrequencyAdaptiveLR()),
    "AdamAR": Case(row_decay=AdaptiveRegularization(0.05)),
    "FAL, AdamAR": Case("adagrad", FrequencyAdaptiveLR(), AdaptiveRegularization(0.05)),
    "weight decay": Case("sgd", weight_decay=0.05, warm_up=True),
    "FAL, AdamAR, weight decay": Case(
        "adagrad", FrequencyAdaptiveLR(), AdaptiveRegularization(0.05), weight_decay=0.05
    ),
    "warm-up": Case(warm_up=True),
    "MEDA": Case(rewind={}),
    "MEDA, start": Case(rewind={"to": "start"}),
    "tail rewind": Case(rewind={"below": 8, "to": "start"}),
    "tail rewind, reinit": Case("adagrad", rewind={"below": 8, "to": "reinit"}),
    "tail rewind, AdamAR": Case(
        row_decay=AdaptiveRegularization(0.05), rewind={"below": 8, "to": "start"}
    ),
    "MEDA, mean of the ends": Case(rewind=MEAN, dense=torch.optim.Adam, dense_lr=1e-3),
    "accumulators from .1": Case(start=0.1, rewind={}),
    "accumulators from .1 and 1": Case("adagrad", start={"user": 0.1, "item": 1.0}, rewind={}),
    "a vector for each id": Case(
        row_lr=FrequencyAdaptiveLR(), rewind={"below": 8, "to": "start"}, pooled=False
    ),
    "FAL, tail rewind": Case(row_lr=FrequencyAdaptiveLR(), rewind={"below": 8, "to": "reinit"}),
}


Batch = tuple[dict[str, list[Tensor]], Tensor, Tensor]


def batches(n: int = STEPS, pooled: bool = True) -> Iterator[Batch]:
    """The same impressions in each epoch: bags of ids by feature, dense features, labels."""
    g = torch.Generator().manual_seed(1)
    for _ in range(n):
        ids = {}
        for feature, table in {"user": "user", "item": "item", "seen": "item"}.items():
            several = pooled and feature == "seen"
            lengths = torch.randint(0, 4, (BATCH,), generator=g) if several else None
            ids[feature] = [
                (ROWS[table] * torch.rand(int(k), generator=g) ** 2).long()
                for k in (lengths if lengths is not None else [1] * BATCH)
            ]
        yield ids, torch.randn(BATCH, 2, generator=g), torch.rand(BATCH, 1, generator=g).round()


def tables() -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(2)
    return {name: torch.randn(n, DIM, generator=g) * 0.3 for name, n in ROWS.items()}


def dense_layers() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(3 * DIM + 2, 16), nn.Tanh(), nn.Linear(16, 1))


def loss_of(logits: Tensor, labels: Tensor) -> Tensor:
    return nn.functional.binary_cross_entropy_with_logits(logits, labels)


class OneProcess(nn.Module):
    """Sums the vectors of each bag; the features of one table in one lookup."""

    def __init__(self) -> None:
        super().__init__()
        self.tables = nn.ModuleDict(
            {
                name: nn.EmbeddingBag.from_pretrained(weight, freeze=False, mode="sum", sparse=True)
                for name, weight in tables().items()
            }
        )
        self.over = dense_layers()

    def forward(self, ids: dict[str, list[Tensor]], dense: Tensor) -> Tensor:
        vectors = []
        for name, features in {"user": ["user"], "item": ["item", "seen"]}.items():
            bags = [bag for feature in features for bag in ids[feature]]
            ends = torch.tensor([len(bag) for bag in bags]).cumsum(0)
            offsets = torch.cat([torch.zeros(1, dtype=torch.int64), ends[:-1]])
            vectors += self.tables[name](torch.cat(bags), offsets).split(BATCH)
        return self.over(torch.cat([*vectors, dense], dim=1))


class Sharded(nn.Module):
    """The same of TorchRec. On a CPU, FBGEMM returns a vector for each id of single ids alone."""

    def __init__(self, pooled: bool = True) -> None:
        import torchrec

        super().__init__()
        self.pooled, features = pooled, {"user": ["user"], "item": ["item", "seen"]}
        kind = torchrec.EmbeddingBagConfig if pooled else torchrec.EmbeddingConfig
        configs = [
            kind(name=name, embedding_dim=DIM, num_embeddings=n, feature_names=features[name])
            for name, n in ROWS.items()
        ]
        collection = torchrec.EmbeddingBagCollection if pooled else torchrec.EmbeddingCollection
        self.ebc = collection(tables=configs)
        self.over = dense_layers()

    def forward(self, ids: dict[str, list[Tensor]], dense: Tensor) -> Tensor:
        from torchrec import KeyedJaggedTensor

        bags = [bag for feature in ids.values() for bag in feature]
        lengths = torch.tensor([len(bag) for bag in bags])
        found = self.ebc(KeyedJaggedTensor(list(ids), torch.cat(bags), lengths=lengths))
        if self.pooled:
            return self.over(torch.cat([found.values(), dense], dim=1))
        return self.over(torch.cat([*(found[name].values() for name in ids), dense], dim=1))


def one_process(case: Case) -> dict[str, Tensor]:
    """Trains the oracle; returns its tables, as served in the middle of each epoch and at the end,
    and the losses."""
    model = OneProcess()
    optimizer = SparseOptimizer.from_model(
        model,
        dense_lr=case.dense_lr,
        embedding_lr=case.lr,
        dense=case.dense,
        rule=case.rule,
        row_lr=case.row_lr,
        row_decay=case.row_decay,
        weight_decay=case.weight_decay,
        initial_accumulator_value=(
            {f"tables.{name}.weight": start for name, start in case.start.items()}
            if isinstance(case.start, dict)
            else case.start
        ),
    )
    weights = {name: bag.weight for name, bag in model.tables.items()}
    moments = {name: (w.mean().item(), w.std(correction=0).item()) for name, w in weights.items()}

    def drawn_by_row(weight: Tensor) -> None:
        (name,) = (name for name, n in ROWS.items() if n == len(weight))
        mean, std = moments[name]
        fresh = normal_rows(torch.initial_seed(), torch.arange(len(weight)), DIM)
        with torch.no_grad():
            weight.copy_(fresh * std + mean)

    rewind = Rewind(model, optimizer, init=drawn_by_row, **case.remedy())
    read = partial(_copied, weights)
    return train(case, model, optimizer, optimizer.embedding, rewind, read, slice(None))


def _copied(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in weights.items()}


def build(case: Case, how: str) -> tuple[nn.Module, Any, Rewind]:
    """Builds the sharded model, its optimizer and the remedy, as `one_process` does."""
    import torchrec
    from torch.distributed.optim import (
        _apply_optimizer_in_backward as apply_optimizer_in_backward,
    )
    from torchrec.distributed import DistributedModelParallel

    from multiepoch.torchrec import ShardedOptimizer, sharding_plan

    fused = {
        "sgd": torchrec.optim.SGD,
        "adagrad": torchrec.optim.Adagrad,
        "rowwise_adagrad": torchrec.optim.RowWiseAdagrad,
    }
    model = Sharded(case.pooled)
    options = {"lr": case.lr} | ({} if case.rule == "sgd" else {"eps": 1e-8})
    apply_optimizer_in_backward(fused[case.rule], model.ebc.parameters(), options)
    model = DistributedModelParallel(
        model,
        device=torch.device("cpu"),
        plan=sharding_plan(model, HOWS[how]),
    )
    optimizer = ShardedOptimizer(
        model,
        dense=partial(case.dense, lr=case.dense_lr),
        row_lr=case.row_lr,
        row_decay=case.row_decay,
        weight_decay=case.weight_decay,
        initial_accumulator_value=case.start,
    )
    for shard in optimizer.shards:
        whole = tables()[shard.name.split(".")[-2]]
        shard.weight.copy_(whole[shard.offset : shard.offset + len(shard.weight)])
    rewind = Rewind(model, optimizer, **case.remedy())
    return model, optimizer, rewind


def whole_tables(optimizer: Any) -> dict[str, Tensor]:
    """Gathers the tables of a ShardedOptimizer on every process."""
    found = {}
    for shard in optimizer.shards:
        parts: list = [None] * dist.get_world_size()
        dist.all_gather_object(parts, (shard.offset, shard.weight))
        whole = torch.full((shard.n_rows, DIM), torch.nan)
        for offset, part in parts:
            whole[offset : offset + len(part)] = part
        found[shard.name.split(".")[-2]] = whole
    return found


def sharded(case: Case, how: str) -> dict[str, Tensor]:
    model, optimizer, rewind = build(case, how)
    n, rank = BATCH // dist.get_world_size(), dist.get_rank()
    mine = slice(rank * n, (rank + 1) * n)
    return train(case, model, optimizer, optimizer, rewind, partial(whole_tables, optimizer), mine)


def one_step(model, optimizer, batch, mine: slice) -> Tensor:
    ids, dense, labels = batch
    ids = {feature: bags[mine] for feature, bags in ids.items()}
    optimizer.zero_grad()
    loss = loss_of(model(ids, dense[mine]), labels[mine])
    with torch.no_grad():  # an evaluation in between changes nothing
        model(ids, dense[mine])
    loss.backward()
    optimizer.step()
    return loss.detach()


def train(case, model, optimizer, embedding, rewind, read, mine: slice) -> dict[str, Tensor]:
    found, losses, scheduler = {}, [], case.scheduler(optimizer)
    for epoch in range(case.epochs):
        embedding.set_epoch(epoch)
        rewind.before_epoch(epoch)
        for k, batch in enumerate(batches(pooled=case.pooled)):
            losses.append(one_step(model, optimizer, batch, mine))
            if scheduler is not None:
                scheduler.step()
            if k == STEPS // 2:
                with rewind.serving():
                    found |= {f"{name}, epoch {epoch}": w for name, w in read().items()}
                    over = [p.detach() for name, p in model.named_parameters() if "over" in name]
                    found[f"over, epoch {epoch}"] = torch.cat([p.flatten() for p in over])
    loss = torch.stack(losses)
    if mine != slice(None):
        dist.all_reduce(loss)
        loss /= dist.get_world_size()
    rewind.end_epoch()
    with rewind.serving():
        return found | read() | {"losses": loss}

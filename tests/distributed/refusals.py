"""What a sharded job may do besides a step after each backward pass, and what it is refused.

python -m tests.distributed.refusals FILE
"""

import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import torchrec
from torch import Tensor
from torch.distributed.optim import _apply_optimizer_in_backward as apply_optimizer_in_backward
from torchrec.distributed import DistributedModelParallel
from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder
from torchrec.distributed.sharding_plan import (
    construct_module_sharding_plan,
    data_parallel,
    row_wise,
)
from torchrec.distributed.types import ShardingPlan

from multiepoch import AdaptiveRegularization, FrequencyAdaptiveLR
from multiepoch.torchrec import ShardedOptimizer, ShardedState
from tests.distributed.cases import CASES, Case, Sharded, batches, build, loss_of, whole_tables

EVERYTHING = replace(CASES["FAL, AdamAR"], rewind={"below": 8, "to": "start"})


def trained(case: Case, skip: str = "") -> dict[str, Tensor]:
    """Trains some batches, and meets others that it skips in one of several ways."""
    model, optimizer, rewind = build(case, "row_wise")
    rewind.before_epoch(0)
    every = list(batches(5))
    for k, (ids, dense, labels) in enumerate(every):

        def loss(ids=ids, dense=dense, labels=labels) -> Tensor:
            return loss_of(model(ids, dense), labels)

        if skip == "before zero_grad" and k in (1, 3):
            loss()
        if skip == "closure":

            def closure(loss=loss) -> Tensor:
                optimizer.zero_grad()
                (value := loss()).backward()
                return value

            assert optimizer.step(closure).requires_grad
            continue
        if skip == "late zero_grad":
            value = loss()
            optimizer.zero_grad()
        else:
            optimizer.zero_grad()
            if skip == "after zero_grad" and k in (1, 3):
                loss()
                optimizer.zero_grad()
            value = loss()
        value.backward()
        optimizer.step()
    rewind.before_epoch(1)
    counts = {f"{s.table} count": s.fal["count"].float() for s in optimizer.shards}
    return whole_tables(optimizer) | counts


def sentence(call: Callable) -> str:
    """Returns what the call is refused with."""
    try:
        call()
    except BaseException as error:  # as that of torch.distributed.checkpoint
        return str(error)
    return "it was not refused"


def loaded(saved: Case, here: Case) -> str:
    """Saves a run of one case and loads it into another; returns what it is refused with."""
    with tempfile.TemporaryDirectory() as folder:
        dcp.save({"run": ShardedState(*build(saved, "row_wise"))}, checkpoint_id=Path(folder))
        state = {"run": ShardedState(*build(here, "row_wise"))}
        return sentence(partial(dcp.load, state, checkpoint_id=Path(folder)))


def accumulate() -> None:
    model, *_rest = build(EVERYTHING, "row_wise")
    for ids, dense, labels in batches(2):
        loss_of(model(ids, dense), labels).backward()


def replicated() -> None:
    """Trains a table as TorchRec plans small ones by itself."""
    model = Sharded()
    options = {"lr": 0.1, "eps": 1e-8}
    apply_optimizer_in_backward(torchrec.optim.Adagrad, model.ebc.parameters(), options)
    sharder = EmbeddingBagCollectionSharder()
    ways = {"user": data_parallel(), "item": row_wise(compute_kernel="fused")}
    plan = {"ebc": construct_module_sharding_plan(model.ebc, ways, sharder, 1, 1, "cpu")}
    model = DistributedModelParallel(model, plan=ShardingPlan(plan), device=torch.device("cpu"))
    ShardedOptimizer(model, partial(torch.optim.SGD, lr=0.1))


def after_backward() -> dict[str, Tensor]:
    """Returns a table after a backward pass, without a step and with one."""
    found = {}
    for ends in ("zero_grad", "step"):
        model, optimizer, _ = build(replace(CASES["weight decay"], warm_up=False), "row_wise")
        ids, dense, labels = next(iter(batches(1)))
        loss_of(model(ids, dense), labels).backward()
        getattr(optimizer, ends)()
        found[ends] = whole_tables(optimizer)["item"]
    return found


def main(path: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    ways = "", "before zero_grad", "after zero_grad", "late zero_grad", "closure"
    found = {way: trained(EVERYTHING, way) for way in ways}
    base = CASES["rowwise_adagrad"]
    others = {
        "rule": replace(base, rule="adagrad"),
        "rule without state": replace(base, rule="sgd"),
        "row_lr": replace(base, row_lr=FrequencyAdaptiveLR()),
        "row_decay": replace(base, row_decay=AdaptiveRegularization(0.1)),
        "weight_decay": replace(base, weight_decay=0.1),
        "start": replace(base, start=0.1),
        "dense": replace(base, dense=torch.optim.Adam),
        "remedy": replace(base, rewind={"below": 8}),
    }
    said = {name: loaded(case, base) for name, case in others.items()}
    said["twice"] = sentence(accumulate)
    said["data-parallel"] = sentence(replicated)
    said["names"] = sentence(partial(build, replace(base, start={"user": 0.1}), "row_wise"))
    said["no accumulators"] = sentence(partial(build, Case("sgd", start=0.1), "row_wise"))
    said["state_dict"] = sentence(build(base, "row_wise")[1].state_dict)
    torch.save({"trained": found, "said": said, "after": after_backward()}, path)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])

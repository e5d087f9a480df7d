"""Examples per second of whole training, against DeepCTR-Torch's SharedBottom.

    python -m benchmarks.end_to_end [--tiny] [--out FILE]

Both train a shared bottom of 128-64 with a tower of 32 for each of three objectives on AdsWorld's
five tables, 16 wide, and its dense features, in batches of 4,096, with Adam: the same numbers of
rows, layers, impressions. Ours touches the rows of the batch; theirs has dense tables. Theirs runs
in its own `fit`, and again in a loop as lean as ours, with torch's Adam and its fused Adam.
Writes examples per second of every repeat, by number of users.
"""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass, replace
from functools import partial
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.timing import Contestant, arguments, interleaved, write
from multiepoch.optim import FrequencyAdaptiveLR, SparseOptimizer
from multiepoch_lab.data import AdsWorld, Log, Schema
from multiepoch_lab.model import ConversionModel
from multiepoch_lab.train import train

DIM, HIDDEN, TOWER = 16, (128, 64), (32,)
DENSE_LR, TABLE_LR = 1e-3, 1e-2
CROSS = "user_x_advertiser"


@dataclass(frozen=True)
class Size:
    """steps: a turn. cross_rows: what the hashed cross is cut to."""

    users: tuple[int, ...] = (100_000, 1_000_000)
    cross_rows: int = 2**18
    batch: int = 4096
    steps: int = 20
    repeats: int = 5
    parts: int = 4  # a turn trains on one part of the log, the next on another


TINY = Size((300, 500), 2**10, 64, 2, 2, 2)


def part_of(log: Log, first: int, last: int) -> Log:
    ids = {name: column[first:last] for name, column in log.ids.items()}
    return Log(log.schema, ids, log.dense[first:last], log.labels[first:last], log.day[first:last])


def world_log(users: int, size: Size) -> Log:
    log = AdsWorld(n_users=users).day(0, n=size.parts * size.steps * size.batch)
    schema = log.schema
    cardinality = schema.cardinality | {CROSS: size.cross_rows}
    return replace(
        log,
        schema=Schema(cardinality, schema.dense, schema.objectives),
        ids=log.ids | {CROSS: log.ids[CROSS] % size.cross_rows},
    )


def ours(logs: list[Log], size: Size, **options) -> Contestant:
    model = ConversionModel(logs[0].schema, DIM, HIDDEN, TOWER, cross_layers=0)
    optimizer = SparseOptimizer.from_model(
        model,
        dense_lr=DENSE_LR,
        embedding_lr=TABLE_LR,
        rule="adam",
        dense=partial(torch.optim.Adam, fused=True),
        **options,
    )
    turn_of = Turn()

    def run() -> None:
        log = logs[turn_of.turn % len(logs)]
        train(
            model,
            optimizer,
            log,
            epochs=1,
            batch_size=size.batch,
            evaluate_at=(1.0,),
            progress=None,
        )

    return Contestant(run, turn_of)


class Turn:
    """Remembers the turn that comes."""

    turn = 0

    def __call__(self, turn: int) -> None:
        self.turn = turn


def deepctr(logs: list[Log], size: Size) -> dict[str, Contestant]:
    """Theirs; none where the package is not installed."""
    try:
        # Its import starts a thread that asks PyPI for a newer version: not in a benchmark.
        with patch("threading.Thread.start"):
            from deepctr_torch.inputs import DenseFeat, SparseFeat
            from deepctr_torch.models.multitask.sharedbottom import SharedBottom
    except ImportError as error:
        print(f"without DeepCTR-Torch: {error}", flush=True)
        return {}
    schema = logs[0].schema
    columns = [SparseFeat(name, n, DIM) for name, n in schema.cardinality.items()]
    columns += [DenseFeat(name, 1) for name in schema.dense]
    # Theirs takes one matrix of float32, ids and dense features side by side.
    inputs = [
        torch.cat([torch.stack(list(log.ids.values()), 1).float(), log.dense], 1) for log in logs
    ]

    def model() -> SharedBottom:
        return SharedBottom(
            columns,
            HIDDEN,
            TOWER,
            l2_reg_embedding=0,
            l2_reg_linear=0,
            task_types=["binary"] * len(schema.objectives),
            task_names=list(schema.objectives),
        )

    def in_its_fit() -> Contestant:
        theirs, turn_of = model(), Turn()
        theirs.compile(
            torch.optim.Adam(theirs.parameters(), DENSE_LR),
            loss=["binary_crossentropy"] * len(schema.objectives),
        )

        def run() -> None:
            k = turn_of.turn % len(logs)
            features = [column.numpy() for column in inputs[k].T]
            labels = logs[k].labels.numpy()
            with contextlib.redirect_stdout(io.StringIO()):
                theirs.fit(features, labels, size.batch, epochs=1, verbose=0)

        return Contestant(run, turn_of)

    def in_our_loop(fused: bool) -> Contestant:
        theirs, turn_of = model(), Turn()
        optimizer = torch.optim.Adam(theirs.parameters(), DENSE_LR, fused=fused)

        def run() -> None:
            k = turn_of.turn % len(logs)
            x, y = inputs[k], logs[k].labels
            for rows in torch.randperm(len(x)).split(size.batch):
                loss = F.binary_cross_entropy(theirs(x[rows]), y[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()

        return Contestant(run, turn_of)

    return {
        "DeepCTR-Torch, its fit": in_its_fit(),
        "DeepCTR-Torch, lean loop": in_our_loop(fused=False),
        "DeepCTR-Torch, lean loop, fused": in_our_loop(fused=True),
    }


def examples_per_second(users: int, size: Size) -> tuple[dict[str, list[float]], dict[str, int]]:
    log = world_log(users, size)
    n = size.steps * size.batch
    logs = [part_of(log, k * n, (k + 1) * n) for k in range(size.parts)]
    torch.manual_seed(0)
    with_fal = ours(logs, size, row_lr=FrequencyAdaptiveLR())
    contestants = {"ours": ours(logs, size), "ours, FAL": with_fal}
    contestants |= deepctr(logs, size)
    ms = interleaved(contestants, size.repeats)
    return {name: [round(1e3 * n / t, 1) for t in times] for name, times in ms.items()}, {
        **log.schema.cardinality
    }


def measure(size: Size) -> dict:
    measured: dict = {"examples": {}, "rows": {}}
    for users in size.users:
        rates, rows = examples_per_second(users, size)
        measured["examples"][str(users)], measured["rows"][str(users)] = rates, rows
        print(f"\n{users:,} users: median examples/s [quartiles]")
        for name, values in rates.items():
            q1, median, q3 = np.quantile(values, [0.25, 0.5, 0.75])
            print(f"  {name:32s} {median:10,.0f} [{q1:,.0f}, {q3:,.0f}]", flush=True)
    measured["setting"] = {
        "dim": DIM,
        "hidden": HIDDEN,
        "tower": TOWER,
        "batch": size.batch,
        "steps": size.steps,
    }
    return measured


def main() -> None:
    options = arguments(__doc__)
    write(options.out, measure(TINY if options.tiny else Size()))


if __name__ == "__main__":
    main()

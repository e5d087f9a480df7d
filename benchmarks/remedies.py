"""Time and memory of the remedies for a repeated epoch, each beside tail rewind.

    OMP_NUM_THREADS=1 python -m benchmarks.remedies [--tiny] [--out results/bench/remedies.json]

Each remedy trains a model of its own on AdsWorld, as in the profile cpu: 500,000 impressions an
epoch, batches of 2,048, Adagrad tables. They take turns every few steps, in an order that rotates,
so that what the machine does meanwhile hits all alike. The time of a repeated epoch includes the
reset before it. Writes, by method, the seconds of each repeated epoch and of entering and leaving
`serving()`, and the bytes that the remedy keeps beside the tables and their optimizer's state.
Takes about five minutes on an idle core.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from benchmarks.timing import arguments, take_turns, write
from multiepoch.data import Log
from multiepoch.methods import EveryEpoch
from multiepoch.model import ConversionModel
from reproduction.own_label.remedy_cost import RATE, RATES
from reproduction.remedies.registry import METHODS
from reproduction.runs import PROFILES, Profile

NAMES = ("plain", "meda", "meda_blend", "tail_rewind", "tail_rewind_blend", *RATES)
BASE = "tail_rewind"


@dataclass(frozen=True)
class Size:
    """epochs: repeated ones, after the first. steps: of a turn."""

    profile: Profile = PROFILES["cpu"]
    epochs: int = 5
    steps: int = 10


TINY = Size(replace(PROFILES["quick"], impressions_per_day=2_000), epochs=2, steps=8)


class Training:
    """One method's training, a few steps at a time."""

    def __init__(self, method: str, log: Log, batch: int) -> None:
        torch.manual_seed(0)
        self.log, self.batch, self.model = log, batch, ConversionModel(log.schema)
        self.optimizer, self.every_epoch = METHODS[method].build(
            self.model,
            dense_lr=1e-3,
            embedding_lr=RATES.get(method, RATE),
            hyperparameter=METHODS[method].grid[0],
            rule="adagrad",
        )

    def turns(self, epochs: int, steps: int) -> Iterator[int]:
        """Trains; yields the index of the epoch after each turn."""
        for index in range(epochs):
            order = torch.randperm(len(self.log), generator=torch.Generator().manual_seed(index))
            self.every_epoch.before_epoch(index)
            batches = order.split(self.batch)
            for first in range(0, len(batches), steps):
                for rows in batches[first : first + steps]:
                    self.every_epoch.backward(rows, partial(self.losses, rows))
                    self.optimizer.step()
                yield index

    def losses(self, rows: torch.Tensor) -> torch.Tensor:
        self.optimizer.zero_grad()
        ids = {name: column[rows] for name, column in self.log.ids.items()}
        losses = self.model.losses(self.model(ids, self.log.dense[rows]), self.log.labels[rows])
        losses.sum().backward()
        return losses.detach()


def measure(size: Size) -> dict:
    log, _, _ = size.profile.split(size.profile.world(seed=0))
    trainings = {name: Training(name, log, size.profile.batch_size) for name in NAMES}
    turns = {name: one.turns(1 + size.epochs, size.steps) for name, one in trainings.items()}
    seconds = take_turns(turns, 1 + size.epochs, time.perf_counter)
    lookups = [torch.bincount(column) for column in log.ids.values()]
    n_tail = sum(int(((n > 0) & (n < METHODS[BASE].grid[0])).sum()) for n in lookups)
    return {
        "seconds": {name: found[1:] for name, found in seconds.items()},
        "serving": {name: serving(one.every_epoch) for name, one in trainings.items()},
        "bytes": {name: one.every_epoch.n_bytes for name, one in trainings.items()},
        "tail_rows": n_tail,
        "impressions": len(log),
    }


def serving(every_epoch: EveryEpoch) -> float:
    """Returns the seconds that entering and leaving the context takes."""
    started = time.perf_counter()
    with every_epoch.serving():
        pass
    return time.perf_counter() - started


def table(found: dict) -> str:
    """Returns time over tail rewind's (median, least and most over epochs), and bytes."""
    heads = ("time / tail rewind", "serving, ms", "MB a million tail rows")
    lines = [f"{'method':22} {heads[0]:>24} {heads[1]:>12} {heads[2]:>24}"]
    base = np.array(found["seconds"][BASE])
    for name, seconds in found["seconds"].items():
        ratio = np.array(seconds) / base
        times = f"{np.median(ratio):.3f} [{ratio.min():.3f}, {ratio.max():.3f}]"
        size = found["bytes"][name] / found["tail_rows"]  # bytes a row, MB a million
        lines.append(f"{name:22} {times:>24} {1e3 * found['serving'][name]:12.1f} {size:24.1f}")
    return "\n".join(lines)


if __name__ == "__main__":
    options = arguments(__doc__)
    torch.set_num_threads(1)
    measured = measure(TINY if options.tiny else Size())
    print(table(measured))
    write(options.out, measured)

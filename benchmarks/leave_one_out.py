"""Time and memory of an epoch with rows that leave the own label out, beside plain training.

    OMP_NUM_THREADS=1 python -m benchmarks.leave_one_out [--tiny] [--out FILE]

Plain training is the default setting: row-wise Adagrad on the tables, Adam on the dense layers.
Both train the model of the chapters on six tables of a million rows together, 16 wide, in batches
of 2,048, and take turns every few steps, so that what the machine does meanwhile hits both alike.
The time is the processor's. The first epoch has no votes to read; the repeated ones count. Writes
seconds by method and epoch, and the bytes of votes. Takes about five minutes on an idle core.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.timing import arguments, take_turns, write
from multiepoch_lab.data import Log, Schema
from multiepoch_lab.leave_one_out import LeaveOneOutRows
from multiepoch_lab.methods import ALL_METHODS
from multiepoch_lab.model import ConversionModel

CARDINALITY = {
    "user": 500_000,
    "product": 250_000,
    "user_x_advertiser": 236_226,
    "campaign": 12_500,
    "advertiser": 1_250,
    "hour": 24,
}
BASE, NEVER = "plain", 10**9


@dataclass(frozen=True)
class Size:
    """rows: the share of CARDINALITY. epochs: repeated ones. steps: of a turn."""

    rows: float = 1.0
    impressions: int = 100 * 2_048
    batch: int = 2_048
    epochs: int = 5
    steps: int = 10


TINY = Size(0.001, 400, 50, 2, 4)


def log_of(size: Size) -> Log:
    """Returns random impressions; low ids are the more frequent."""
    generator = torch.Generator().manual_seed(0)
    n, objectives = size.impressions, ("click", "add_to_cart", "checkout")
    cardinality = {name: max(4, round(size.rows * k)) for name, k in CARDINALITY.items()}
    ids = {
        name: (torch.rand(n, generator=generator) ** 2 * k).long()
        for name, k in cardinality.items()
    }
    return Log(
        Schema(cardinality, ("x0", "x1", "x2", "x3"), objectives),
        ids,
        torch.randn(n, 4, generator=generator),
        (torch.rand(n, len(objectives), generator=generator) < 0.1).float(),
        torch.zeros(n, dtype=torch.int32),
    )


class Training:
    """One method's training, a few steps at a time."""

    def __init__(self, log: Log, options: dict[str, Any] | None) -> None:
        torch.manual_seed(0)
        self.log, self.model = log, ConversionModel(log.schema)
        self.optimizer, _ = ALL_METHODS["plain"].build(
            self.model, dense_lr=1e-3, embedding_lr=0.3, rule="rowwise_adagrad"
        )
        self.rows = (
            None if options is None else LeaveOneOutRows(self.model, self.optimizer, **options)
        )
        self.column: torch.Tensor | None = None
        if options is not None and options.get("votes") == "column":
            self.column = torch.zeros(len(log), self.rows.width, dtype=torch.uint8)

    def turns(self, size: Size) -> Iterator[int]:
        """Trains; yields the index of the epoch after each turn."""
        for index in range(1 + size.epochs):
            generator = torch.Generator().manual_seed(index)
            batches = torch.randperm(len(self.log), generator=generator).split(size.batch)
            for first in range(0, len(batches), size.steps):
                for at in batches[first : first + size.steps]:
                    self.step(at)
                yield index

    def step(self, at: torch.Tensor) -> None:
        def closure() -> None:
            self.optimizer.zero_grad()
            ids = {name: column[at] for name, column in self.log.ids.items()}
            logits = self.model(ids, self.log.dense[at])
            self.model.losses(logits, self.log.labels[at]).sum().backward()

        if self.rows is None:
            closure()
        elif self.column is None:
            self.rows.backward(at, closure)
        else:
            own = self.column.index_select(0, at)
            self.rows.backward(own, closure)
        self.optimizer.step()
        if self.column is not None:
            self.column.index_copy_(0, at, own)


def measure(size: Size) -> dict:
    log = log_of(size)
    with tempfile.TemporaryDirectory() as folder:
        ways: dict[str, dict[str, Any] | None] = {
            BASE: None,
            "memory": {},
            "memory, every row": {"below": NEVER},
            "file": {"votes": Path(folder)},
            "column": {"votes": "column"},
        }
        trainings = {name: Training(log, options) for name, options in ways.items()}
        turns = {name: one.turns(size) for name, one in trainings.items()}
        seconds = take_turns(turns, 1 + size.epochs, time.process_time)
    counts = {name: torch.bincount(column)[column] for name, column in log.ids.items()}
    few = sum(int((count < 100).sum()) for count in counts.values())
    tables = 4 * sum(len(p) for p in trainings[BASE].model.table_parameters().values())
    kept = {name: one.rows.n_bytes - tables for name, one in trainings.items() if one.rows}
    return {
        "seconds": {name: found[1:] for name, found in seconds.items()},
        "bytes": kept,
        "lookups": len(log) * len(log.ids),
        "infrequent": few,
    }


def table(found: dict) -> str:
    """Returns time over plain's (median, least and most over epochs), and bytes a lookup."""
    heads = ("time / plain", "bytes a lookup", "a lookup of a row below 100")
    lines = [f"{'votes in':18} {heads[0]:>24} {heads[1]:>15} {heads[2]:>28}"]
    base = np.array(found["seconds"][BASE])
    for name, seconds in found["seconds"].items():
        ratio = np.array(seconds) / base
        times = f"{np.median(ratio):.3f} [{ratio.min():.3f}, {ratio.max():.3f}]"
        kept = found["bytes"].get(name, 0)
        each = kept / found["lookups"], kept / found["infrequent"]
        lines.append(f"{name:18} {times:>24} {each[0]:15.1f} {each[1]:28.1f}")
    return "\n".join(lines)


def main() -> None:
    options = arguments(__doc__)
    torch.set_num_threads(1)
    measured = measure(TINY if options.tiny else Size())
    print(table(measured))
    write(options.out, measured)


if __name__ == "__main__":
    main()

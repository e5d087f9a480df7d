"""How fast the model trains with torch's own sparse optimizers.

    python benchmarks/training.py [--impressions 1000000] [--repeats 3] [--threads 2]

One epoch over a log of AdsWorld at its defaults (100k users, 50k products, 2.5k campaigns, 250
advertisers) and a hashed cross cut to 2 ** 18 rows; tables 16 wide, MLP 128-64, batch 4,096, Adam
on the dense part. Prints examples/s of each repeat, without evaluation, and the share of a step
that each part takes, one run after the other on the same machine.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

import torch

from multiepoch.data import AdsWorld, Log, Schema
from multiepoch.model import ConversionModel
from multiepoch.train import predict, train

BATCH = 4096
CROSS_ROWS = 2**18
TABLE_OPTIMIZERS = {
    "SparseAdam": lambda p: torch.optim.SparseAdam(p, lr=0.01),
    "sparse Adagrad": lambda p: torch.optim.Adagrad(p, lr=0.05),
}


def with_cross_rows(log: Log, rows: int) -> Log:
    name = "user_x_advertiser"
    schema = Schema(log.schema.cardinality | {name: rows}, log.schema.dense, log.schema.objectives)
    return replace(log, schema=schema, ids=log.ids | {name: log.ids[name] % rows})


def setup(log: Log, name: str) -> tuple[ConversionModel, list[torch.optim.Optimizer]]:
    torch.manual_seed(0)
    model = ConversionModel(log.schema)
    dense = torch.optim.Adam(model.dense_parameters(), lr=1e-3, fused=True)
    return model, [TABLE_OPTIMIZERS[name](list(model.table_parameters().values())), dense]


def parts_of_a_step(log: Log, name: str, steps: int = 60) -> dict[str, float]:
    """Milliseconds a step spends in each part."""
    model, optimizers = setup(log, name)
    order = torch.randperm(len(log))
    spent = dict.fromkeys(["batch", "forward", "backward", "tables", "dense layers"], 0.0)
    for step in range(steps):
        marks = [time.perf_counter()]
        rows = order[step * BATCH : (step + 1) * BATCH]
        ids = {column: values[rows] for column, values in log.ids.items()}
        dense, labels = log.dense[rows], log.labels[rows]
        marks.append(time.perf_counter())
        loss = model.loss(model(ids, dense), labels)
        marks.append(time.perf_counter())
        model.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            marks.append(time.perf_counter())
            optimizer.step()
        marks.append(time.perf_counter())
        for part, start, end in zip(spent, marks, marks[1:]):
            spent[part] += (end - start) * 1000 / steps
    return spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--impressions", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    log = with_cross_rows(AdsWorld().day(0, n=options.impressions), CROSS_ROWS)
    print(f"torch {torch.__version__}, {options.threads} threads, {len(log):,} impressions")

    for name in TABLE_OPTIMIZERS:
        print(name)
        model, optimizers = setup(log, name)
        train(model, optimizers, log, epochs=options.repeats, batch_size=BATCH)
        spent = parts_of_a_step(log, name)
        print("  ms a step: " + ", ".join(f"{part} {ms:.2f}" for part, ms in spent.items()))
    start = time.perf_counter()
    predict(model, log)
    print(f"prediction: {len(log) / (time.perf_counter() - start):,.0f} examples/s")


if __name__ == "__main__":
    main()

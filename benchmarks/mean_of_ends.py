"""What the mean of the ends costs: `python -m benchmarks.mean_of_ends [--rows N] [--cpu]`.

A table of a million rows of 32 floats and a small tower see as many impressions as there are rows,
each of one id by a power law. Prints the time of an epoch, that of taking its end into the mean and
of putting the mean in and out for serving, and the memory of the mean.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from multiepoch import SparseOptimizer, meda

DIM, BATCH = 32, 1_024


def seconds(action: Callable[[], Any]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.mean_of_ends")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--cpu", action="store_true", help="keep the mean in host memory")
    args = parser.parse_args()
    torch.manual_seed(0)
    table = nn.Embedding(args.rows, DIM, sparse=True)
    tower = nn.Sequential(nn.Linear(DIM, 128), nn.ReLU(), nn.Linear(128, 1))
    model = nn.Sequential(table, tower)
    optimizer = SparseOptimizer.from_model(model, 1e-3, 0.3)
    repeat = meda(model, optimizer, average=True, average_on="cpu" if args.cpu else None)
    ids = (torch.rand(args.rows) ** 2 * args.rows).long()
    labels = (torch.rand(args.rows, 1) < 0.1).float()

    def train() -> None:
        for its, label in zip(ids.split(BATCH), labels.split(BATCH)):
            optimizer.zero_grad()
            nn.functional.binary_cross_entropy_with_logits(model(its), label).backward()
            optimizer.step()

    def serve() -> None:
        with repeat.serving():
            pass

    for epoch in range(5):
        reset = seconds(lambda epoch=epoch: repeat.before_epoch(epoch))
        trained, ended, served = seconds(train), seconds(repeat.end_epoch), seconds(serve)
        share = f"{ended / trained:.1%} and {served / trained:.1%} of it"
        print(f"epoch {epoch + 1}: reset {reset:.2f} s, training {trained:.2f} s", end="; ")
        print(f"its end {1e3 * ended:.0f} ms and serving {1e3 * served:.0f} ms, {share}")
    size = sum(p.nbytes for p in model.parameters())
    print(f"the mean takes {repeat.n_bytes / size:.2f} times the model's {size / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()

"""Times optimizer steps on one table on a GPU, each rule with and without FAL, and SparseAdam.

    python -m benchmarks.gpu_steps [--device cuda] [--rows 100000 1000000] [--out FILE]

Forward and backward passes are left out: the same sparse gradients are handed to each contestant.
The contestants take turns, and the median is over turns, in microseconds.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import torch

from benchmarks.timing import write
from multiepoch.optim import EmbeddingOptimizer, FrequencyAdaptiveLR

RULES = ("adam", "adagrad", "rowwise_adagrad", "sgd")
LOOKUPS, DIM, BATCHES = 16_384, 64, 16


def contestants(table: torch.nn.Parameter) -> dict[str, torch.optim.Optimizer]:
    """Returns every optimizer of the one table, by name."""
    found = {"torch SparseAdam": torch.optim.SparseAdam([table], lr=1e-3)}
    for rule in RULES:
        for name, row_lr in ((rule, None), (f"{rule} with FAL", FrequencyAdaptiveLR())):
            found[name] = EmbeddingOptimizer([table], lr=1e-3, rule=rule, row_lr=row_lr)
    return found


def gradients(rows: int, device: str) -> list[torch.Tensor]:
    """Returns the sparse gradients of a few batches, whose ids follow a power law."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for _ in range(BATCHES):
        ids = (rows * torch.rand(LOOKUPS, generator=generator) ** 4).long()[None].to(device)
        values = torch.randn(LOOKUPS, DIM, generator=generator).to(device)
        found.append(torch.sparse_coo_tensor(ids, values, (rows, DIM), check_invariants=False))
    return found


def measure(rows: int, device: str, turns: int) -> dict[str, float]:
    """Returns the median time of a step in microseconds, by contestant."""
    table = torch.nn.Parameter(torch.randn(rows, DIM, device=device))
    grads, times = gradients(rows, device), {}
    runners = contestants(table)
    wait = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
    for turn in range(turns + 1):  # the first turn warms up
        for name, optimizer in runners.items():
            wait()
            started = time.perf_counter()
            for grad in grads:
                table.grad = grad
                optimizer.step()
            wait()
            if turn:
                elapsed = (time.perf_counter() - started) / len(grads)
                times.setdefault(name, []).append(1e6 * elapsed)
    return {name: round(statistics.median(values), 1) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000, 10_000_000])
    parser.add_argument("--turns", type=int, default=20)
    parser.add_argument("--out", type=Path, help="a JSON file to write")
    options = parser.parse_args()
    device = options.device
    name = torch.cuda.get_device_name() if device.startswith("cuda") else "CPU"
    found = {"device": name, "torch": torch.__version__, "lookups": LOOKUPS, "dim": DIM}
    found["microseconds"] = {}
    for rows in options.rows:
        print(f"\n{rows:,} rows, {name}", flush=True)
        try:
            times = measure(rows, device, options.turns)
        except torch.cuda.OutOfMemoryError:  # of the optimizers, which all have their state
            print("  more than the memory of this GPU holds; give fewer --rows")
            break
        found["microseconds"][rows] = times
        for contestant, value in times.items():
            print(f"  {contestant:28s} {value:10,.1f} µs")
    write(options.out, found)


if __name__ == "__main__":
    main()

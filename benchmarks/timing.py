"""What the benchmarks share: contestants in random order in one process, batches, the machine.

OMP_NUM_THREADS says how many threads torch and our kernels use, and THP_MEM_ALLOC_ENABLE=1 lets
torch ask Linux for pages of 2 MiB; both are read when torch is imported, so bench.py sets them for
the processes it starts.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import json
import os
import platform
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from reproduction.records import commit, machine

# A batch: 4,096 impressions of 26 lookups, drawn from rows whose frequency falls with their rank.
N_LOOKUPS = 106_496
ZIPF = 1.05
# For the processes that are timed. The C library gives large blocks back to the system when they
# are freed, above a threshold that moves with what was freed before. Torch's sparse optimizers
# allocate many, so the same step took 20 or 28 ms, by its company. With fixed thresholds the memory
# is kept, as in long training.
MEMORY = {
    "THP_MEM_ALLOC_ENABLE": "1",
    "MALLOC_MMAP_THRESHOLD_": str(2**25),
    "MALLOC_TRIM_THRESHOLD_": str(2**34),
}
FLUSH = 2**30  # bytes that a dense pass reads and writes: more than a last-level cache holds


@dataclass(frozen=True)
class Contestant:
    """prepare(turn) is not timed, run() is."""

    run: Callable[[], object]
    prepare: Callable[[int], object] = lambda turn: None


def interleaved(contestants: Mapping[Hashable, Contestant], repeats: int) -> dict:
    """Milliseconds of each contestant in each turn after the first, which warms up.

    All run once a turn, with the same turn number and in a random order: what the machine does
    meanwhile hits them alike, and the k-th entries make a pair.
    """
    order, rng = list(contestants), np.random.default_rng(0)
    ms: dict[Hashable, list[float]] = {name: [] for name in order}
    gc.collect()
    gc.disable()
    try:
        for turn in range(1 + repeats):
            for k in rng.permutation(len(order)):
                contestants[order[k]].prepare(turn)
                start = time.perf_counter()
                contestants[order[k]].run()
                elapsed = time.perf_counter() - start
                if turn > 0:
                    ms[order[k]].append(round(1e3 * elapsed, 4))
    finally:
        gc.enable()
    return ms


def warm_and_cold(contestants: Mapping[Hashable, Contestant], repeats: int) -> dict[str, dict]:
    """Milliseconds by state of the caches and contestant, all in turn.

    "warm" is right after the contestant ran twice on the same batch. "cold" is after a dense pass
    over a gigabyte, as the layers of a model leave the caches. Either way it does not matter which
    contestant was the one before.
    """
    dense = torch.zeros(FLUSH // 4)

    def warm(one: Contestant) -> Contestant:
        def prepare(turn: int) -> None:
            for _ in range(2):  # once does not bring all rows into a large last-level cache
                one.prepare(2 * turn)
                one.run()
            one.prepare(2 * turn)

        return Contestant(one.run, prepare)

    def cold(one: Contestant) -> Contestant:
        def prepare(turn: int) -> None:
            one.prepare(2 * turn + 1)
            dense.add_(1.0)

        return Contestant(one.run, prepare)

    both = {("warm", name): warm(one) for name, one in contestants.items()}
    both |= {("cold", name): cold(one) for name, one in contestants.items()}
    ms = interleaved(both, repeats)
    return {state: {name: ms[state, name] for name in contestants} for state in ("warm", "cold")}


def batches(n_batches: int, n_lookups: int, n_rows: int, seed: int) -> list[Tensor]:
    """Ids, int64 (n_lookups,) each, of the same number of distinct rows for every table size.

    The lookups of a row follow Zipf's law. The most frequent hundredth of the rows is the same in
    every batch. The others are strewn over the table anew, so that a large table is not cached.
    """
    rng = np.random.default_rng(seed)
    cumulative = np.cumsum(np.arange(1, 10 * n_lookups + 1, dtype=np.float64) ** -ZIPF)
    ranks = np.searchsorted(cumulative, rng.random(n_lookups) * cumulative[-1])
    distinct, which = np.unique(ranks, return_inverse=True)
    k = len(distinct)
    if k > n_rows:
        raise ValueError(f"batches: {k} distinct rows do not fit in {n_rows}.")
    head = rng.choice(n_rows, k // 100, replace=False)
    made = []
    for _ in range(n_batches):
        rows = rng.choice(n_rows, k, replace=False)
        rows = np.concatenate([head, rows[~np.isin(rows, head)]])
        made.append(torch.from_numpy(rows[rng.permutation(which)]))
    return made


def about() -> dict:
    """The machine and what ran on it."""
    huge = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    return {
        "date": datetime.date.today().isoformat(),
        "machine": machine(),
        "system": f"{platform.system()} {platform.machine()}",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "commit": commit(),
        "transparent_hugepage": huge.read_text().strip() if huge.exists() else "not this system's",
    }


def available_bytes() -> int:
    """Memory that can be had without swapping; 0 where the system does not say."""
    meminfo = Path("/proc/meminfo")
    if not meminfo.exists():
        return 0
    lines = dict(line.split(":") for line in meminfo.read_text().splitlines())
    return 1024 * int(lines["MemAvailable"].split()[0])


def take_turns(
    turns: Mapping[str, Iterator[int]], n: int, clock: Callable[[], float]
) -> dict[str, list[float]]:
    """Lets contestants work in turn, in another order each time, and adds up the time of each.

    Args:
        turns: By name, an iterator that does a piece of work and says to which part it counts.
        n: The parts.
        clock: Says the time in seconds.

    Returns:
        By name, the seconds of each part.
    """
    turns, order = dict(turns), list(turns)
    seconds = {name: [0.0] * n for name in turns}
    while turns:
        order = order[1:] + order[:1]
        for name in [name for name in order if name in turns]:
            started = clock()
            index = next(turns[name], None)
            if index is None:
                del turns[name]
            else:
                seconds[name][index] += clock() - started
    return seconds


def arguments(doc: str) -> argparse.Namespace:
    """--tiny and --out, which every benchmark takes."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--tiny", action="store_true", help="a size that only shows that it runs")
    parser.add_argument("--out", type=Path, help="a JSON file to write")
    return parser.parse_args()


def write(path: Path | None, measured: dict) -> None:
    """Writes the file whole, or prints where there is none to write."""
    text = json.dumps({"about": about(), **measured}, indent=None, separators=(",", ":"))
    if path is None:
        print(text)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    partial.write_text(text + "\n")
    os.replace(partial, path)

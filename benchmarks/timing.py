"""What the benchmarks share: contestants in turn in one process, Zipf batches, the machine.

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
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from reproduction.records import commit, machine

# A batch: 4,096 impressions of 26 lookups, drawn from rows whose frequency falls with their rank.
N_LOOKUPS = 106_496
ZIPF = 1.05


@dataclass(frozen=True)
class Contestant:
    """prepare(turn) is not timed, run() is."""

    run: Callable[[], None]
    prepare: Callable[[int], None] = lambda turn: None


def interleaved(
    contestants: dict[str, Contestant], repeats: int, warm_up: int = 3
) -> dict[str, list[float]]:
    """Milliseconds of each contestant in each turn.

    All run once a turn, with the same turn number, and a different one begins each time: what the
    machine does meanwhile hits them alike, and the k-th entries make a pair.
    """
    names = list(contestants)
    ms: dict[str, list[float]] = {name: [] for name in names}
    gc.collect()
    gc.disable()
    try:
        for turn in range(warm_up + repeats):
            first = turn % len(names)
            for name in names[first:] + names[:first]:
                contestants[name].prepare(turn)
                start = time.perf_counter()
                contestants[name].run()
                elapsed = time.perf_counter() - start
                if turn >= warm_up:
                    ms[name].append(round(1e3 * elapsed, 3))
    finally:
        gc.enable()
    return ms


def zipf_ranks(n: int, n_rows: int, rng: np.random.Generator) -> np.ndarray:
    """n ranks in [0, n_rows), rank r with a chance in proportion to (r + 1) ** -ZIPF."""
    cumulative = np.cumsum(np.arange(1, n_rows + 1, dtype=np.float64) ** -ZIPF)
    return np.searchsorted(cumulative, rng.random(n) * cumulative[-1])


def zipf_batches(n_batches: int, n_lookups: int, n_rows: int, seed: int) -> list[Tensor]:
    """Ids, int64 (n_lookups,) each. Which row has which rank is random, as under hashing."""
    rng = np.random.default_rng(seed)
    row_of_rank = rng.permutation(n_rows)
    ranks = (zipf_ranks(n_lookups, n_rows, rng) for _ in range(n_batches))
    return [torch.from_numpy(row_of_rank[rank]) for rank in ranks]


def spread_batches(n_batches: int, n_lookups: int, n_rows: int, seed: int) -> list[Tensor]:
    """The same lookups for each table size: k distinct rows, k the same, strewn over the table.

    Every batch strews them anew, so that in a large table the rows are not in the cache.
    """
    ranks = zipf_ranks(n_lookups, 10 * n_lookups, np.random.default_rng(seed))
    distinct, which = np.unique(ranks, return_inverse=True)
    rng = np.random.default_rng(seed + n_rows)
    k = len(distinct)
    if k > n_rows:
        raise ValueError(f"spread_batches: {k} distinct rows do not fit in {n_rows}.")
    rows = (rng.choice(n_rows, k, replace=False) for _ in range(n_batches))
    return [torch.from_numpy(row[which]) for row in rows]


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

"""Measures the speed and peak memory of reading a log and numbering its ids, against pandas.

    python -m benchmarks.reading [--rows 2000000] [--kinds csv] [--readers multiepoch]

Makes a temporary log with tools/make_big_log.py, as Parquet and as CSV. Each reader runs in its
own process, so that peak memory is its own. pandas reads the same columns and numbers the ids with
`factorize`, which holds the whole file in memory.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

IDS = ("user", "item", "campaign", "advertiser", "site", "country")
REPOSITORY = Path(__file__).parents[1]


def ours(path: Path, cache: Path) -> int:
    from multiepoch_compare.readers import Columns, map_log

    columns = Columns(IDS, ("click", "buy"), "day", ("price",))
    return map_log(path, columns, cache).n


def with_pandas(path: Path, cache: Path) -> int:
    import pandas as pd

    read = pd.read_parquet if path.suffix == ".parquet" else pd.read_csv
    frame = read(path)
    for name in (*IDS, "day"):
        frame[name] = pd.factorize(frame[name])[0]
    return len(frame)


READERS = {"multiepoch": ours, "pandas": with_pandas}


def measured(reader: str, path: Path, cache: Path) -> None:
    """Runs one reader in this process and prints rows, wall seconds, CPU seconds and peak MB."""
    import pandas  # noqa: F401  imports are not timed

    import multiepoch_compare.readers  # noqa: F401

    start, cpu = time.perf_counter(), time.process_time()
    n = READERS[reader](path, cache)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(n, seconds, cpu, peak)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument(
        "--kinds", nargs="+", choices=("parquet", "csv"), default=["parquet", "csv"]
    )
    parser.add_argument("--readers", nargs="+", choices=READERS, default=list(READERS))
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        measured(options.one[0], Path(options.one[1]), Path(options.one[2]))
        return
    print(f"{options.rows:,} rows of ten columns, {os.cpu_count()} cores")
    print(f"{'file':8} {'reader':11} {'rows/s':>10} {'rows/CPU s':>11} {'peak MB':>8}")
    with tempfile.TemporaryDirectory() as folder:
        for kind in options.kinds:
            path = Path(folder) / f"log.{kind}"
            make = [sys.executable, "-m", "tools.make_big_log", str(path)]
            make += ["--rows", str(options.rows)]
            subprocess.run(make, check=True, stdout=subprocess.DEVNULL, cwd=REPOSITORY)
            for reader in options.readers:
                cache = Path(folder) / f"cache-{kind}"
                one = [sys.executable, __file__, "--one", reader, str(path), str(cache)]
                n, seconds, cpu, peak = map(float, subprocess.check_output(one).split())
                speed = f"{n / seconds:>10,.0f} {n / cpu:>11,.0f}"
                print(f"{kind:8} {reader:11} {speed} {peak:>8,.0f}", flush=True)
            path.unlink()


if __name__ == "__main__":
    main()

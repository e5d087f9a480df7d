"""Times the first lines and measures the peak memory of `multiepoch compare` on a log of 20M rows.

    python -m benchmarks.big_log [--rows 20000000] [--kind parquet] [-- OPTIONS OF COMPARE]

Makes a temporary log with tools/make_big_log.py and runs a complete call on it; `-- --epochs 2
--seeds 1` shortens it. Memory is the proportional set size of the whole process tree, read once a
second, so that pages which processes share count once; pages of files, which the system takes back
at need, are told apart.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
COLUMNS = ["--ids", "user,item,campaign,advertiser,site,country", "--labels", "click,buy"]
COLUMNS += ["--dense", "price", "--day", "day"]


def tree(root: int) -> list[int]:
    """Returns a process and all that descend from it."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found = [root]
    for process in found:
        found += parents.get(process, [])
    return found


def memory(root: int) -> dict[str, float]:
    """Returns the proportional set size of a process tree in GiB: all of it, and of files."""
    total = {"Pss": 0, "Pss_File": 0}
    for process in tree(root):
        try:
            text = Path(f"/proc/{process}/smaps_rollup").read_text()
        except OSError:
            continue
        for name in total:
            total[name] += int(re.search(rf"^{name}:\s+(\d+)", text, re.M)[1])
    return {name: kilobytes / 2**20 for name, kilobytes in total.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--kind", choices=("parquet", "csv"), default="parquet")
    parser.add_argument("options", nargs="*", help="of compare, after --")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / f"log.{given.kind}"
        make = [sys.executable, "-m", "tools.make_big_log", str(log), "--rows", str(given.rows)]
        subprocess.run(make, cwd=REPOSITORY, check=True)
        call = [sys.executable, "-u", "-m", "multiepoch_compare", "compare", str(log), *COLUMNS]
        call += ["--out", f"{folder}/report", *given.options]
        environment = os.environ | {"MULTIEPOCH_CACHE": f"{folder}/cache"}
        started = time.perf_counter()
        process = subprocess.Popen(call, env=environment, stdout=subprocess.PIPE, text=True)
        peak, at, done = {"Pss": 0.0}, 0.0, threading.Event()

        def watch() -> None:
            nonlocal peak, at
            while not done.wait(1):
                now = memory(process.pid)
                if now["Pss"] > peak["Pss"]:
                    peak, at = now, time.perf_counter() - started

        watcher = threading.Thread(target=watch)
        watcher.start()
        assert process.stdout is not None
        for line in process.stdout:
            print(f"{time.perf_counter() - started:7.1f} s  {line.rstrip()}", flush=True)
        done.set()
        watcher.join()
        seconds = time.perf_counter() - started
        print(f"exit code {process.wait()} after {seconds:.0f} s; peak {peak['Pss']:.2f} GiB, of ")
        print(f"which {peak.get('Pss_File', 0):.2f} of files, after {at:.0f} s")


if __name__ == "__main__":
    main()

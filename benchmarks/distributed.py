"""`make bench-distributed`: what FAL and tail rewind cost on tables sharded over two processes.

    python benchmarks/distributed.py --python .venv-torchrec/bin/python

Trains a row-wise sharded table of 1e6, 1e7 and 1e8 rows, each with three seeds, and writes
results/bench/distributed.json, from which the book's page "Past one machine" is computed. The
largest needs 12 GB of memory and 7 GB of disk. Run it on an idle machine.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import timing

from multiepoch.stats import interval
from reproduction import records

WORKER = Path(__file__).with_name("distributed_worker.py")


def run(python: Path, n_rows: int, n_steps: int, seed: int) -> dict:
    """Returns what one run of two processes measured."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "found.json"
        command = [python, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        command += [WORKER, *map(str, (n_rows, n_steps, seed)), out]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            sys.exit(done.stderr[-5000:])
        return json.loads(out.read_text())


def summary(one: dict, clock: str = "seconds") -> dict[str, float]:
    """Returns a run's milliseconds of a step, and ratios within the same batches."""
    seconds = one[clock]
    median = {kind: statistics.median(all_) for kind, all_ in seconds.items()}
    epoch = sum(seconds["plain"])
    return {
        **{f"{kind}, ms": 1e3 * value for kind, value in median.items()},
        "throughput with FAL": median["plain"] / median["FAL"],
        "undo log, share of an epoch": sum(seconds["undo log"]) / epoch - 1,
        "reset, share of an epoch": one["rewind"] / sum(one["seconds"]["plain"]),
    }


def show(runs: list[dict]) -> None:
    for clock in ("seconds", "cpu_seconds"):
        print(f"\n{clock}: mean and 95 % interval over the seeds")
        for n_rows in sorted({one["n_rows"] for one in runs}):
            found = [summary(one, clock) for one in runs if one["n_rows"] == n_rows]
            for name in found[0]:
                mean, low, high = interval([one[name] for one in found])
                print(f"{n_rows:>11,}  {name:30} {mean:8.3f} [{low:.3f}, {high:.3f}]")
    for one in runs:
        sizes = {k: f"{v / 2**20:,.0f} MiB" for k, v in one.items() if k.endswith("_bytes")}
        print(f"{one['n_rows']:>11,}", sizes, f"checkpoint {one['checkpoint_seconds']:.1f} s")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", type=Path, default=Path(sys.executable), help="with TorchRec")
    parser.add_argument("--rows", type=float, nargs="+", default=[1e6, 1e7, 1e8])
    parser.add_argument("--steps", type=int, default=200, help="in the epoch, per contestant")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=records.folder() / "bench/distributed.json")
    options = parser.parse_args()
    runs = []
    for seed in range(options.seeds):
        for n_rows in map(int, options.rows):
            print(f"{n_rows:,} rows, seed {seed} ...", flush=True)
            runs.append(run(options.python.absolute(), n_rows, options.steps, seed))
            timing.write(options.out, {"runs": runs})
    show(runs)
    return 0


if __name__ == "__main__":
    sys.exit(main())

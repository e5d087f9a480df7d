"""What FAL and tail rewind cost on tables sharded over two processes.

    OMP_NUM_THREADS=1 python -m benchmarks.distributed --python .venv-torchrec/bin/python

Trains a row-wise sharded table of 1e6, 1e7 and 1e8 rows, each with three seeds, and writes
results/bench/distributed.json, which the book's page "TorchRec" shows. The largest needs 12 GB of
memory and 7 GB of disk. Run it on an idle machine.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks import timing
from reproduction import records
from tools import distributed

WORKER = Path(__file__).with_name("distributed_worker.py")


def run(python: Path, n_rows: int, n_steps: int, seed: int) -> dict:
    """Returns what one run of two processes measured."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "found.json"
        command = [python, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        command += [WORKER, *map(str, (n_rows, n_steps, seed)), out]
        wanted = timing.MEMORY | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, env=os.environ | wanted, capture_output=True, text=True)
        if done.returncode:
            sys.exit(done.stderr[-5000:])
        return json.loads(out.read_text())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", type=Path, default=Path(sys.executable), help="with TorchRec")
    parser.add_argument("--rows", type=float, nargs="+", default=[1e6, 1e7, 1e8])
    parser.add_argument("--steps", type=int, default=1000, help="of the epoch")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=records.folder() / "bench/distributed.json")
    options = parser.parse_args()
    runs = []
    for seed in range(options.seeds):
        for n_rows in map(int, options.rows):
            print(f"{n_rows:,} rows, seed {seed} ...", flush=True)
            runs.append(run(options.python.absolute(), n_rows, options.steps, seed))
            timing.write(options.out, {"runs": runs})
    print(distributed.page(json.loads(options.out.read_text())))
    return 0


if __name__ == "__main__":
    sys.exit(main())

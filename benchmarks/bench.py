"""`make bench`: every benchmark of the page about costs, in one run.

    python -m benchmarks.bench [--tiny] [--no-peers] [--out FOLDER]

Installs the peers, then times steps and whole training, all with memory pages of 2 MiB. Writes
results/bench/*.json, which the book's page is made of, and the evidence of claim C9; prints all
tables. Takes about four minutes, on an idle machine. A peer that is missing ends it at the start,
since the page compares with all of them; --no-peers --out FOLDER times the rest.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from benchmarks import peers
from benchmarks.timing import MEMORY
from reproduction import records
from tools import cost

ROOT = Path(__file__).parents[1]
MISSING = (
    "pip found no {absent} for torch {torch}. FBGEMM is built for one version of torch, and the "
    "page about costs compares with it."
)
OTHERWISE = (
    "In an environment with an older torch all is timed; with --no-peers --out FOLDER, here, all "
    "but the peers."
)


def run(python: str, script: str, threads: int, tiny: bool) -> dict:
    """What a benchmark writes, from a process of its own, whose torch reads the environment."""
    wanted = MEMORY | {"OMP_NUM_THREADS": str(threads)}
    print(f"\n== {script}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.json"
        command = [python, "-m", f"benchmarks.{script}", "--out", out, *["--tiny"] * tiny]
        subprocess.run(command, env=os.environ | wanted, check=True, cwd=ROOT)
        return json.loads(out.read_text())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiny", action="store_true", help="a size that only shows that it runs")
    parser.add_argument("--out", type=Path, help="default: results/")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--no-peers", action="store_true", help="without DeepCTR-Torch and FBGEMM")
    options = parser.parse_args()
    if (options.no_peers or options.tiny) and options.out is None:
        parser.error("--no-peers and --tiny need --out, since the book's page is made of results/.")
    python = sys.executable if options.no_peers else peers.python()
    if not options.no_peers and (absent := peers.missing(python)):
        print(MISSING.format(absent=" and ".join(absent), torch=torch.__version__), file=sys.stderr)
        if not options.tiny:
            print("Nothing was timed. " + OTHERWISE, file=sys.stderr)
            return 1
    out = options.out or records.folder()
    try:
        bench = {
            script: run(python, script, options.threads, options.tiny)
            for script in ("steps", "end_to_end")
        }
    except subprocess.CalledProcessError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped; nothing was written", file=sys.stderr)
        return 130
    print(cost.report(bench))
    folder = out / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    for script, measured in bench.items():
        text = json.dumps(measured, separators=(",", ":"))
        (folder / f"{script}.json").write_text(text + "\n")
    cost.evidence(bench).to_csv(evidence_file(out), index=False)
    print(f"wrote {folder}")
    return 0


def evidence_file(results: Path) -> Path:
    """Where the ledger looks for it."""
    path = results / "cpu" / "cost.evidence.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


if __name__ == "__main__":
    sys.exit(main())

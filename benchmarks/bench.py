"""`make bench`: every benchmark of the page about costs, in one run.

    python benchmarks/bench.py [--tiny] [--out results]

Installs the peers, then times steps and whole training, all with memory pages of 2 MiB. Writes
results/bench/*.json, which the book's page is made of, and the evidence of claim C9; prints all
tables. If two parts give one quantity more than a fifth apart, nothing is written: the machine was
not idle. Takes about four minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import peers
import steps
from timing import MEMORY

from reproduction import records
from tools import cost

HERE = Path(__file__).parent


def run(python: str, script: str, threads: int, tiny: bool) -> dict:
    """What a benchmark writes, from a process of its own, whose torch reads the environment."""
    wanted = MEMORY | {"OMP_NUM_THREADS": str(threads)}
    print(f"\n== {script}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.json"
        command = [python, HERE / f"{script}.py", "--out", out, *["--tiny"] * tiny]
        subprocess.run(command, env=os.environ | wanted, check=True)
        return json.loads(out.read_text())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiny", action="store_true", help="a size that only shows that it runs")
    parser.add_argument("--out", type=Path, default=records.folder(), help="default: results/")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--no-peers", action="store_true", help="only what is installed here")
    options = parser.parse_args()
    python = sys.executable if options.no_peers else peers.python()
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
    apart = steps.disagreements(bench["steps"])
    if apart and not options.tiny:
        print("Refused: repeat this on an idle machine. Two parts disagree on", file=sys.stderr)
        print("\n".join(f"  {one}" for one in apart), file=sys.stderr)
        return 1
    folder = options.out / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    for script, measured in bench.items():
        text = json.dumps(measured, separators=(",", ":"))
        (folder / f"{script}.json").write_text(text + "\n")
    cost.evidence(bench).to_csv(evidence_file(options.out), index=False)
    print(f"wrote {folder}")
    return 0


def evidence_file(results: Path) -> Path:
    """Where the ledger looks for it."""
    path = results / "cpu" / "cost.evidence.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


if __name__ == "__main__":
    sys.exit(main())

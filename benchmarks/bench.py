"""`make bench`: every benchmark of the page about costs, in one run.

    python benchmarks/bench.py [--tiny] [--out results]

Installs the peers, then times steps and whole training, each with the pages of 4 KiB that Linux
gives unasked and with pages of 2 MiB (THP_MEM_ALLOC_ENABLE=1). Writes results/bench/*.json, which
the book's page is made of, and the evidence of claim C9; prints all tables. Give it the machine
alone, for about ten minutes.
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

from reproduction import records
from tools import cost

HERE = Path(__file__).parent


def run(python: str, script: str, kind: str, threads: int, tiny: bool) -> dict:
    """What a benchmark writes, from a process of its own, whose torch reads the environment."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    environment.pop("THP_MEM_ALLOC_ENABLE", None)
    if kind == "huge":
        environment["THP_MEM_ALLOC_ENABLE"] = "1"
    print(f"\n== {script}, pages of {cost.PAGES[kind]}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.json"
        command = [python, HERE / f"{script}.py", "--out", out, *["--tiny"] * tiny]
        subprocess.run(command, env=environment, check=True)
        return json.loads(out.read_text())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiny", action="store_true", help="a size that only shows that it runs")
    parser.add_argument("--out", type=Path, default=records.folder(), help="default: results/")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--no-peers", action="store_true", help="only what is installed here")
    options = parser.parse_args()
    python = sys.executable if options.no_peers else peers.python()
    folder = options.out / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        for script in ("steps", "end_to_end"):
            measured = {}
            for kind in cost.PAGES:
                one = run(python, script, kind, options.threads, options.tiny)
                measured["about"] = one.pop("about")
                measured[kind] = one
            text = json.dumps(measured, separators=(",", ":"))
            (folder / f"{script}.json").write_text(text + "\n")
    except subprocess.CalledProcessError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped; what was written before stands", file=sys.stderr)
        return 130
    bench = cost.load(folder)
    cost.evidence(bench).to_csv(evidence_file(options.out), index=False)
    print(f"\n{cost.report(bench)}\nwrote {folder}")
    return 0


def evidence_file(results: Path) -> Path:
    """Where the ledger looks for it."""
    path = results / "cpu" / "cost.evidence.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


if __name__ == "__main__":
    sys.exit(main())

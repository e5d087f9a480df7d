"""Runs every target of `make help` from a fresh clone, at its smallest size: `make every-target`.

Takes hours, mostly for the environments that the targets install. Prints a table of what passed
and how long it took. The clone and the outputs stay in _build/every-target, and the same call at
the same commit runs what has not passed yet. Only what is committed is in the clone.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from tabulate import tabulate

from multiepoch_lab.files import write_text

ROOT = Path(__file__).parents[1]
KEPT = ROOT / "_build" / "every-target"
SMALLEST = {
    "book": ["PROFILE=quick"],
    "regression": ["PROFILE=quick"],
    "random-logs": ["OPTIONS=--logs 5"],
    "mutations": ["OPTIONS='table groups never change'"],
    "release": ["PROFILE=quick"],
    "gpu": ["OPTIONS=--profile quick --device cpu"],
    "bench": ["OPTIONS=--tiny --out _build/bench"],
    "bench-distributed": [
        "OPTIONS=--rows 1e4 --steps 5 --seeds 1 --out _build/bench/distributed.json"
    ],
    "bench-leave-one-out": ["OPTIONS=--tiny"],
    "colab": ["OPTIONS=notebooks/02_conversion_data_and_the_model.ipynb"],
}
LAST = "clean"  # removes what the others installed
LIMIT = 2 * 3_600  # seconds of a target
OF_THE_CALLER = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "PROFILE", "PYTHONPATH", "VIRTUAL_ENV")


def targets(root: Path) -> list[str]:
    """Returns the targets that `make help` lists, in the order in which they are run."""
    found = re.findall(r"^([a-z-]+):.*## ", (root / "Makefile").read_text(), re.M)
    return sorted(set(found) - {"every-target"}, key=lambda one: (one == LAST, found.index(one)))


def fresh_clone(root: Path, kept: Path) -> Path:
    """Returns a clone of the commit of `root`, with the results so far if there is one already."""

    def commit(of: Path) -> str:
        head = ["git", "-C", of, "rev-parse", "HEAD"]
        return subprocess.run(head, check=True, capture_output=True, text=True).stdout

    clone = kept / "clone"
    if not (clone / ".git").exists() or commit(clone) != commit(root):
        shutil.rmtree(kept, ignore_errors=True)
        kept.mkdir(parents=True)
        subprocess.run(["git", "clone", "--quiet", root, clone], check=True)
    return clone


def run(target: str, clone: Path, output: Path) -> dict:
    """Runs a target; returns whether it passed, the seconds and the last line of its output."""
    environment = {name: value for name, value in os.environ.items() if name not in OF_THE_CALLER}
    command = ["make", target, *SMALLEST.get(target, [])]
    streams = {"stdin": subprocess.DEVNULL, "stderr": subprocess.STDOUT}
    how = {"cwd": clone, "env": environment, "start_new_session": True}
    start = time.monotonic()
    with output.open("w") as file:
        process = subprocess.Popen(command, stdout=file, **streams, **how)
        try:
            passed = process.wait(LIMIT) == 0
        except subprocess.TimeoutExpired:
            passed = False
            file.write(f"\nended after {LIMIT / 3_600:.0f} hours\n")
        finally:
            with suppress(ProcessLookupError):  # what make has started goes on without it
                os.killpg(process.pid, signal.SIGKILL)
    lines = [line for line in output.read_text(errors="replace").splitlines() if line.strip()]
    said = [line for line in lines if not line.startswith("make: ")]
    last = said[-1].strip("= ") if said else ""
    return {"passed": passed, "seconds": round(time.monotonic() - start), "last": last}


def table(found: dict[str, dict]) -> str:
    """Returns one line for each target, in Markdown."""
    rows = []
    for target, one in found.items():
        call = " ".join(["make", target, *SMALLEST.get(target, [])])
        took = f"{one['seconds'] // 60}:{one['seconds'] % 60:02d}"
        rows.append((call, "passed" if one["passed"] else "FAILED", took, one["last"][:90]))
    return tabulate(rows, ["target", "result", "min:s", "last line"], tablefmt="pipe")


def main(arguments: list[str] | None = None, root: Path = ROOT, kept: Path = KEPT) -> int:
    """Returns 1 if a target failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("targets", nargs="*", help="in this order; default: all")
    chosen, known = parser.parse_args(arguments).targets, targets(root)
    if unknown := set(chosen) - set(known):
        parser.error(f"no such target: {', '.join(sorted(unknown))}; choose from {' '.join(known)}")
    clone = fresh_clone(root, kept)
    file = kept / "results.json"
    found = json.loads(file.read_text()) if file.exists() else {}
    for target in chosen or known:
        if found.get(target, {}).get("passed"):
            print(f"{target}: passed before", flush=True)
            continue
        print(f"{target} ...", flush=True)
        found[target] = run(target, clone, kept / f"{target}.log")
        write_text(file, json.dumps(found, indent=1))
    found = {target: found[target] for target in known if target in found}
    write_text(kept / "table.md", table(found) + "\n")
    print(table(found), f"The outputs: {kept}/TARGET.log", sep="\n\n")
    return int(not all(one["passed"] for one in found.values()))


if __name__ == "__main__":
    sys.exit(main())

"""Kills the quick regression at random moments and resumes it; the report must be the same.

    python tests/kills.py [TIMES [SEED [NN ...]]]

In a copy of the tree. One run to its end gives the report to compare with and the time it takes.
Then TIMES (10) times: begun anew, killed with all its children at a random moment, up to three
times over, and resumed to the end. NN: notebooks, by how they begin; all by default.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from mutation import copy


def start(root: Path, *options: str) -> subprocess.Popen:
    environment = os.environ | {"PYTHONPATH": str(root / "src")}
    return subprocess.Popen(
        [sys.executable, "-m", "tests.regression.command", "regression", *options], cwd=root, env=environment,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip


def kill(run: subprocess.Popen) -> None:
    """The run, and every process that descends from it: kernels have sessions of their own."""
    everyone = [*psutil.Process(run.pid).children(recursive=True), psutil.Process(run.pid)]
    for process in everyone:
        try:
            process.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue
    run.wait()


def report(root: Path) -> dict:
    """What the report says, but for what the clock decides."""
    said = json.loads((root / "regression" / "report.json").read_text())
    return {"ok": said["ok"], "start_with": said["start_with"], "rows": said["rows"]}


def main(times: str = "10", seed: str = "0", *only: str) -> int:
    draw, differ, rounds = random.Random(int(seed)), 0, int(times)
    chosen = ["--only", *only] if only else []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder).resolve()
        copy(root)
        began = time.perf_counter()
        start(root, *chosen).wait()
        whole, expected = time.perf_counter() - began, report(root)
        print(f"to the end at once: {whole:.0f} s, ok is {expected['ok']}", flush=True)
        for k in range(rounds):
            moments = []
            for number in range(draw.randint(1, 3)):
                run = start(root, *chosen, *(["--resume"] if number else []))
                try:
                    run.wait(moment := draw.uniform(0.5, 0.8 * whole))
                except subprocess.TimeoutExpired:
                    kill(run)
                    moments.append(f"{moment:.0f}")
            start(root, *chosen, *(["--resume"] if moments else [])).wait()
            same = report(root) == expected
            differ += not same
            words = "the same report" if same else "ANOTHER REPORT"
            print(f"{k + 1}: killed after {', '.join(moments) or 'nothing'} s; {words}", flush=True)
    print(f"{rounds - differ} of {rounds} the same")
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

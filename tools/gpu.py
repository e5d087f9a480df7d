"""Runs all that needs a GPU, in pieces that resume: `make gpu`, or `python -m tools.gpu`.

The pieces are the tests marked for CUDA, the step benchmark, the experiments of chapters 4 to 8
with their tuning, and the sizes of claim C19, one by one. Their records go to results/PROFILE. With
--minutes, the call ends in time; the finished pieces are noted and each training run is kept, so
that the same call goes on later. It then exits with 75, the code for "try again".
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import time
from pathlib import Path

from multiepoch_lab.files import write_text
from reproduction import records
from reproduction.ch11_new_data_every_day import scale
from reproduction.runs import PROFILES

ROOT = Path(__file__).parents[1]
AGAIN = 75  # EX_TEMPFAIL
CHAPTERS = ("tuning", "04", "05", "07", "dose")


def pieces(profile: str, device: str) -> dict[str, list[str]]:
    """Returns the command of each piece, in order. Tuning comes before the chapters that use it."""
    python = [sys.executable, "-m"]
    out = str(records.folder() / profile / "gpu_steps.json")
    found = {
        "tests": [*python, "pytest", "-q", "-m", "gpu", "tests"],
        "steps": [*python, "benchmarks.gpu_steps", "--device", device, "--out", out],
    }
    options = ["--profile", profile, "--device", device]
    for name in CHAPTERS:
        found[name] = [*python, "reproduction", name, *options]
    # Those of tuned.json were found at the size of cpu.
    found["tuning"] += ["--keep-rates", "--only", "(shared|plain) rowwise_adagrad, 1 epoch at 1$"]
    # C19 counts in windows of long, so that a GPU and a CPU measure the same sizes.
    size, most = ("quick", 1) if profile == "quick" else ("long", None)
    for times in scale.TIMES[:most]:
        only = ["--record", profile, "--only", f"^{times:g}, "]
        how = ["--profile", size, "--device", device, *only]
        found[f"scale {times:g}"] = [*python, "reproduction", "scale", *how]
    if profile == "quick":  # to try the pieces, not to measure
        found["steps"] += ["--rows", "10000", "--turns", "2"]
        found["dose"] += ["--seeds", "20", "--only", "AdsWorld"]
    return found


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", choices=PROFILES, default="gpu")
    parser.add_argument("--device", default="cuda", help="cpu tries the pieces without a GPU")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="end in this time")
    options = parser.parse_args(arguments)
    deadline = time.monotonic() + 60 * options.minutes
    for name, command in pieces(options.profile, options.device).items():
        done = ROOT / "runs" / "gpu" / f"{options.profile}-{options.device}-{name}.done"
        if done.exists():
            print(f"{name}: done before", flush=True)
            continue
        print(f"{name}: {' '.join(command)}", flush=True)
        process = subprocess.Popen(command, cwd=ROOT)
        try:
            left = deadline - time.monotonic()
            code = process.wait(max(left, 0) if left < float("inf") else None)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            process.wait()
            print(f"{name}: stopped in time; the same call goes on here", flush=True)
            return AGAIN
        if code:
            print(f"{name}: failed with exit status {code}", file=sys.stderr)
            return 1
        write_text(done, "")
    return 0


if __name__ == "__main__":
    sys.exit(main())

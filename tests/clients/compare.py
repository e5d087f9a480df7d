"""Measures what the recipes change: a client's own optimizer against ours, loss and time.

    python -m tests.clients.compare [--seeds 4] [--client NAME]

Rates are chosen on worlds of their own. The record is results/bench/clients.json, from which the
page *Recipes* makes its table.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import re
import subprocess
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import torch

from multiepoch.files import write_text
from tests.clients.data import CLIENTS, Days, expected_logloss
from tests.clients.running import prepared, quiet, run
from tools.recipes import ROOT, Recipe, recipes

THEIRS, OURS = (0.001, 0.003, 0.01), (0.003, 0.01, 0.03)
DEFAULT = 0.001
TUNING_SEEDS = (100,)
N = 20_000
RECORD = ROOT / "results" / "bench" / "clients.json"


def with_rate(recipe: Recipe, kind: str, lr: float) -> str:
    """Returns the code before or after, with another rate of all parameters or of the tables."""
    if kind == "ours":
        code, old = recipe.after, r"(\"?embedding_lr\"?(?:=|: ))1e-2"
    else:
        code, old = recipe.before, r"(\"?\blr\"?(?:=|: ))1e-3"
    if recipe.client == "DeepCTR-Torch" and kind != "ours":
        # Its "adam" is torch.optim.Adam at 1e-3.
        code, found = re.subn('"adam"', f"torch.optim.Adam(model.parameters(), lr={lr})", code)
        code = f"import torch\n{code}"
    elif recipe.client == "RecBole" and kind != "ours":
        code, found = f'config["learning_rate"] = {lr}\n{code}', 1
    else:
        code, found = re.subn(old, rf"\g<1>{lr}", code)
    if found != 1:
        raise ValueError(f"{recipe.client}, {kind}: the rate is in {found} places")
    return code


def measure(recipe: Recipe, kind: str, lr: float, seed: int) -> dict:
    """Trains one model for one epoch, and returns its row of the record."""
    with tempfile.TemporaryDirectory() as folder:
        days = Days.of(seed, N, Path(folder))
        names = prepared(recipe, days)
        code = with_rate(recipe, kind, lr)
        with quiet(days.folder):
            start = time.process_time()
            run(code, names, seed)
            seconds = time.process_time() - start
        predicted = CLIENTS[recipe.client].predict(names, days, "test")
        loss = expected_logloss(predicted, days.test)
    row = dict(client=recipe.client, kind=kind, lr=lr, seed=seed, loss=loss, seconds=seconds)
    print(row, flush=True)
    return row


def compared(recipe: Recipe, n_seeds: int) -> list[dict]:
    """Chooses both rates, then measures the three variants in turn, seed by seed."""
    best, rows = {}, []
    for kind, rates in (("tuned", THEIRS), ("ours", OURS)):
        runs = [measure(recipe, kind, lr, seed) for lr in rates for seed in TUNING_SEEDS]
        losses = np.array([one["loss"] for one in runs]).reshape(len(rates), -1).mean(axis=1)
        best[kind] = rates[int(losses.argmin())]
    for seed in range(n_seeds):
        default = measure(recipe, "default", DEFAULT, seed)
        again = best["tuned"] != DEFAULT
        tuned = (
            measure(recipe, "tuned", best["tuned"], seed) if again else default | dict(kind="tuned")
        )
        rows += [default, tuned, measure(recipe, "ours", best["ours"], seed)]
    return rows


def about(n_seeds: int) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        days = Days.of(0, N, Path(folder))
    git = ("git", "-C", ROOT, "rev-parse", "--short=10", "HEAD")
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    constant = torch.full((len(days.test.day),), float(days.label("train").mean()))
    return {
        "n": N,
        "rows": sum(days.cardinality.values()),
        "bayes": expected_logloss(days.test.p_true[:, 0], days.test),
        "constant": expected_logloss(constant, days.test),
        "seeds": n_seeds,
        "theirs": ", ".join(f"{lr:g}" for lr in THEIRS),
        "ours": ", ".join(f"{lr:g}" for lr in OURS),
        "machine": cpu[1] if cpu else platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "date": datetime.date.today().isoformat(),
        "commit": subprocess.run(git, capture_output=True, text=True).stdout.strip(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--client", help="only this one; the record keeps the others")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    for recipe in recipes():
        if options.client in (None, recipe.client):
            runs = compared(recipe, options.seeds)
            others = json.loads(RECORD.read_text())["runs"] if RECORD.exists() else []
            runs += [one for one in others if one["client"] != recipe.client]
            record = {"about": about(options.seeds), "runs": runs}
            write_text(RECORD, json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""Measures what the recipes change: a client's own optimizer against ours, loss and time.

    python -m tests.clients.compare [--seeds 4] [--client NAME]

Rates are chosen on another world: one for the client's Adam; with it as the rate of our dense
layers, as book/use-it.md advises, a multiple of it for our tables. The record is
results/bench/clients.json, from which the page *Recipes* makes its table.
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

import torch

from multiepoch_lab.files import write_text
from tests.clients.data import CLIENTS, Days, expected_logloss
from tests.clients.running import prepared, quiet, run
from tools.recipes import ROOT, Recipe, recipes

RATES, MULTIPLES = (0.001, 0.003, 0.01), (1, 3, 10)
DEFAULT = 0.001
TUNING_SEED = 100
N = 20_000
RECORD = ROOT / "results" / "bench" / "clients.json"


def with_rates(recipe: Recipe, kind: str, lr: float, multiple: int) -> str:
    """Returns the code after or before, with another rate; `multiple` is for our tables."""
    if kind == "ours":
        code, found = re.subn(r'(dense_lr"?(?:=|: ))1e-3', rf"\g<1>{lr}", recipe.after)
        code, again = re.subn(r'(embedding_lr"?(?:=|: ))1e-2', rf"\g<1>{multiple * lr}", code)
        found *= again
    elif recipe.client == "DeepCTR-Torch":
        # Its "adam" is torch.optim.Adam at 1e-3.
        adam = f"__import__('torch').optim.Adam(model.parameters(), lr={lr})"
        code, found = re.subn('"adam"', adam, recipe.before)
    elif recipe.client == "RecBole":
        code, found = f'config["learning_rate"] = {lr}\n{recipe.before}', 1
    else:
        code, found = re.subn(r'(\blr"?(?:=|: ))1e-3', rf"\g<1>{lr}", recipe.before)
    if found != 1:
        raise ValueError(f"{recipe.client}, {kind}: the rate is in {found} places")
    return code


def measure(recipe: Recipe, kind: str, seed: int, lr: float, multiple: int = 1) -> dict:
    """Trains one model for one epoch, and returns its row of the record."""
    with tempfile.TemporaryDirectory() as folder:
        days = Days.of(seed, N, Path(folder))
        names = prepared(recipe, days)
        code = with_rates(recipe, kind, lr, multiple)
        with quiet(days.folder):
            start = time.process_time()
            run(code, names, seed)
            seconds = time.process_time() - start
        predicted = CLIENTS[recipe.client].predict(names, days, "test")
        loss = expected_logloss(predicted, days.test)
    row = dict(client=recipe.client, kind=kind, seed=seed, lr=lr, multiple=multiple)
    row |= dict(loss=loss, seconds=seconds)
    print(row, flush=True)
    return row


def compared(recipe: Recipe, n_seeds: int) -> list[dict]:
    """Chooses the rates, then measures the three variants in turn, seed by seed."""

    def lowest(runs: list[dict]) -> dict:
        return min(runs, key=lambda one: one["loss"])

    lr = lowest([measure(recipe, "tuned", TUNING_SEED, lr) for lr in RATES])["lr"]
    tries = [measure(recipe, "ours", TUNING_SEED, lr, k) for k in MULTIPLES]
    multiple, rows = lowest(tries)["multiple"], []
    for seed in range(n_seeds):
        default = measure(recipe, "default", seed, DEFAULT)
        same = default | {"kind": "tuned"}
        tuned = same if lr == DEFAULT else measure(recipe, "tuned", seed, lr)
        rows += [default, tuned, measure(recipe, "ours", seed, lr, multiple)]
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
        "seeds": list(range(n_seeds)),
        "rates": ", ".join(f"{lr:g}" for lr in RATES),
        "multiples": ", ".join(map(str, MULTIPLES)),
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

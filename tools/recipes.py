"""Reads the recipes from book/recipes.md, and makes the table of what they change.

Each section of a client has four blocks of Python: what both variants need, the client's own code,
the same with our optimizer, and several epochs with a rewind, which replace the last line of the
third. More blocks may follow. `make test-clients` runs them; `python -m tests.clients.compare`
measures the second and third, and writes the record, results/bench/clients.json.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tabulate import tabulate

from multiepoch_lab.stats import interval

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "book" / "recipes.md"
BLOCK = re.compile(
    r"^```(?:python|\{code-block\} python)\n(?::emphasize-lines: ([0-9,]+)\n)?(.*?)^```$",
    re.M | re.S,
)


@dataclass(frozen=True)
class Recipe:
    """The code of one client."""

    client: str
    setup: str
    before: str
    after: str
    repeat: str
    more: tuple[str, ...]
    marked: tuple[int, ...]  # the lines of `after` that `before` has not, from 1


def recipes() -> list[Recipe]:
    """Returns the recipes of the page in their order."""
    found = []
    for section in PAGE.read_text(encoding="utf-8").split("\n## ")[1:]:
        client, blocks = section.partition("\n")[0], BLOCK.findall(section)
        if blocks:
            setup, before, after, repeat, *more = (code for _, code in blocks)
            marked = tuple(int(line) for line in blocks[2][0].split(","))
            found.append(Recipe(client, setup, before, after, repeat, tuple(more), marked))
    return found


def _spread(values: Sequence[float], digits: int) -> str:
    mean, low, high = interval(values)
    return f"{mean:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def _of(record: dict, client: str) -> list[list[dict]]:
    """Returns a client's runs as it comes, tuned and with ours, each by world."""
    runs = [run for run in record["runs"] if run["client"] == client]
    return [[run for run in runs if run["kind"] == kind] for kind in ("default", "tuned", "ours")]


def _percent(runs: list[list[dict]]) -> np.ndarray:
    tuned, ours = (np.array([run["loss"] for run in each]) for each in runs[1:])
    return 100 * (ours / tuned - 1)


def _faster(runs: list[list[dict]]) -> np.ndarray:
    return np.divide(*([run["seconds"] for run in runs[k]] for k in (0, 2)))


def table(record: dict) -> str:
    """Tabulates lines, loss and time of each client, before and after."""
    rows = []
    for recipe in recipes():
        runs = default, _, ours = _of(record, recipe.client)
        if not ours:
            rows.append([recipe.client, str(len(recipe.marked)), *["not recorded"] * 7])
            continue
        rates = [f"{one[0]['lr']:g}" for one in runs]
        rates[2] += f", {ours[0]['multiple'] * ours[0]['lr']:g}"
        loss = (np.mean([run["loss"] for run in one]) for one in runs)
        seconds = (np.mean([run["seconds"] for run in one]) for one in (default, ours))
        rows.append(
            [recipe.client, str(len(recipe.marked))]
            + [f"{mean:.4f} ({rate})" for mean, rate in zip(loss, rates)]
            + [_spread(_percent(runs), 2)]
            + [f"{mean:.1f}" for mean in seconds]
            + [_spread(_faster(runs), 1)]
        )
    head = ["client", "new lines", "logloss, as it comes", "tuned", "ours, tuned"]
    head += ["ours against tuned, %", "seconds", "ours", "times as fast"]
    return tabulate(rows, head, tablefmt="pipe", disable_numparse=True) + "\n"


def predicted(record: dict) -> str:
    """Says for how many clients the two predictions came true."""
    by_client = {name: _of(record, name) for name in {run["client"] for run in record["runs"]}}
    close = [name for name, runs in by_client.items() if abs(_percent(runs).mean()) < 1]
    slow = [name for name, runs in by_client.items() if _faster(runs).mean() < 2]
    return (
        "We predicted two things before the first run: with both tuned, our logloss is within 1 % "
        "of the client's, and training is at least twice as fast. By the means, the first is so "
        f"for {len(close)} of {len(by_client)} clients, and the second for "
        f"{len(by_client) - len(slow)}"
        + (f" (not {', '.join(sorted(slow))})" if slow else "")
        + "."
        "\n"
    )


def generate(results: Path, target: Path) -> None:
    """Writes the table and its explanation for the page."""
    record = json.loads((results / "bench" / "clients.json").read_text())
    about = (
        "Logloss on the next day after one epoch over {n:,} impressions with {rows:,} rows of 16 "
        "floats, in expectation under the true probabilities ({bayes:.4f} at best, {constant:.4f} "
        "for a constant), and seconds of processor time to build and train the model: means over "
        "{worlds} worlds, and for differences and ratios of the same world the 95 % interval. In "
        "brackets is the learning rate, for ours that of the dense layers and of the tables. *As "
        "it comes* is the client's own Adam at its own rate; *tuned* is its best rate of {rates}; "
        "*ours* has that rate for the dense layers and {multiples} times of it for the tables. "
        "Rates are chosen on another world. {machine}, "
        "{threads} thread, torch {torch}, {date}, commit {commit}; "
        "`python -m tests.clients.compare` in the environment of `make test-clients`.\n\n"
    )
    (target / "recipes.md").write_text(
        about.format(**record["about"], worlds=len(record["about"]["seeds"]))
        + table(record)
        + "\n"
        + predicted(record)
    )

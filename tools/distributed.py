"""Turns results/bench/distributed.json into the tables of book/past-one-machine.md.

`python -m benchmarks.distributed` writes the record: for each size of the table and each seed, the
seconds of every step. Plain TorchRec, FAL and the undo log take turns; the k-th steps of all are a
round.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from tabulate import tabulate

from tools.cost import spread


def _range(values: Iterable[float], digits: int) -> str:
    """Formats the median and the extremes, for what a run has once."""
    found = list(values)
    return f"{np.median(found):,.{digits}f} [{min(found):,.{digits}f}, {max(found):,.{digits}f}]"


def added(run: dict) -> float:
    """Returns what the undo log and its reset add to an epoch, in % of plain training."""
    log, plain = (sum(run["seconds"][kind]) for kind in ("undo log", "plain"))
    return 100 * ((log + run["rewind"]) / plain - 1)


def ratios(run: dict) -> np.ndarray:
    """Returns the throughput with FAL over that of plain TorchRec, for each round."""
    return np.divide(run["seconds"]["plain"], run["seconds"]["FAL"])


def _by_size(runs: list[dict], lines: dict[str, Callable[[list[dict]], str]]) -> str:
    sizes = sorted({run["n_rows"] for run in runs})
    of = {n: [run for run in runs if run["n_rows"] == n] for n in sizes}
    rows = [[name, *(cell(of[n]) for n in sizes)] for name, cell in lines.items()]
    head = ["rows of the table", *(f"{n:,}" for n in sizes)]
    return tabulate(rows, head, tablefmt="pipe", disable_numparse=True) + "\n"


def table(runs: list[dict]) -> str:
    """Tabulates the steps, what FAL and tail rewind take of them, and memory."""
    n_steps = len(runs[0]["seconds"]["plain"])

    def steps(kind: str) -> Callable[[list[dict]], str]:
        return lambda some: spread([1e3 * s for run in some for s in run["seconds"][kind]], 1)

    def megabytes(*names: str) -> Callable[[list[dict]], str]:
        return lambda some: f"{np.median([sum(r[n] for n in names) for r in some]) / 1e6:,.0f}"

    return _by_size(
        runs,
        {
            "step of plain TorchRec, ms": steps("plain"),
            "step with FAL, ms": steps("FAL"),
            "throughput with FAL over plain": lambda some: spread(
                np.concatenate([ratios(run) for run in some]), 3
            ),
            f"tail rewind, % of an epoch of {n_steps:,} steps": lambda some: _range(
                [added(run) for run in some], 1
            ),
            "weights and optimizer state, MB": megabytes("table_bytes", "state_bytes"),
            "FAL's counts, MB": megabytes("count_bytes"),
            "undo log, MB": megabytes("undo_log_bytes"),
        },
    )


def page(record: dict) -> str:
    """Returns what the page says about the record."""
    about, runs = record["about"], record["runs"]
    rounds, seeds = len(runs[0]["seconds"]["plain"]), len({run["seed"] for run in runs})
    return (
        f"Two processes share a table of 16 floats a row; each has {runs[0]['lookups']:,} lookups "
        "a step, of as many rows whatever the size of the table. Plain TorchRec, FAL and the undo "
        f"log take turns in one run: medians and quartiles over {rounds} rounds for each of "
        f"{seeds} seeds, and the least and the most of the seeds for what a run has once. Pages of "
        "memory have 2 MiB, and freed memory is kept. "
        f"{about['machine']}, torch {about['torch']}, {about['date']}, commit {about['commit']}; "
        "`python -m benchmarks.distributed`.\n\n"
        f"{table(runs)}"
    )


def generate(results: Path, target: Path) -> None:
    """Writes the page's part about the record."""
    text = page(json.loads((results / "bench" / "distributed.json").read_text()))
    (target / "distributed.md").write_text(text)

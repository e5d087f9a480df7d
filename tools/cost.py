"""Turns the benchmark records into the tables, numbers and figure of book/cost.md.

results/bench/steps.json and end_to_end.json hold the repeats that benchmarks/bench.py timed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from tabulate import tabulate

from reproduction import judge, records, style
from reproduction.ch10_board import experiment as board
from reproduction.findings import estimate
from reproduction.remedies.board import BOARD
from tools import figures

RULES = {"adam": "Adam", "rowwise_adagrad": "row-wise Adagrad", "adagrad": "Adagrad", "sgd": "SGD"}
# The torch optimizer for the same job; row-wise Adagrad comes closest to the sparse Adagrad.
COUNTERPART = {
    "adam": "SparseAdam",
    "rowwise_adagrad": "Adagrad, sparse",
    "adagrad": "Adagrad, sparse",
    "sgd": "SGD, sparse",
}
DENSE = ("Adam, dense", "Adam, dense, fused", "Adagrad, dense")
SCALED = {
    "adam": "ours, Adam",
    "rowwise_adagrad": "ours, row-wise Adagrad",
    "SparseAdam": "torch, SparseAdam",
}
CACHES = ("warm", "cold")
THEIRS = "DeepCTR-Torch, its fit"
REMEDIES = ("fal", "meda", "tail_rewind", "tail_rewind_blend")  # on the board


def load(folder: Path) -> dict:
    """Reads both files of results/bench."""
    names = ("steps", "end_to_end")
    return {name: json.loads((folder / f"{name}.json").read_text()) for name in names}


def paired(above: Iterable[float], below: Iterable[float]) -> np.ndarray:
    """Divides each repeat by the one timed in the same turn."""
    return np.asarray(above) / np.asarray(below)


def spread(values, digits: int = 2, unit: str = "") -> str:
    """Formats the median and the quartiles."""
    q1, median, q3 = np.quantile(values, [0.25, 0.5, 0.75])
    return f"{median:,.{digits}f}{unit} [{q1:,.{digits}f}, {q3:,.{digits}f}]"


def _table(head: list[str], rows: list[list[str]]) -> str:
    return tabulate(rows, head, tablefmt="pipe", disable_numparse=True) + "\n"


def step(bench: dict) -> str:
    found, head, rows = bench["steps"]["step"], ["optimizer"], []
    for rule, path in product(RULES, ("", ", eager")):
        cells, theirs = [f"ours, {RULES[rule]}{path}"], COUNTERPART[rule]
        for times in (found[caches] for caches in CACHES):
            ms = times[rule + path]
            faster = f"{spread(paired(times[theirs], ms), 1)} {theirs.split(',')[0]}"
            cells += [spread(ms), faster]
        rows.append(cells)
    for name in (*dict.fromkeys(COUNTERPART.values()), *DENSE):
        warm, cold = (spread(found[caches][name]) for caches in CACHES)
        rows.append([f"torch, {name}", warm, "", cold, ""])
    for caches in CACHES:
        head += [f"ms, {caches} caches", "times as fast as torch's"]
    return _table(head, rows)


def lookup(bench: dict) -> str:
    rows = []
    for (n, by_caches), caches in product(bench["steps"]["lookup"].items(), CACHES):
        times = by_caches[caches]
        ours, theirs = times["rowwise_adagrad"], times["Adagrad, sparse"]
        cells = [f"{int(n):,}", caches, spread(ours), spread(theirs)]
        cells.append(spread(paired(theirs, ours), 1))
        if "FBGEMM" in times:
            cells += [spread(times["FBGEMM"]), spread(paired(times["FBGEMM"], ours), 1)]
        rows.append(cells)
    faster = "ours is times as fast"
    return _table(["rows", "caches", "ours", "torch", faster, "FBGEMM", faster], rows)


def size(bench: dict) -> str:
    rows = []
    for optimizer in SCALED:
        warm, cold = (bench["steps"]["size"][optimizer][caches] for caches in CACHES)
        first = next(iter(cold))
        for n in cold:
            ratio = "" if n == first else spread(paired(cold[n], cold[first]))
            rows.append([SCALED[optimizer], f"{int(n):,}", spread(warm[n]), spread(cold[n])])
            rows[-1].append(ratio)
    head = ["optimizer", "rows", "ms, warm caches", "ms, cold caches"]
    return _table([*head, "cold: times the smallest table's"], rows)


def extras(bench: dict, caches: str, rule: str, what: str) -> dict[str, float]:
    """Returns the extra time of a step in percent: by seed, the median over pairs of repeats."""
    by_seed = {seed: ms[caches] for seed, ms in bench["steps"]["extra"][rule].items()}
    return {
        seed: 100 * (float(np.median(paired(ms[what], ms["plain"]))) - 1)
        for seed, ms in by_seed.items()
    }


def _extra(bench: dict, caches: str, rule: str, what: str) -> str:
    median, upper = np.quantile([*extras(bench, caches, rule, what).values()], [0.5, 0.75])
    return f"{median:.1f} % (upper quartile {upper:.1f} %)"


def extra(bench: dict) -> str:
    rows = []
    for rule, caches in product(RULES, CACHES):
        added = (_extra(bench, caches, rule, what) for what in ("FAL", "AdamAR"))
        rows.append([RULES[rule], caches, *added])
    return _table(["rule", "caches", "FAL adds", "AdamAR adds"], rows)


def memory(bench: dict) -> str:
    found = bench["steps"]["bytes"]

    def cell(state: float) -> str:
        return f"{state:,.0f} ({1 + state / found['table']:.3g}x)"

    more = ("", " + FAL", " + AdamAR")
    rows = [[f"ours, {RULES[rule]}", *(cell(found[rule + m]) for m in more)] for rule in RULES]
    theirs = ("SparseAdam", "Adagrad, sparse", "Adam, dense")
    rows += [[f"torch, {name}", cell(found[name]), "", ""] for name in theirs]
    return _table(["optimizer", "state", "with FAL", "with AdamAR"], rows)


def training(bench: dict) -> str:
    rows = []
    for users, rates in bench["end_to_end"]["examples"].items():
        for name, values in rates.items():
            ours = name.startswith("ours")
            faster = "" if ours else spread(paired(rates["ours"], values), 1)
            rows.append([f"{int(users):,}", name, spread(values, 0), faster])
    return _table(["users", "training", "examples/s", "ours is times as fast"], rows)


def remedies(results: Path) -> str:
    """Returns what a run with each of REMEDIES costs, by the record of the board."""
    of_board = board.cost(records.read(board.NAME, "long", results).rows)
    rows = [
        [BOARD[name].label, *(f"{of_board.loc[name, what]:.2f}" for what in ("time", "memory"))]
        for name in REMEDIES
    ]
    return _table(["remedy", "CPU time, plain = 1", "memory, plain = 1"], rows)


TABLES = {one.__name__: one for one in (step, lookup, size, extra, memory, training)}


def evidence(bench: dict) -> pd.DataFrame:
    """Returns the evidence for claim C9, with cold caches, as in training.

    The time of a seed is the median extra of the rule to which FAL adds most.
    """
    time = pd.DataFrame([extras(bench, "cold", rule, "FAL") for rule in RULES]).max()
    memory = pd.Series(_counter_percent(bench), time.index)
    return judge.evidence([("C9", "time", "", time), ("C9", "memory", "", memory)])


def _counter_percent(bench: dict) -> float:
    found = bench["steps"]["bytes"]
    return 100 * (found["adam + FAL"] - found["adam"]) / found["table"]


def numbers(results: Path) -> dict[str, str]:
    """Returns the numbers in the sentences of book/cost.md, by name."""
    bench = load(results / "bench")
    steps, whole = bench["steps"], bench["end_to_end"]["examples"]
    setting, found, sizes = steps["setting"], steps["bytes"], steps["size"]
    smallest, *_, largest = sizes["rowwise_adagrad"]["cold"]
    growth = paired(*(sizes["rowwise_adagrad"]["cold"][n] for n in (largest, smallest)))
    lookups = steps["lookup"][str(setting["n_rows"])]
    time = evidence(bench).query("measure == 'time'")["value"]
    found_numbers = {
        f"cost_speedup_adam_{caches}": spread(
            paired(steps["step"][caches]["SparseAdam"], steps["step"][caches]["adam"]), 1
        )
        for caches in CACHES
    }
    for name, theirs in (("all_in", "Adagrad, sparse"), ("fbgemm", "FBGEMM")):
        if theirs in lookups["cold"]:
            ratio = paired(lookups["cold"][theirs], lookups["cold"]["rowwise_adagrad"])
            found_numbers[f"cost_{name}_cold"] = spread(ratio, 1)
    return found_numbers | {
        "cost_fal_time": _extra(bench, "cold", "adam", "FAL"),
        "cost_fal_time_worst": estimate(time, "%"),
        "cost_fal_memory": f"{_counter_percent(bench):.3f} %",
        "cost_adam_fal_memory": f"{1 + found['adam + FAL'] / found['table']:.3g}",
        "cost_growth": spread(growth),
        "cost_smallest": f"{int(smallest):,}",
        "cost_largest": f"{int(largest):,}",
        "cost_training": " and ".join(
            f"{spread(paired(of['ours'], of[THEIRS]), 1)} with {int(n):,} users"
            for n, of in whole.items()
            if THEIRS in of
        ),
        "cost_machine": "{machine} ({system}), {threads} threads, torch {torch}, Python {python}, "
        "{date}, commit {commit}".format_map(steps["about"]),
        "cost_lookups": f"{setting['n_lookups']:,}",
        "cost_distinct": f"{setting['distinct']:,}",
        "cost_rows": f"{setting['n_rows']:,}",
        "cost_dim_of_largest": str(setting["dim_of_largest"]),
        "cost_row": f"{setting['dim']} floats is {found['table']:,.0f} bytes",
    }


def figure(bench: dict):
    """Draws the time of a step with cold caches against table size. Torch's optimizer is grey."""
    looks = {
        "adam": ("#000000", "-"),
        "rowwise_adagrad": ("#000000", "--"),
        "SparseAdam": (style.REFERENCE, "-"),
    }
    fig, axes = style.figure(height=4.2)
    for optimizer, (color, dashes) in looks.items():
        times = bench["steps"]["size"][optimizer]["cold"]
        n = [int(key) for key in times]
        q1, median, q3 = np.quantile(list(times.values()), [0.25, 0.5, 0.75], axis=1)
        axes.plot(n, median, color=color, linestyle=dashes, label=SCALED[optimizer])
        axes.fill_between(n, q1, q3, color=color, alpha=0.16, linewidth=0)
    axes.set(xscale="log", yscale="log", xlabel="rows in the table", ylabel="milliseconds a step")
    axes.set_ylim(top=150)  # room for the legend
    axes.legend()
    return fig


def generate(results: Path, target: Path, static: Path) -> None:
    """Writes the tables and the figure that book/cost.md includes."""
    bench = load(results / "bench")
    for name, table in TABLES.items():
        (target / f"cost-{name}.md").write_text(table(bench))
    if records.read(board.NAME, "long", results) is not None:
        (target / "cost-remedies.md").write_text(remedies(results))
    with style.plt.rc_context(style.STYLE):  # which the legend takes when created
        fig = figure(bench)
        figures.keep(fig, "fig-cost-size", target, static)
        fig.savefig(target / "cost-size.png", dpi=style.STYLE["figure.dpi"])
    style.plt.close(fig)


def report(bench: dict) -> str:
    """Returns all tables, for a terminal."""
    return "\n".join(f"{name}\n\n{table(bench)}" for name, table in TABLES.items())

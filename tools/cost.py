"""Turns the benchmark records into the tables, numbers and figure of book/cost.md.

results/bench/steps.json and end_to_end.json hold the repeats that benchmarks/bench.py timed, once
with memory pages of 4 KiB ("small") and once with pages of 2 MiB ("huge").
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from tabulate import tabulate

from reproduction import style
from reproduction.findings import estimate
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
    "Adam, dense": "torch, Adam, dense",
}
PAGES = {"small": "4 KiB", "huge": "2 MiB"}
THEIRS = "DeepCTR-Torch, its fit"


def load(folder: Path) -> dict | None:
    """Reads both files of results/bench as one, by kind of page; None if either is missing."""
    files = [folder / "steps.json", folder / "end_to_end.json"]
    if not all(file.exists() for file in files):
        return None
    steps, training = (json.loads(file.read_text()) for file in files)
    return steps | {kind: {**steps[kind], "training": training[kind]} for kind in PAGES}


def paired(above: Iterable[float], below: Iterable[float]) -> np.ndarray:
    """Divides each repeat by the one timed in the same turn."""
    return np.asarray(above) / np.asarray(below)


def _spread(values, digits: int = 2, unit: str = "") -> str:
    """Formats the median and the quartiles."""
    q1, median, q3 = np.quantile(values, [0.25, 0.5, 0.75])
    return f"{median:,.{digits}f}{unit} [{q1:,.{digits}f}, {q3:,.{digits}f}]"


def _table(head: list[str], rows: list[list[str]]) -> str:
    return tabulate(rows, head, tablefmt="pipe", disable_numparse=True) + "\n"


def step(bench: dict) -> str:
    head, rows = ["optimizer"], []
    for rule, path in product(RULES, ("compiled", "eager")):
        cells, theirs = [f"ours, {RULES[rule]}, {path}"], COUNTERPART[rule]
        for times in (bench[kind]["step"] for kind in PAGES):
            ms = times.get(f"{rule}, {path}")
            faster = ms and f"{_spread(paired(times[theirs], ms), 1)} {theirs.split(',')[0]}"
            cells += [_spread(ms), faster] if ms else ["–", "–"]
        rows.append(cells)
    for name in (*dict.fromkeys(COUNTERPART.values()), *DENSE):
        small, huge = (_spread(bench[kind]["step"][name]) for kind in PAGES)
        rows.append([f"torch, {name}", small, "", huge, ""])
    for pages in PAGES.values():
        head += [f"ms, {pages} pages", "times as fast as torch's"]
    return _table(head, rows)


def lookup(bench: dict) -> str:
    head, rows = ["rule"], [[name] for name in RULES.values()]
    for kind, pages in PAGES.items():
        times = bench[kind]["lookup"]
        head += [f"ours, {pages} pages", "torch", "FBGEMM"]
        for rule, row in zip(RULES, rows):
            keys = (rule, COUNTERPART[rule], f"FBGEMM {rule}")
            row += [_spread(times[key]) if key in times else "has none" for key in keys]
    return _table(head, rows)


def size(bench: dict) -> str:
    rows = []
    for optimizer, kind in product(SCALED, PAGES):
        times = bench[kind]["size"][optimizer]
        first = next(iter(times.values()))
        for n, ms in times.items():
            ratio = "" if ms is first else _spread(paired(ms, first))
            rows.append([SCALED[optimizer], PAGES[kind], f"{int(n):,}", _spread(ms), ratio])
    return _table(["optimizer", "pages", "rows", "ms", "times the smallest table's"], rows)


def extras(bench: dict, kind: str, rule: str, what: str) -> dict[str, np.ndarray]:
    """Returns the extra time of a step in percent: by seed, one value for each pair of repeats."""
    by_seed = bench[kind]["extra"][rule]
    return {seed: 100 * (paired(ms[what], ms["plain"]) - 1) for seed, ms in by_seed.items()}


def _pooled(bench: dict, kind: str, rule: str, what: str) -> str:
    return _spread(np.concatenate(list(extras(bench, kind, rule, what).values())), 1, " %")


def extra(bench: dict) -> str:
    rows = []
    for rule, kind in product(RULES, PAGES):
        plain = np.concatenate([ms["plain"] for ms in bench[kind]["extra"][rule].values()])
        added = (_pooled(bench, kind, rule, what) for what in ("FAL", "AdamAR", "both"))
        rows.append([RULES[rule], PAGES[kind], _spread(plain), *added])
    return _table(["rule", "pages", "ms without", "FAL", "AdamAR", "both"], rows)


def memory(bench: dict) -> str:
    found = bench["small"]["bytes"]

    def cell(state: float) -> str:
        return f"{state:,.0f} ({1 + state / found['table']:.3g}x)"

    more = ("", " + FAL", " + AdamAR")
    rows = [[f"ours, {RULES[rule]}", *(cell(found[rule + m]) for m in more)] for rule in RULES]
    theirs = ("SparseAdam", "Adagrad, sparse", "Adam, dense")
    rows += [[f"torch, {name}", cell(found[name]), "", ""] for name in theirs]
    return _table(["optimizer", "state", "with FAL", "with AdamAR"], rows)


def training(bench: dict) -> str:
    rows = []
    for kind, pages in PAGES.items():
        for users, rates in bench[kind]["training"]["examples"].items():
            for name, values in rates.items():
                ours = name.startswith("ours")
                faster = "" if ours else _spread(paired(rates["ours"], values), 1)
                rows.append([f"{int(users):,}", pages, name, _spread(values, 0), faster])
    return _table(["users", "pages", "training", "examples/s", "ours is times as fast"], rows)


TABLES = {one.__name__: one for one in (step, lookup, size, extra, memory, training)}


def evidence(bench: dict) -> pd.DataFrame:
    """Returns the evidence for claim C9, with pages of 4 KiB.

    The time of a seed is the median extra of the rule to which FAL adds most.
    """
    by_rule, rows = [extras(bench, "small", rule, "FAL") for rule in RULES], []
    for seed in by_rule[0]:
        time = max(float(np.median(by_seed[seed])) for by_seed in by_rule)
        rows.append(("C9", "time", int(seed), time))
        rows.append(("C9", "memory", int(seed), _counter_percent(bench)))
    return pd.DataFrame(rows, columns=["claim", "measure", "seed", "value"])


def _counter_percent(bench: dict) -> float:
    found = bench["small"]["bytes"]
    return 100 * (found["adam + FAL"] - found["adam"]) / found["table"]


def numbers(results: Path) -> dict[str, str]:
    """Returns the numbers in the sentences of book/cost.md, by name; none without a record."""
    bench = load(results / "bench")
    if bench is None:
        return {}
    small = bench["small"]
    setting, found = small["setting"], small["bytes"]

    def speedup(rule: str) -> str:
        compiled = small["step"][f"{rule}, compiled"]
        return _spread(paired(small["step"][COUNTERPART[rule]], compiled), 1)

    def whole(kind: str) -> str:
        rates = bench[kind]["training"]["examples"].items()
        faster = {users: _spread(paired(of["ours"], of[THEIRS]), 1) for users, of in rates}
        return " and ".join(f"{ratio} with {int(n):,} users" for n, ratio in faster.items())

    ours = [[of["ours"] for of in bench[kind]["training"]["examples"].values()] for kind in PAGES]
    apart = max(abs(np.divide(*np.median(ours, axis=-1)) - 1))
    time = evidence(bench).query("measure == 'time'")["value"]
    return {
        "cost_speedup_adam": speedup("adam"),
        "cost_speedup_rowwise": speedup("rowwise_adagrad"),
        "cost_fal_time": _pooled(bench, "small", "adam", "FAL"),
        "cost_fal_time_worst": estimate(time, "%"),
        "cost_fal_memory": f"{_counter_percent(bench):.3f} %",
        "cost_adam_fal_memory": f"{1 + found['adam + FAL'] / found['table']:.3g}",
        "cost_training_small": whole("small"),
        "cost_training_huge": whole("huge"),
        "cost_training_apart": f"{100 * apart:.0f} %",
        "cost_machine": "{machine} ({system}), {threads} threads, torch {torch}, Python {python}, "
        "{date}, commit {commit}".format_map(bench["about"]),
        "cost_lookups": f"{setting['n_lookups']:,}",
        "cost_distinct": f"{setting['distinct']:,}",
        "cost_distinct_of_size": f"{setting['distinct_of_size']:,}",
        "cost_row": f"{setting['dim']} floats is {found['table']:,.0f} bytes",
    }


def figure(bench: dict):
    """Draws the time of a step against table size. Torch's optimizers are grey."""
    looks = {
        "adam": ("#000000", "-"),
        "rowwise_adagrad": ("#000000", "--"),
        "SparseAdam": (style.REFERENCE, "-"),
        "Adam, dense": (style.REFERENCE, "--"),
    }
    fig, axes = style.figure(height=4.2)
    for optimizer, (color, dashes) in looks.items():
        for kind in PAGES:
            times = bench[kind]["size"][optimizer]
            n = [int(key) for key in times]
            q1, median, q3 = np.quantile(list(times.values()), [0.25, 0.5, 0.75], axis=1)
            if kind == "small":
                axes.plot(n, median, color=color, linestyle=dashes, label=SCALED[optimizer])
                axes.fill_between(n, q1, q3, color=color, alpha=0.16, linewidth=0)
            else:
                axes.plot(n, median, "x", color=color)
    axes.set(xscale="log", yscale="log", xlabel="rows in the table", ylabel="milliseconds a step")
    axes.legend()
    return fig


def generate(results: Path, target: Path, static: Path) -> None:
    """Writes the tables and the figure that book/cost.md includes; nothing without a record."""
    bench = load(results / "bench")
    if bench is None:
        return
    for name, table in TABLES.items():
        (target / f"cost-{name}.md").write_text(table(bench))
    fig = figure(bench)
    with style.plt.rc_context(style.STYLE):
        fig.savefig(target / "cost-size.png", dpi=style.STYLE["figure.dpi"])
    figures.keep(fig, "fig-cost-size", "make bench", target, static)
    style.plt.close(fig)


def report(bench: dict) -> str:
    """Returns all tables, for a terminal."""
    return "\n".join(f"{name}\n\n{table(bench)}" for name, table in TABLES.items())

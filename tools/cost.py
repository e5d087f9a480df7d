"""What the benchmarks measured, as the book shows it: tables, sentences and a figure.

results/bench/steps.json and end_to_end.json hold the repeats that benchmarks/bench.py has timed,
once with pages of 4 KiB ("small") and once with pages of 2 MiB ("huge"). Every number on the page
about costs is computed from them here.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

from multiepoch.stats import interval
from reproduction import style

RULES = {"adam": "Adam", "rowwise_adagrad": "row-wise Adagrad", "adagrad": "Adagrad", "sgd": "SGD"}
# What torch has for the same job; for row-wise Adagrad its sparse Adagrad comes closest.
COUNTERPART = {
    "adam": "SparseAdam",
    "rowwise_adagrad": "Adagrad, sparse",
    "adagrad": "Adagrad, sparse",
    "sgd": "SGD, sparse",
}
DENSE = ("Adam, dense", "Adam, dense, fused", "Adagrad, dense")
PAGES = {"small": "4 KiB", "huge": "2 MiB"}
THEIRS = "DeepCTR-Torch, its fit"
NOT_MEASURED = "*Not measured yet: `make bench` does it.*\n"
SECTIONS = ("answer", "about", "step", "lookup", "size", "extra", "memory", "training")


def load(folder: Path) -> dict | None:
    """Both files of results/bench as one: by kind of page, then by part. None where one lacks."""
    files = [folder / "steps.json", folder / "end_to_end.json"]
    if not all(file.exists() for file in files):
        return None
    steps, training = (json.loads(file.read_text()) for file in files)
    pages = {kind: {**steps[kind], "training": training[kind]} for kind in PAGES}
    return {"about": steps["about"], **pages}


def quartiles(values) -> tuple[float, float, float]:
    """Median, first and third quartile."""
    q1, median, q3 = np.quantile(values, [0.25, 0.5, 0.75])
    return float(median), float(q1), float(q3)


def paired(above: list[float], below: list[float]) -> np.ndarray:
    """Ratio of each pair of repeats."""
    return np.asarray(above) / np.asarray(below)


def _spread(values, digits: int = 2, unit: str = "") -> str:
    median, q1, q3 = quartiles(values)
    return f"{median:,.{digits}f}{unit} [{q1:,.{digits}f}, {q3:,.{digits}f}]"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def answer(bench: dict) -> str:
    """The page in a few sentences, with pages of 4 KiB."""
    small = bench["small"]
    path = "compiled" if "adam, compiled" in small["step"] else "eager"

    def times_as_fast(rule: str) -> str:
        ratio = paired(small["step"][COUNTERPART[rule]], small["step"][f"{rule}, {path}"])
        return f"{_spread(ratio, 1)} times as fast as torch's"

    def whole_training(kind: str) -> str:
        rates = bench[kind]["training"]["examples"]
        return ", ".join(
            f"{_spread(paired(of['ours'], of[THEIRS]), 1)} with {int(n):,} users"
            for n, of in rates.items()
        )

    fal = np.concatenate(list(extras(bench, "small", "adam", "FAL").values()))
    found = small["bytes"]
    ours = 1 + found["adam + FAL"] / found["table"]
    text = (
        f"**In short.** Adam's step, {path}, is {times_as_fast('adam')} sparse one; that of "
        f"row-wise Adagrad is {times_as_fast('rowwise_adagrad')} sparse Adagrad. FAL adds "
        f"{_spread(fal, 1, ' %')} to Adam's step and {counter_percent(bench):.3f} % of the table "
        f"to its memory; table, state and counts together take {ours:.3g} times the table."
    )
    if THEIRS in next(iter(small["training"]["examples"].values())):
        text += (
            " Whole training is so many times as fast as DeepCTR-Torch's own, whose tables are "
            f"dense: {whole_training('small')}; where both have large pages, "
            f"{whole_training('huge')}."
        )
    return text + "\n"


def about(bench: dict) -> str:
    a, setting = bench["about"], bench["small"]["setting"]
    commit = f", commit {a['commit']}" if "commit" in a else ""
    return (
        f"Measured on {a['date']} on {a['machine']} ({a['system']}), {a['threads']} threads, "
        f"torch {a['torch']}, Python {a['python']}{commit}. A batch is "
        f"{setting['n_lookups']:,} lookups of a Zipf law, {setting['distinct']:,} distinct rows "
        "on average. All contestants of a table run in turn in one process; shown are the median "
        "of the repeats and, in brackets, their quartiles; a ratio is that of the "
        "two runs of the same turn.\n"
    )


def step(bench: dict) -> str:
    rows = []
    for rule, name in RULES.items():
        for path in ("compiled", "eager"):
            cells = [f"ours, {name}, {path}"]
            for kind in PAGES:
                times = bench[kind]["step"]
                ms = times.get(f"{rule}, {path}")
                if ms is None:
                    cells += ["–", "–"]
                    continue
                ratio = paired(times[COUNTERPART[rule]], ms)
                cells += [_spread(ms), f"{_spread(ratio, 1)} {COUNTERPART[rule].split(',')[0]}"]
            rows.append(cells)
    for name in (*dict.fromkeys(COUNTERPART.values()), *DENSE):
        cells = [f"torch, {name}"]
        for kind in PAGES:
            cells += [_spread(bench[kind]["step"][name]), ""]
        rows.append(cells)
    head = ["optimizer"]
    for pages in PAGES.values():
        head += [f"ms, {pages} pages", "times as fast as torch's"]
    return _table(head, rows)


def lookup(bench: dict) -> str:
    if "FBGEMM sgd" not in bench["small"]["lookup"]:
        return "*FBGEMM's CPU kernels were not installed when this was measured.*\n"
    rows = []
    for rule, name in RULES.items():
        cells = [name]
        for kind in PAGES:
            times = bench[kind]["lookup"]
            cells += [_spread(times[key]) if key in times else "has none"
                      for key in (rule, COUNTERPART[rule], f"FBGEMM {rule}")]  # fmt: skip
        rows.append(cells)
    head = ["rule"]
    for pages in PAGES.values():
        head += [f"ours, {pages} pages", "torch", "FBGEMM"]
    return _table(head, rows)


_OF_SIZE = {
    "adam": "ours, Adam",
    "rowwise_adagrad": "ours, row-wise Adagrad",
    "SparseAdam": "torch, SparseAdam",
    "Adam, dense": "torch, Adam, dense",
}


def size(bench: dict) -> str:
    rows = []
    for optimizer, name in _OF_SIZE.items():
        for kind, pages in PAGES.items():
            times = bench[kind]["size"][optimizer]
            least = next(iter(times))
            for n, ms in list(times.items())[1:]:
                rows.append([name, pages, f"{int(least):,}", _spread(times[least]), f"{int(n):,}",
                             _spread(ms), _spread(paired(ms, times[least]))])  # fmt: skip
    head = ["optimizer", "pages", "rows", "ms", "rows", "ms", "ratio"]
    caption = (
        "A step by the number of rows in the table, with "
        f"{bench['small']['setting']['distinct_of_size']:,} distinct rows touched in every one of "
        "them. Lines: medians with pages of 4 KiB, which is what Linux gives unasked; crosses: "
        "with pages of 2 MiB."
    )
    alt = "Milliseconds of a step against rows in the table, both axes logarithmic, by optimizer."
    figure = (
        f"```{{figure}} _generated/cost-size.png\n:name: fig-cost-size\n:alt: {alt}\n\n"
        f"{caption}\n```\n\n"
    )
    return figure + _table(head, rows)


def extras(bench: dict, kind: str, rule: str, what: str) -> dict[str, np.ndarray]:
    """Extra time of a step in percent, by seed, a value a pair of repeats."""
    by_seed = bench[kind]["extra"][rule]
    return {seed: 100 * (paired(ms[what], ms["plain"]) - 1) for seed, ms in by_seed.items()}


def extra(bench: dict) -> str:
    rows = []
    for rule, name in RULES.items():
        for kind, pages in PAGES.items():
            cells = [name, pages]
            plain = [ms["plain"] for ms in bench[kind]["extra"][rule].values()]
            cells.append(_spread(np.concatenate(plain)))
            for what in ("FAL", "AdamAR", "both"):
                pooled = np.concatenate(list(extras(bench, kind, rule, what).values()))
                cells.append(_spread(pooled, 1, " %"))
            rows.append(cells)
    time = evidence(bench).query("measure == 'time'")["value"]
    mean, low, high = interval(time)
    note = (
        "\nWhat decides [C9](#C9): the largest median of the four rules with small pages, seed by "
        f"seed, is {mean:.2f} % [{low:.2f}, {high:.2f}], mean and 95 % interval over {len(time)} "
        "seeds. The brackets in the table are quartiles.\n"
    )
    return _table(["rule", "pages", "ms without", "FAL", "AdamAR", "both"], rows) + note


def memory(bench: dict) -> str:
    found, dim = bench["small"]["bytes"], bench["small"]["setting"]["dim"]
    table, rows = found["table"], []
    for rule, name in RULES.items():
        cells = [f"ours, {name}"]
        for added in ("", " + FAL", " + AdamAR"):
            state = found[rule + added]
            cells.append(f"{state:,.0f} ({1 + state / table:.3g}x)")
        rows.append(cells)
    for name in ("SparseAdam", "Adagrad, sparse", "Adam, dense"):
        rows.append([f"torch, {name}", f"{found[name]:,.0f} ({1 + found[name] / table:.3g}x)",
                     "", ""])  # fmt: skip
    note = (
        f"\nA row of {dim} floats is {table:,.0f} bytes. Shown are the bytes of state a row and, "
        "in brackets, table and state together over the table. FAL's counter is "
        f"{counter_percent(bench):.3f} % of the row. A dense gradient, which dense optimizers need "
        "in every step, would add the table's size once more.\n"
    )
    return _table(["optimizer", "state", "with FAL", "with AdamAR"], rows) + note


def counter_percent(bench: dict) -> float:
    found = bench["small"]["bytes"]
    return 100 * (found["adam + FAL"] - found["adam"]) / found["table"]


def training(bench: dict) -> str:
    rows = []
    for kind, pages in PAGES.items():
        for users, rates in bench[kind]["training"]["examples"].items():
            for name, values in rates.items():
                faster = (
                    "" if name.startswith("ours") else _spread(paired(rates["ours"], values), 1)
                )
                rows.append([f"{int(users):,}", pages, name, _spread(values, 0), faster])
    small, huge = (bench[kind]["training"]["examples"] for kind in PAGES)
    apart = max(
        abs(quartiles(small[users]["ours"])[0] / quartiles(huge[users]["ours"])[0] - 1)
        for users in small
    )
    note = (
        "\nOur tables and their state are in large pages in both blocks, so our own lines should "
        f"agree between the two. They differ by up to {100 * apart:.0f} %, for a reason that was "
        "not found. So compare within a block, and read no ratio as finer than that.\n"
    )
    head = ["users", "pages", "training", "examples/s", "ours is so many times as fast"]
    return _table(head, rows) + note


def evidence(bench: dict) -> pd.DataFrame:
    """For claim C9, with pages of 4 KiB. Of the four rules the one to which FAL adds most counts:
    its median extra, seed by seed."""
    by_rule = {rule: extras(bench, "small", rule, "FAL") for rule in RULES}
    rows = []
    for seed in by_rule["adam"]:
        time = max(float(np.median(by_seed[seed])) for by_seed in by_rule.values())
        rows += [("C9", "time", int(seed), time),
                 ("C9", "memory", int(seed), counter_percent(bench))]  # fmt: skip
    return pd.DataFrame(rows, columns=["claim", "measure", "seed", "value"])


def figure(bench: dict):
    """The step against table size. What is no method of the book is grey."""
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
            median, q1, q3 = np.array([quartiles(ms) for ms in times.values()]).T
            if kind == "small":
                axes.plot(n, median, color=color, linestyle=dashes, label=_OF_SIZE[optimizer])
                axes.fill_between(n, q1, q3, color=color, alpha=0.16, linewidth=0)
            else:
                axes.plot(n, median, "x", color=color)
    axes.set(xscale="log", yscale="log", xlabel="rows in the table", ylabel="milliseconds a step")
    axes.legend()
    return fig


def generate(results: Path, target: Path) -> None:
    """Writes what book/cost.md includes: cost-SECTION.md for each section, and the figure."""
    bench = load(results / "bench")
    for name in SECTIONS:
        text = NOT_MEASURED if bench is None else globals()[name](bench)
        (target / f"cost-{name}.md").write_text(text)
    if bench is not None:
        fig = figure(bench)
        with style.plt.rc_context(style.STYLE):
            fig.savefig(target / "cost-size.png", dpi=style.STYLE["figure.dpi"])
        style.plt.close(fig)


def report(bench: dict) -> str:
    """All tables, for a terminal."""
    parts = (f"{name}\n\n{globals()[name](bench)}" for name in SECTIONS)
    return "\n".join(parts)

"""The report: a table for the terminal, and one page that needs no other file."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from tabulate import tabulate

from multiepoch_compare import plan
from multiepoch_compare.estimates import WORDS, Estimate
from multiepoch_compare.plan import COLLAPSE
from multiepoch_compare.run import WORSE

NEARLY_ALL = 0.8  # of the lookups: tail rewind then returns nearly the rows that MEDA does
_TONES = {"rise": "bad", "slight rise": "bad", "fall": "good", "slight fall": "good"}
_PARTS = {"train": "training days", "validation": "tuning day", "test": "test day"}


_BASELINES = {
    plan.SPARSE: "sparse optimizer: Adam, with a learning rate of their own for the tables.",
    plan.ADAGRAD: "row-wise Adagrad: on the tables, Adam on the dense layers, and no remedy. FAL, "
    "MEDA and tail rewind train by these rules, too.",
    plan.DROPPED: "sparsest dropped: row-wise Adagrad without the id column of most rows.",
    plan.ADDITIVE: "additive: a bias for each id and a linear term, so no interplay of ids.",
}


class Cell(str):
    """The text of a difference and its verdict, which the page colours by `tone`."""

    tone = ""


def text(found: dict) -> str:
    """Renders the record as the terminal shows it."""
    lines = [f"{data_line(found['data'])} {steps_line(found)} {test_line(found)}", ""]
    lines += [*found["warnings"], *found["headline"], ""]
    for header, rows in (methods(found), epochs(found)):
        table = tabulate(rows, header, tablefmt="simple", disable_numparse=True)
        lines += [*map(str.rstrip, table.splitlines()), ""]
    return "\n".join([*lines, *_legend(found), *_limits(found)]) + "\n"


def methods(found: dict) -> tuple[list[str], list[list[str]]]:
    """Returns the header and rows of the table that compares methods."""
    best = found["advised"] and found["advised"][0]
    best = None if best == found["baseline"][0] else best
    header = ["method", "epochs", "logloss", "vs constant", "vs plain"]
    header += [f"vs {best}"] if best else []
    constant = ["constant", "", _losses(found["constant"])]
    rows = [constant + [""] * (len(header) - 3)]
    for m in sorted(found["methods"], key=lambda m: m["against_plain"].mean):
        row = [m["label"], str(m["epochs"]), _losses(m["logloss_by_epoch"][m["epochs"] - 1])]
        row.append(str(m["against_constant"]))
        is_baseline = m["label"] == found["baseline"][0]
        row.append("(baseline)" if is_baseline else _worded(m["against_plain"]))
        if best:
            row.append("(advised)" if m["label"] == best else _worded(m["against_advised"]))
        rows.append(row)
    return header, rows


def epochs(found: dict) -> tuple[list[str], list[list[str]]]:
    """Returns the header and rows of the table that compares epochs."""
    last = found["epochs"]
    header = ["method", "a quarter into epoch 2", "epoch 2 against epoch 1"]
    header += [f"epoch {last} against the best before it"] if last > 2 else []
    rows = []
    for m in found["methods"]:
        rows.append([m["label"], str(m["quarter"]), _worded(m["second"], 0)])
        if last > 2 and m["trained"] < last:
            rows[-1].append(f"(worse: stopped after epoch {m['trained']})")
        elif last > 2:
            rows[-1].append(_worded(m["last"], 0, f" (epoch {m['before']})"))
    return header, rows


def costs(found: dict) -> tuple[list[str], list[list[str]]]:
    """Returns the header and rows of the table of time and memory."""
    header = ["method", "CPU seconds per epoch", "relative to plain", "tables, MB", "row state, MB"]
    rows, plain = [], found["methods"][0]["seconds_an_epoch"]
    for m in found["methods"]:
        seconds, sizes = m["seconds_an_epoch"], (m["bytes"]["tables"], m["bytes"]["row state"])
        rows.append([m["label"], f"{seconds:.2f}", f"{seconds / plain:.2f}"])
        rows[-1] += [f"{size / 1e6:.1f}" for size in sizes]
    return header, rows


def _losses(values: list[float]) -> str:
    return " ".join(f"{value:.4f}" for value in values)


def _worded(estimate: Estimate, use: int = 1, more: str = "") -> Cell:
    """Puts the verdict behind the numbers it is based on; `use` is a position in WORDS."""
    cell = Cell(f"{estimate} {WORDS[estimate.kind][use]}{more}")
    cell.tone = _TONES.get(estimate.kind, "")
    return cell


def page(found: dict) -> str:
    """Renders the record as HTML, with style and figures inside."""
    # Matplotlib takes a second to load, and the first lines of progress come before it.
    from multiepoch_compare import figures

    of_plain = next(m for m in found["methods"] if m["label"] == "plain")
    by_objective = of_plain["second_by_objective"]
    objective = max(by_objective, key=lambda name: by_objective[name].mean)
    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    environment.filters["unbroken"] = _unbroken
    return environment.get_template("report.html.j2").render(
        found=found,
        data_line=f"{data_line(found['data'])} {steps_line(found)} {test_line(found)}",
        legend=" ".join(_legend(found)),
        notes=_limits(found),
        tables=[("The methods", methods(found)), ("More epochs", epochs(found))],
        costs=costs(found),
        zip=zip,
        curves=partial(figures.curves, found),
        frequencies=figures.frequencies(found),
        groups=figures.groups(found, "plain", found["objectives"].index(objective)),
        objective=objective,
        rare=100 * sum(found["frequencies"][found["group_column"]][:3]),
        plain=of_plain,
        collapse=COLLAPSE,
        worse=f"{100 * (WORSE - 1):.0f}",
    )


def steps_line(found: dict) -> str:
    return f"An epoch is {found['steps']:,} steps of {found['batch_size']:,} impressions."


def _unbroken(cell: str) -> str:
    """Keeps a number and its interval on one line; the verdict may follow on the next."""
    numbers, end, words = cell.partition("]")
    return numbers.replace(" ", "\N{NO-BREAK SPACE}") + end + words if end else cell


def data_line(data: dict) -> str:
    """Describes the three parts of the log."""
    (a, b, c), days = data["sizes"].values(), data["split"]
    return (
        f"{data['source']}: {a:,} impressions for training ({days['train']}), {b:,} for tuning "
        f"({days['validation']}), {c:,} for testing ({days['test']})."
    )


def test_line(found: dict) -> str:
    """Says how certain the test part makes a verdict, and how many days it has."""
    n = found["data"]["test_days"]
    days = "part" if n is None else "day" if n == 1 else f"{n} days"
    return (
        f"Half an interval over the last {days} is likely to be {found['half_width']:.2g} % wide; "
        f"{COLLAPSE} % needs about {found['rows_needed']:,} impressions."
    )


def _legend(found: dict) -> list[str]:
    names, last = ", ".join(found["objectives"]), found["epochs"]
    label, best = found["baseline"]
    averaged = "; differences are averaged over them" * (len(found["objectives"]) > 1)
    return [
        f"Logloss on the test day of {names}{averaged}; lower is better. Intervals are of 95 %, "
        f"over {found['seeds']} seeds and blocks of test impressions.",
        "epochs: what the line is tuned for, and judged at: one, or the best of 2 to "
        f"{last} on the tuning days. constant: predicts the rate of the training days.",
        f"vs plain: against {label} after epoch {best}, which the tuning days chose.",
        f"Verdicts: a change by {COLLAPSE} % or more, with an interval that excludes 0, is a "
        "collapse, worse, or better; open: the interval allows both.",
        *(
            words
            for k, words in _BASELINES.items()
            if any(m["label"] == k for m in found["methods"])
        ),
    ]


def _limits(found: dict) -> list[str]:
    data, limits = found["data"], []
    if found["steps"] < plan.LEAST_STEPS:
        limits.append("So few steps teach a model little: give a smaller --batch-size.")
    if data["share"] < 1:
        users = f"about one in {1 / data['share']:.3g}" if data["share"] < 0.5 else "a part"
        limits.append(f"Only {users} of the values of {data['user']} were read, with all rows.")
    if data["quick"]:
        limits.append("Quick look: each method got fewer trials.")
    if data["by_rows"]:
        limits.append("These rows cover fewer than 3 days, so they were split by position.")
    for name, n in data["missing"].items():
        limits.append(f"{n:,} values of {name} are missing; they share a row of their own.")
    if found["tail"] and found["tail"][2] >= NEARLY_ALL:
        threshold, rows, lookups = found["tail"]
        limits.append(
            f"Tail rewind is nearly MEDA here: {100 * rows:.0f} % of the rows, with "
            f"{100 * lookups:.0f} % of the lookups, are below its threshold of {threshold}."
        )
    if data["cut"]:
        parts = ", ".join(_PARTS[part] for part in data["cut"])
        limits.append(f"Cut to the latest impressions: {parts}.")
    return limits

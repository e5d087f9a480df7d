"""The report: a table for the terminal, and one page that needs no other file."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from tabulate import tabulate

from multiepoch_compare import figures
from multiepoch_compare.verdict import COLLAPSE, RETUNED, Estimate

_PARTS = {"train": "training days", "validation": "tuning day", "test": "test day"}


def text(found: dict) -> str:
    """Renders the record as the terminal shows it."""
    header = ["method", "epochs", "vs plain", "second epoch", "verdict"]
    rows = [
        [m["label"], m["epochs"], _against(found, m), _estimate(m["second"]), m["verdict"]]
        for m in found["methods"]
    ]
    table = tabulate(rows, header, tablefmt="simple", disable_numparse=True)
    lines = [data_line(found["data"]), "", *map(str.rstrip, table.splitlines()), ""]
    lines += [*_legend(found), *_limits(found), "", found["recommendation"], *_ties(found)]
    return "\n".join(lines) + "\n"


def page(found: dict) -> str:
    """Renders the record as HTML, with style and figures inside."""
    worst = max(found["methods"], key=lambda m: m["second"]["mean"])
    by_objective = worst["second_by_objective"]
    objective = max(by_objective, key=lambda name: by_objective[name]["mean"])
    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    environment.filters["estimate"] = _estimate
    return environment.get_template("report.html.j2").render(
        found=found,
        data_line=data_line(found["data"]),
        legend=" ".join(_legend(found)),
        notes=_ties(found) + _limits(found),
        against=partial(_against, found),
        curves=partial(figures.curves, found),
        frequencies=figures.frequencies(found),
        groups=figures.groups(found, worst["label"], found["objectives"].index(objective)),
        worst=worst,
        objective=objective,
        rare=100 * sum(found["frequencies"][found["group_column"]][:3]),
        plain=next(m for m in found["methods"] if m["label"] == "plain"),
        collapse=COLLAPSE,
        retuned=RETUNED,
    )


def data_line(data: dict) -> str:
    """Describes the three parts of the log."""
    (a, b, c), days = data["sizes"].values(), data["split"]
    return (
        f"{data['source']}: {a:,} impressions for training ({days['train']}), {b:,} for tuning "
        f"({days['validation']}), {c:,} for testing ({days['test']})."
    )


def _estimate(values: dict) -> str:
    return str(Estimate(**values))


def _against(found: dict, method: dict) -> str:
    baseline = method["label"] == found["baseline"]
    return "(baseline)" if baseline else _estimate(method["against_plain"])


def _legend(found: dict) -> list[str]:
    return [
        f"Changes in test logloss, averaged over {', '.join(found['objectives'])}, with 95 % "
        f"intervals over {found['seeds']} seeds and blocks of test impressions. Lower is better.",
        f"epochs: the best number on the validation day, from 1 to {found['epochs']}. vs plain: "
        f"each method at its best number of epochs against {found['baseline']} at its own.",
        "second epoch: the change from the end of the first epoch to the end of the second.",
    ]


def _ties(found: dict) -> list[str]:
    return [f"Statistically tied with it: {', '.join(found['ties'])}."] if found["ties"] else []


def _limits(found: dict) -> list[str]:
    data, limits = found["data"], []
    if data["quick"]:
        read = f"at most the first {data['rows_read']:,} rows were read"
        limits.append(f"Quick look: {read}, and each method got fewer trials.")
    if data["by_rows"]:
        limits.append("These rows cover fewer than 3 days, so they were split by position.")
    if data["cut"]:
        parts = ", ".join(_PARTS[part] for part in data["cut"])
        limits.append(f"Cut to the latest impressions: {parts}.")
    return limits

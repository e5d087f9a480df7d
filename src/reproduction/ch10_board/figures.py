"""The figures of the board, and the board itself as one sortable table.

findings.toml has the texts of the figures. The table is HTML, needs no other file and works on a
phone. Without scripts it shows AdsWorld against one plain epoch. Its script offers the other views
and sorts by the column whose head is pressed.
"""

import math
import textwrap
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.figure import Figure

from multiepoch_lab.stats import interval
from reproduction import style
from reproduction.ch10_board import experiment
from reproduction.ch10_board.anatomy import LABELS
from reproduction.measure import intervals
from reproduction.remedies.board import BOARD
from reproduction.tuning import chosen, on_board

LOOKS = {BOARD[name].label: style.line_style(BOARD[name].label) for name in experiment.LIVE}


@style.shown("fig-ten-curves")
def curves(rows: pd.DataFrame) -> Figure:
    """Draws six lines of the board against one plain epoch: a panel for each source."""
    sources = experiment.sources(rows)
    found = {name: experiment.against_one_epoch(rows, data) for data, name in sources.items()}
    table = pd.concat(found, names=["data"]).rename_axis(columns="epoch")
    points = table.loc[:, 1.0:].stack().rename("value").reset_index()
    points = points.assign(line=points["remedy"].map(lambda name: BOARD[name].label))
    fig = style.by_epoch(points, LOOKS, "loss against one\nplain epoch's, %", "data", 2.8)
    for axes in fig.axes:
        style.percent_axis(axes)
    return fig


@style.shown("fig-ten-overview")
def overview(rows: pd.DataFrame) -> Figure:
    """Draws every remedy at the worst and at the last point, sorted by the last on AdsWorld."""
    fig, axes = style.figure(height=13)
    last, quarter = experiment.ENDS[-1], experiment.QUARTERS[-1]
    kinds = {
        ("world", last): ("AdsWorld, end of epoch 4", "#0072B2", "o"),
        ("world", quarter): ("AdsWorld, ¼ into epoch 4", "#0072B2", "|"),
        ("kuairand", last): ("KuaiRand, end of epoch 4", "#D55E00", "D"),
        ("kuairand", quarter): ("KuaiRand, ¼ into epoch 4", "#D55E00", "|"),
    }
    order: list[str] = []
    for (data, epoch), (label, color, marker) in kinds.items():
        if data not in experiment.sources(rows):
            continue
        found = intervals(experiment.against_one_epoch(rows, data)[epoch], ["remedy"])
        order = order or found["mean"].sort_values().index.to_list()
        found = found.reindex(order)
        y = np.arange(len(order)) + (0.16 if data == "kuairand" else -0.16)
        look = {"linestyle": "none", "markersize": 5 if marker != "|" else 8, "label": label}
        axes.plot(found["mean"], y, marker, color=color, **look)
        known = np.isfinite(found["low"].to_numpy())  # one seed has no interval
        if marker != "|" and known.any():
            axes.hlines(y[known], found["low"][known], found["high"][known], color, linewidth=1.5)
    labels = [textwrap.fill(BOARD[name].label, 26) for name in order]
    axes.set_yticks(range(len(order)), labels, linespacing=1.0)
    axes.set_ylim(len(order) - 0.4, -0.6)
    axes.set_xscale("symlog", linthresh=2, linscale=1.4)
    axes.set_xlim(right=150)
    ticks = [-5, -1, 0, 1, 5, 50]
    axes.set_xticks(ticks, [style.signed(f"{tick:+g}") if tick else "0" for tick in ticks])
    axes.minorticks_off()
    axes.grid(axis="y", visible=False)
    style.reference(axes, vertical=True)
    fig.supxlabel("loss against one plain epoch's, %", fontsize=12)
    style.legend_outside(fig, axes, columns=2)
    return fig


@style.shown("fig-ten-anatomy")
def anatomy(rows: pd.DataFrame) -> Figure:
    """Draws what rows hold as epoch 2 begins: own label and norm by count, and the spectrum."""
    rows = rows[rows["epoch"] == 1]
    titles = {
        "own label": "correlation of a linear probe with the own label",
        "norm": "mean norm of a row",
        "singular value": "singular values, the largest = 1",
    }
    fig, grid = style.figure(3, height=2.3)
    for axes, (what, title) in zip(grid, titles.items()):
        mine = rows[rows["what"] == what]
        names = list(dict.fromkeys(mine["of"]))
        for name, label in LABELS.items():
            found = intervals(mine[mine["remedy"] == name], ["of"]).reindex(names)
            found.index = range(len(names))
            style.band(axes, found, label, marker="o", markersize=4)
        axes.set_title(title)
        axes.set_xticks(range(len(names)), names)
        if what != "own label":
            axes.set_yscale("log")
    grid[2].set_ylim(5e-3, 1.5)
    grid[1].set_xlabel("lookups of the row in the window (both panels above)")
    grid[2].set_xlabel("place in the spectrum")
    style.legend_outside(fig, grid[0])
    return fig


# The board as a table -----------------------------------------------------------------------------

HEADS = ("¼ of epoch 2", "end of 2", "¼ of epoch 4", "end of 4")
COST = ("time", "memory")
DASHES = {"world": "", "kuairand": "4 3"}  # of the curves
VIEWS = {
    "against one plain epoch": experiment.against_one_epoch,
    "against its own first epoch, at the same rates": experiment.against_own_first,
    "against MEDA": experiment.against,
    "against one plain epoch, known ids": partial(experiment.against_one_epoch, group="0"),
    "against one plain epoch, new ids": partial(experiment.against_one_epoch, group="1"),
}


def views(rows: pd.DataFrame) -> dict[str, dict[str, list]]:
    """Returns [mean, half width] at each point, by view and remedy; a half width may be None."""
    found: dict[str, dict[str, list]] = {}
    for data, name in experiment.sources(rows).items():
        for words, measure in VIEWS.items():
            table = measure(rows, data)
            points = [epoch for epoch in experiment.POINTS if epoch in table]
            found[f"{name}, {words}"] = {
                remedy: [_pair(of[epoch]) for epoch in points]
                for remedy, of in table.groupby("remedy", sort=False)
            }
    return found


def _pair(values: pd.Series) -> list:
    mean, _, high = interval(list(values))
    half = round(high - mean, 2) if math.isfinite(high) else None
    return [round(mean, 2), half]


def board(rows: pd.DataFrame) -> str:
    """Returns the table as HTML."""
    every, cost = views(rows), experiment.cost(rows)
    sources = experiment.sources(rows)
    courses = {data: experiment.against_one_epoch(rows, data) for data in sources}
    first = next(iter(every.values()))
    found = []
    for name in [name for name in BOARD if name in first]:
        cells = [_cell(*pair) for pair in first[name]]
        spent = cost.reindex([name]).loc[name]
        cells += [_cell(round(spent[kind], 2), None, ".2f") for kind in COST]
        about = {"name": name, "remedy": BOARD[name], "chosen": _chosen(name)}
        found.append(about | {"curve": _curve(name, courses), "cells": cells})
    folder = FileSystemLoader(Path(__file__).parent)
    options = {"trim_blocks": True, "lstrip_blocks": True, "undefined": StrictUndefined}
    template = Environment(loader=folder, autoescape=True, **options).get_template("board.html.j2")
    heads = ["remedy", *HEADS, "CPU time, plain = 1", "memory, plain = 1"]
    return template.render(views=every, heads=heads, rows=found)


def _cell(mean: float, half: float | None, form: str = "+.2f") -> dict[str, str]:
    """Returns what a cell is sorted by, its text, and half of its interval."""
    if math.isnan(mean):
        return {"sort": "Infinity", "text": "–", "half": ""}
    width = "" if half is None else format(half, form.strip("+"))
    return {"sort": str(mean), "text": style.signed(format(mean, form)), "half": width}


def _chosen(name: str) -> str:
    """Returns in words what the search for the last epoch chose for a remedy on AdsWorld."""
    remedy = BOARD[name]
    best = chosen(on_board(remedy.held_back or name))
    value, symbol = best.hyperparameter, remedy.hyperparameter
    known = f"{value:.2g}" if isinstance(value, float) else value
    words = f"tables' rate {best.embedding_lr / remedy.scale(value):.2g}"
    words += f", {dict(tau='τ', alpha='α').get(symbol, symbol)} = {known}" if value else ""
    return words + f", dense rate × {best.dense_factor:.2g} from epoch 2"


def _curve(name: str, courses: Mapping[str, pd.DataFrame]) -> dict:
    """Returns the places of the remedy's loss against one plain epoch's from epoch 1's end on."""
    means = {}
    for data, course in courses.items():
        of = course.xs(name, level="remedy").mean()
        means[experiment.DATA[data], DASHES[data]] = of[of.index >= 1]
    low = min(-2.0, *(of.min() for of in means.values()))
    high = min(40.0, max(2.0, *(of.max() for of in means.values())))
    last = max(of.index.max() for of in means.values())

    def x(epoch: float) -> str:
        return f"{34 + 190 * (epoch - 1) / (last - 1):.0f}"

    def y(value: float) -> str:
        return f"{8 + 84 * (high - min(value, high)) / (high - low):.0f}"

    return {
        "zero": y(0),
        "ticks": [(int(y(value)) + 4, f"{value:+.0f}") for value in (low, high)],
        "epochs": [(x(epoch), str(epoch)) for epoch in range(1, int(last) + 1)],
        "lines": [
            {
                "data": data,
                "dash": dash,
                "points": " ".join(f"{x(e)},{y(v)}" for e, v in of.items()),
            }
            for (data, dash), of in means.items()
        ],
    }


def show_board(rows: pd.DataFrame) -> None:
    """Displays the board in a notebook."""
    from IPython.display import HTML, display

    display(HTML(board(rows)))

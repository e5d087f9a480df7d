"""The board as one sortable HTML table, which needs no other file and works on a phone.

Without scripts it shows AdsWorld against one plain epoch. Its script offers the other views and
sorts by the column whose head is pressed.
"""

import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from multiepoch.stats import interval
from reproduction import style
from reproduction.ch10_board import experiment
from reproduction.remedies.board import BOARD
from reproduction.tuning import chosen, on_board

HEADS = ("¼ of epoch 2", "end of 2", "¼ of epoch 4", "end of 4")
COST = ("time", "memory")
DASHES = {"world": "", "kuairand": "4 3"}  # of the curves
VIEWS = {
    "against one plain epoch": experiment.against_one_epoch,
    "against MEDA": experiment.against,
    "against one plain epoch, known ids": partial(experiment.against_one_epoch, group="0"),
    "against one plain epoch, new ids": partial(experiment.against_one_epoch, group="1"),
}


def views(rows: pd.DataFrame) -> dict[str, dict[str, list]]:
    """Returns [mean, half width] at each point, by view and remedy; a half width may be None."""
    found: dict[str, dict[str, list]] = {}
    for data, name in experiment.DATA.items():
        if data not in set(rows["data"]):
            continue
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
    there = [data for data in DASHES if data in set(rows["data"])]
    courses = {data: experiment.against_one_epoch(rows, data) for data in there}
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


def show(rows: pd.DataFrame) -> None:
    """Displays the board in a notebook."""
    from IPython.display import HTML, display

    display(HTML(board(rows)))

"""The figures of chapter 10. findings.toml has their texts."""

import textwrap

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from reproduction import style
from reproduction.ch10_board import experiment
from reproduction.ch10_board.anatomy import LABELS
from reproduction.measure import intervals
from reproduction.remedies.board import BOARD

LOOKS = {
    "plain": style.line_style("plain"),
    "FAL": style.line_style("FAL"),
    "MEDA": style.line_style("MEDA"),
    "tail rewind, blended": style.line_style("tail rewind") | {"linestyle": "-"},
    "leave-one-out rows": {"color": "#6B4400", "linestyle": (0, (6, 1.5))},
    "label smoothing": {"color": "#7A005C", "linestyle": (0, (2, 1))},
}


@style.shown("fig-ten-curves")
def curves(rows: pd.DataFrame) -> Figure:
    """Draws six lines of the board against one plain epoch: a panel for each source."""
    found = []
    for data, name in experiment.DATA.items():
        if data in set(rows["data"]):
            points = experiment.against_one_epoch(rows, data).stack().rename("value")
            found.append(points.rename_axis(["remedy", "seed", "epoch"]).reset_index())
            found[-1]["data"] = name
    points = pd.concat(found)
    points = points[points["epoch"] >= 1]
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
        if data not in set(rows["data"]):
            continue
        values = experiment.against_one_epoch(rows, data)[epoch].rename("value")
        found = intervals(values, ["remedy"])
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

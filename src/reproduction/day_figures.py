"""The figures of chapter 8: gains by day, whether they fade, and how the tables grow.

Each returns a figure for `style.show`. Intervals are over seeds; with one seed there is none.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reproduction.ch08_continual_training import experiment as continual
from reproduction.ch08_continual_training.experiment import (
    MORE_DATA,
    SAME_RATES,
    gain,
    label,
    mean_by_day,
)
from reproduction.figures import line, styled
from reproduction.measure import intervals
from reproduction.remedy_figures import percent_axis
from reproduction.style import REFERENCE, figure, line_style, reference

# By the setting of its runs: what a line is called, whose look it has, and what tells it apart.
LINES: dict[str, tuple[str, str, dict]] = {
    MORE_DATA: ("1 epoch, twice the data", "plain", {"color": "#5B7FA6", "marker": "s"}),
    label("plain", 2): ("plain, 2 epochs", "plain", {}),
    SAME_RATES: ("plain, 2 epochs, rates for 1", "plain", {"color": "#7A7A7A", "marker": "v"}),
    label("plain", 3): ("plain, 3 epochs", "plain", {"marker": "^", "linestyle": (0, (1, 1))}),
    label("fal", 2): ("FAL", "FAL", {}),
    label("meda", 2): ("MEDA, redrawn", "MEDA", {"color": "#9A7400", "marker": "o"}),
    label("meda_restored", 2): ("MEDA, restored", "MEDA", {"color": "#8F3A00", "marker": "s"}),
    label("meda_groups", 2): ("MEDA, groups", "MEDA", {}),
    label("adamar", 2): ("AdamAR", "AdamAR", {}),
    label("day_tail_rewind", 2): ("tail rewind", "tail rewind", {}),
    label("day_tail_rewind", 3): ("tail rewind, 3 epochs", "tail rewind",
                                  {"marker": "^", "linestyle": (0, (1, 1))}),
}  # fmt: skip
NAMES = {setting: name for setting, (name, _, _) in LINES.items()}
CHANGES = dict(zip(continual.CHANGES, (("o", "#7FB3D5"), ("s", "#2E6E9E"), ("D", "#0B2F4A"))))


@styled
def by_day(rows: pd.DataFrame, settings: Sequence[str], base: str, zero: str) -> Figure:
    """Next-day logloss of settings against that of `base`, called `zero`, in % by day.

    The axis is linear up to 1 % and logarithmic beyond.
    """
    fig, axes = figure(height=4.4)
    for setting in settings:
        name, method, kind = LINES[setting]
        line(axes, _values(gain(rows, setting, base)), "day", method, name, markersize=5, **kind)
    reference(axes, 0, zero)
    percent_axis(axes)
    _days(axes, rows)
    axes.set_ylabel(f"next-day logloss\nagainst {zero}, %")
    fig.legend(loc="outside upper center", ncols=2)
    return fig


@styled
def fading(rows: pd.DataFrame, settings: Sequence[str], base: str) -> Figure:
    """Each setting's gain against `base` by day in a panel of its own, and its fitted line."""
    fig, grid = figure(len(settings), height=2.2, sharex=True, squeeze=False)
    for axes, setting in zip(grid[:, 0], settings):
        name, method, _ = LINES[setting]
        found = gain(rows, setting, base)
        line(axes, _values(found), "day", method, "by day", marker="o", markersize=5,
             linestyle="none")  # fmt: skip
        table = mean_by_day(found)
        rise, start = np.polyfit(table.index, table.mean(axis=1), 1)
        axes.plot(table.index, start + rise * table.index, color=line_style(method)["color"],
                  label="straight line fitted")  # fmt: skip
        axes.axhline(0, color=REFERENCE, linewidth=1.2, linestyle=(0, (2, 2)))
        axes.set_title(name)
    grid[0, 0].legend(loc="best")
    _days(grid[-1, 0], rows)
    fig.supylabel(f"next-day logloss against {NAMES.get(base, base)}, %", fontsize=12)
    return fig


@styled
def by_change(rows: pd.DataFrame, settings: Sequence[str], base: str) -> Figure:
    """How drift and churn move gains against `base`: the last days' mean, and the rise by day."""
    measures = {
        f"logloss against {NAMES.get(base, base)},\nlast {continual.SPAN} days, %": (
            continual.last_days
        ),
        "its rise by day, %": continual.slope,
    }
    fig, grid = figure(len(measures), height=0.62 * len(settings) + 0.9)
    for axes, (words, measure) in zip(grid, measures.items()):
        for k, (change, (marker, color)) in enumerate(CHANGES.items()):
            values = {s: measure(gain(rows, s, base, change)) for s in settings}
            found = intervals(pd.concat(values, names=["setting", "seed"]).rename("value"),
                              ["setting"]).reindex(settings)  # fmt: skip
            y = np.arange(len(settings)) + 0.24 * (k - 1)
            axes.plot(found["mean"], y, marker, color=color, markersize=7, label=change)
            known = np.isfinite(found["low"].to_numpy())
            axes.hlines(y[known], found["low"][known], found["high"][known], color=color,
                        linewidth=2)  # fmt: skip
        axes.axvline(0, color=REFERENCE, linewidth=1.2, linestyle=(0, (2, 2)))
        axes.set_yticks(range(len(settings)), [textwrap.fill(NAMES[s], 14) for s in settings])
        axes.set_ylim(len(settings) - 0.4, -0.6)
        axes.set_xlabel(words)
        axes.grid(axis="y", visible=False)
    fig.legend(*grid[0].get_legend_handles_labels(), loc="outside upper center", ncols=1)
    return fig


@styled
def growth(grown: pd.DataFrame, below: float) -> Figure:
    """Rows by day, a panel for each table that grows: seen, touched, touched fewer than `below`.

    grown: what `continual.growth` gives.
    """
    ends = grown.groupby("table")["rows"].agg(["first", "last"])
    tables = [t for t in grown["table"].unique() if ends["last"][t] > 1.02 * ends["first"][t]]
    fig, grid = figure(len(tables), height=2.1, sharex=True, squeeze=False)
    for axes, table in zip(grid[:, 0], tables):
        mine = grown[grown["table"] == table]
        for column, words, method, marker in (
            ("rows", "seen so far", "plain", "o"),
            ("touched", "touched on the day", "FAL", "s"),
            ("infrequent", f"touched fewer than {below:g} times", "tail rewind", "D"),
        ):
            axes.plot(mine["day"], mine[column] / 1e3, label=words, marker=marker, markersize=4,
                      **line_style(method))  # fmt: skip
        axes.set_title(table.replace("_x_", " × "))
        axes.set_ylim(bottom=0)
    _days(grid[-1, 0], grown)
    fig.supylabel("thousand rows", fontsize=12)
    fig.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return fig


def _values(found: pd.Series) -> pd.DataFrame:
    """Mean over objectives as columns day, seed, value."""
    return found.groupby(["day", "seed"]).mean().rename("value").reset_index()


def _days(axes: Axes, frame: pd.DataFrame) -> None:
    last = int(frame["day" if "day" in frame else "epoch"].max())
    axes.set_xticks(range(1, last + 1, 1 if last <= 12 else 3))
    axes.set_xlabel("days trained on")

"""Draws the figures of chapter 1, for `style.show`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from multiepoch.data import Log
from reproduction.ch01_conversion_data.experiment import CROSS, ITEM, frequencies, positives
from reproduction.measure import intervals
from reproduction.style import DASHED, REFERENCE, band, figure, line_style, spelled, styled


@styled
def funnel(sources: Mapping[str, Log]) -> Figure:
    """Draws the number of positives by objective, one panel per source."""
    fig, grid = figure(2, height=1.9, sharex=True)
    for axes, (source, log) in zip(grid, sources.items()):
        counts = positives(log)
        colors = [REFERENCE, *(line_style(name)["color"] for name in log.objectives)]
        bars = axes.barh([spelled(name) for name in counts], counts.values(), color=colors)
        axes.bar_label(bars, [f"{100 * n / len(log):.3g} %" for n in counts.values()], padding=4)
        axes.invert_yaxis()
        axes.set(xscale="log", title=source, xlim=(100, 20 * max(map(len, sources.values()))))
    axes.set_xlabel("number in the training window (log scale)")
    return fig


@styled
def zipf(sources: Mapping[str, Log]) -> Figure:
    """Draws impressions against the rank of the id on two log axes, one panel per source."""
    fig, grid = figure(2, height=2.9, sharex=True, sharey=True)
    for axes, (source, log) in zip(grid, sources.items()):
        for name in (ITEM[source], "user", CROSS[source]):
            counts = frequencies(log.ids[name])
            rank = np.arange(1, len(counts) + 1)
            axes.plot(rank, counts, **line_style(name), label=spelled(name))
        axes.set(xscale="log", yscale="log", title=source, ylabel="impressions")
        axes.legend(loc="upper right")
    axes.set_xlabel("rank of the id, most frequent first")
    return fig


@styled
def churn(found: Mapping[str, pd.DataFrame]) -> Figure:
    """Draws the share of impressions with an unseen id against days after the window."""
    fig, grid = figure(2, height=2.3, sharex=True)
    for axes, (source, table) in zip(grid, found.items()):
        for name in table:
            axes.plot(table.index, table[name], **line_style(name), marker="o", ms=4, label=name)
        axes.set(title=source, ylabel="never seen, %", ylim=(0, 1.25 * table.to_numpy().max()))
        axes.legend(loc="upper left", ncols=2)
    axes.set_xlabel("days after the training window")
    return fig


@styled
def drift(found: Mapping[float, pd.DataFrame]) -> Figure:
    """Draws the correlation of click logits against days apart, with and without drift."""
    fig, axes = figure()
    for turn, table in found.items():
        look = {"marker": "o", "ms": 4, "label": f"tastes turn by {turn} radians a day"}
        if turn == 0:
            look |= {"color": REFERENCE, "linestyle": DASHED, "label": "tastes stand still"}
        shown = intervals(table.rename_axis("days").stack().rename("value"), ["days"])
        band(axes, shown.index, shown["mean"], shown["low"], shown["high"], "click", **look)
    axes.set(xlabel="days apart", ylabel="correlation of click logits", ylim=(0, 1))
    axes.legend(loc="lower left")
    return fig


@styled
def calibration(found: pd.DataFrame) -> Figure:
    """Draws the observed share of positives against `p_true`, with two standard errors."""
    fig, axes = figure()
    look = {"ls": "", "marker": "o", "ms": 5, "capsize": 3}
    for name, mine in found.groupby("objective", sort=False):
        color = line_style(name)["color"]
        points = mine["expected"], mine["observed"], 2 * mine["error"]
        axes.errorbar(*points, color=color, label=spelled(name), **look)
    span = [min(axes.get_xlim()[0], 1e-3), 1]
    axes.plot(span, span, color=REFERENCE, lw=1.2, ls=DASHED, zorder=0)
    axes.set(xscale="log", yscale="log", xlabel="probability, p_true")
    axes.set_ylabel("share with the label")
    axes.legend(loc="upper left")
    return fig

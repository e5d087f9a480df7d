"""Draws the figures and the table of chapter 3."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from multiepoch_lab.data import Log
from reproduction import style
from reproduction.ch02_data_and_model import experiment
from reproduction.measure import pick, share_of_gap_closed


@style.shown("fig-funnel")
def funnel(sources: Mapping[str, Log]) -> Figure:
    """Draws the number of positives by objective, one panel per source."""
    fig, grid = style.figure(2, height=1.9, sharex=True)
    for axes, (source, log) in zip(grid, sources.items()):
        counts = experiment.positives(log)
        colors = [style.REFERENCE, *(style.line_style(name)["color"] for name in log.objectives)]
        bars = axes.barh([style.spelled(name) for name in counts], counts.values(), color=colors)
        axes.bar_label(bars, [f"{100 * n / len(log):.3g} %" for n in counts.values()], padding=4)
        axes.invert_yaxis()
        axes.set(xscale="log", title=source, xlim=(100, 20 * max(map(len, sources.values()))))
    axes.set_xlabel("number in the training window (log scale)")
    return fig


@style.shown("fig-zipf")
def zipf(sources: Mapping[str, Log]) -> Figure:
    """Draws impressions against the rank of the id on two log axes, one panel per source."""
    fig, grid = style.figure(2, height=2.9, sharex=True, sharey=True)
    for axes, (source, log) in zip(grid, sources.items()):
        for name in (experiment.ITEM[source], "user", experiment.CROSS[source]):
            counts = experiment.frequencies(log.ids[name])
            rank = np.arange(1, len(counts) + 1)
            axes.plot(rank, counts, **style.line_style(name), label=style.spelled(name))
        axes.set(xscale="log", yscale="log", title=source, ylabel="impressions")
        axes.legend(loc="upper right")
    axes.set_xlabel("rank of the id, most frequent first")
    return fig


@style.shown("fig-churn")
def churn(found: Mapping[str, pd.DataFrame]) -> Figure:
    """Draws the share of impressions with an unseen id against days after the window."""
    fig, grid = style.figure(2, height=2.3, sharex=True)
    for axes, (source, table) in zip(grid, found.items()):
        for name in table:
            look = style.line_style(name) | {"marker": "o", "ms": 4, "label": name}
            axes.plot(table.index, table[name], **look)
        axes.set(title=source, ylabel="never seen, %", ylim=(0, 1.25 * table.to_numpy().max()))
        axes.legend(loc="upper left", ncols=2)
    axes.set_xlabel("days after the training window")
    return fig


@style.shown("fig-calibration")
def calibration(found: pd.DataFrame) -> Figure:
    """Draws the observed share of positives against `p_true`, with two standard errors."""
    fig, axes = style.figure()
    look = {"ls": "", "marker": "o", "ms": 5, "capsize": 3}
    for name, mine in found.groupby("objective", sort=False):
        color = style.line_style(name)["color"]
        points = mine["expected"], mine["observed"], 2 * mine["error"]
        axes.errorbar(*points, color=color, label=style.spelled(name), **look)
    span = [min(axes.get_xlim()[0], 1e-3), 1]
    axes.plot(span, span, color=style.REFERENCE, lw=1.2, ls=style.DASHED, zorder=0)
    axes.set(xscale="log", yscale="log", xlabel="probability, p_true")
    axes.set_ylabel("share with the label")
    axes.legend(loc="upper left")
    return fig


@style.shown("fig-one-epoch")
def gap(rows: pd.DataFrame) -> Figure:
    """Draws the share of the gap closed, without the first fifth: it learns how rare a label is."""
    points = share_of_gap_closed(pick(rows, "plain", "AdsWorld"))
    points = points[points["epoch"] >= 0.2].assign(thousands=lambda p: p["samples"] / 1e3)
    fig, axes = style.figure()
    style.objectives(axes, points, "thousands", marked=False)
    style.reference(axes)
    axes.set(xlabel="thousand impressions trained on", ylabel="share of the gap closed, %")
    axes.set_ylim(-20, 1.4 * points["value"].max())
    axes.legend(loc="lower right")
    return fig

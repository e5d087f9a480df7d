"""Draws the figures of chapter 3, for `style.show`."""

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from reproduction import style
from reproduction.ch03_gradient_sparsity.experiment import BATCH, touched_percent
from reproduction.measure import intervals

SOURCES = ("AdsWorld", "KuaiRand")
LARGE = ("product", "video", "user", "user_x_advertiser", "user_x_author")


@style.shown("fig-steps")
def steps(trained: list[Tensor], ids: Tensor, n_rows: int) -> Figure:
    """Draws a dot for each row with a gradient, one line per step.

    The ids are those of the column in the whole log. They rank the rows by frequency.
    """
    order = torch.bincount(ids, minlength=n_rows).argsort(descending=True)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(1, n_rows + 1)
    fig, axes = style.figure(height=3.0)
    color = style.line_style("click")["color"]
    for step, rows in enumerate(trained, start=1):
        axes.plot(rank[rows], np.full(len(rows), step), "s", color=color, ms=1.6, mew=0)
    axes.grid(False)
    axes.set(xlabel="products, most frequent first", ylabel="training step")
    axes.set(xlim=(-0.01 * n_rows, n_rows), ylim=(0.5, len(trained) + 0.5))
    return fig


@style.shown("fig-batch")
def by_batch_size(rows: pd.DataFrame) -> Figure:
    """Draws the share of rows with a gradient against the batch size, one panel per source."""
    found = touched_percent(rows)["mean"]
    fig, grid = style.figure(2, height=3.3, sharex=True, sharey=True)
    for axes, source in zip(grid, SOURCES):
        shares = found[source]
        for table in [name for name in style.TABLES if name in shares.index]:
            points = shares[table]
            look = style.line_style(table) | {"label": style.spelled(table), "lw": 1.8}
            axes.plot(points.index, points, **look)
        points = shares["all"]
        axes.plot(points.index, points, color="black", lw=3, label="all tables")
        axes.set(xscale="log", yscale="log", title=source, ylabel="rows with a gradient, %")
    look = {"color": "#C00000", "ms": 8, "zorder": 5, "label": "C1's threshold: 5 %"}
    grid[0].plot(BATCH, 5, "v", **look)
    for axes in grid:
        axes.legend(loc="lower right", ncols=2, columnspacing=1, labelspacing=0.2)
    axes.set_xlabel("impressions in a batch")
    return fig


@style.shown("fig-lorenz")
def lorenz(rows: pd.DataFrame) -> Figure:
    """Draws the share of the impressions on the most frequent rows, one panel per source."""
    fig, grid = style.figure(2, height=2.9, sharex=True, sharey=True)
    head = rows[rows["metric"] == "head"]
    equal = np.geomspace(0.1, 100)
    for axes, source in zip(grid, SOURCES):
        mine = intervals(head[head["source"] == source], ["table", "at"])["mean"]
        for table in [table for table in LARGE if table in mine.index]:
            points = mine[table]
            look = style.line_style(table) | {"label": style.spelled(table), "lw": 1.8}
            axes.plot(100 * points.index, points, **look)
        axes.plot(equal, equal, color=style.REFERENCE, lw=1)
        style.reference(axes, 10, vertical=True)
        axes.set(xscale="log", xlim=(0.1, 100), ylim=(0, 100), title=source)
        axes.set_ylabel("impressions, %")
        axes.legend(loc="upper left", labelspacing=0.2)
    axes.set_xlabel("rows, most frequent first, % (log scale)")
    return fig


@style.shown("fig-bytes")
def traffic(megabytes: pd.DataFrame) -> tuple[Figure, dict]:
    """Draws megabytes per step of dense and sparse Adam (the index) for each source."""
    fig, axes = style.figure(height=2.6)
    places = np.arange(len(megabytes.columns))
    colors = (style.REFERENCE, style.line_style("click")["color"])
    for offset, color, (kind, values) in zip((-0.2, 0.2), colors, megabytes.iterrows()):
        bars = axes.barh(places + offset, values, height=0.36, color=color, label=kind)
        axes.bar_label(bars, [f"{value:.3g} MB" for value in values], padding=4)
    axes.set_yticks(places, megabytes.columns)
    axes.invert_yaxis()
    axes.set(xscale="log", xlim=(0.1, 12 * megabytes.to_numpy().max()))
    axes.set_xlabel("megabytes read and written per step (log scale)")
    axes.legend(loc="upper center", bbox_to_anchor=(0.45, 1.2), ncols=2)
    return fig, {"batch": BATCH}

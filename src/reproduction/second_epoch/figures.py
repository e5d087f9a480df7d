"""Draws the figures of chapter 5 from result rows, live or recorded, for `style.show`."""

from __future__ import annotations

import textwrap

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from reproduction import style
from reproduction.measure import intervals, pick
from reproduction.second_epoch import experiment as chapter


@style.shown("fig-within")
def within_epochs(rows: pd.DataFrame) -> Figure:
    """Draws test logloss over the epochs against that at the end of the first, by objective."""
    fig, axes, _ = style.rises(pick(rows, "plain", chapter.PLAIN), height=4.0)
    style.legend_outside(fig, axes)
    return fig


@style.shown("fig-jumps")
def jumps(rows: pd.DataFrame, reported: float) -> Figure:
    """Draws the boundary jump of each objective beside a reported number."""
    found = intervals(chapter.plain_jump(rows), ["objective"])
    found = found.reindex([o for o in style.OBJECTIVES if o in found.index])
    fig, axes = style.figure(height=3.2)
    colors = [style.OBJECTIVES[name][0] for name in found.index]
    axes.bar(range(len(found)), found["mean"], 0.55, color=colors)
    known = found.reset_index().query("low > -inf")
    axes.vlines(known.index, known["low"], known["high"], color=style.REFERENCE, linewidth=3)
    axes.set_xticks(range(len(found)), map(style.spelled, found.index))
    axes.set_xlim(-0.5, len(found) + 0.2)
    style.reference(axes, reported, "reported\n(second-hand)")
    axes.axhline(0, color="black", linewidth=1)
    axes.set_ylabel("boundary jump, %")
    axes.grid(axis="x", visible=False)
    return fig


@style.shown("fig-causes")
def part_left(rows: pd.DataFrame) -> Figure:
    """Draws the part of the jump that each intervention leaves, mean over objectives."""
    left = chapter.part_left(rows)
    found = intervals(left, ["setting"]).sort_values("mean", ascending=False)
    fig, axes = style.figure(height=4.2)
    y = np.arange(len(found))
    axes.barh(y, found["mean"], color="#B9C6CF", height=0.62)
    known = np.isfinite(found["low"].to_numpy())
    axes.hlines(y[known], found["low"][known], found["high"][known], color="black", linewidth=2)
    ends = np.where(known, found["high"], found["mean"]).clip(min=0)
    place = {"xytext": (5, 0), "textcoords": "offset points", "va": "center", "fontsize": 11}
    for k, value in enumerate(found["mean"]):
        axes.annotate(f"{value:.0f} %", (ends[k], k), **place)
    style.reference(axes, 100, vertical=True)
    axes.axvline(0, color="black", linewidth=1)
    axes.set_xlim(right=1.18 * max(100, ends.max()))
    axes.set_yticks(y, [textwrap.fill(name, 16) for name in found.index])
    axes.set_ylim(len(found) - 0.4, -0.6)
    axes.set_xlabel("part of the jump that is left, %")
    axes.grid(axis="y", visible=False)
    return fig


@style.shown("fig-memory")
def memory(rows: pd.DataFrame) -> Figure:
    """Draws click's loss on seen against fresh impressions, and the jump, by row count."""
    fig, grid = style.figure(2, height=2.6, sharex=True)
    titles = ("memory after one epoch", "the jump on the test day")
    labels = ("logloss, seen\nagainst fresh, %", "boundary jump, %")
    places = {group: k for k, group in enumerate(chapter.GROUPS)}
    for axes, values, title, label in zip(grid, chapter.memory(rows), titles, labels):
        points = values.rename("value").reset_index()
        points = points.assign(place=points["group"].map(places)).dropna()
        style.line(axes, points, "place", "click", marker="o", markersize=6)
        style.reference(axes)
        axes.set(title=title, ylabel=label)
    names = [group.replace(" or more", "+").replace(" to ", "–") for group in chapter.GROUPS]
    axes.set_xticks(range(len(names)), names)
    axes.set_xlabel("impressions on the same user × advertiser row")
    return fig


@style.shown("fig-toy")
def toy_leak(found: pd.DataFrame) -> Figure:
    """Draws the harm of trusting row statistics against impressions per row (the index).

    Args:
        found: Columns "its own label among them" and "earlier labels only", in %.
    """
    fig, axes = style.figure(height=3.4)
    own, earlier = found
    lines = {own: (own, "plain", "o"), earlier: (earlier, "tail rewind", "s")}
    style.columns(axes, found, lines)
    style.reference(axes)
    axes.set(xscale="log", xlabel="impressions per row")
    axes.set_ylabel("logloss on fresh impressions\nagainst the base rate, %")
    axes.legend()
    return fig

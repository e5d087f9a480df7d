"""Draws the figures of chapter 4 from result rows, live or recorded, for `style.show`."""

import textwrap

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from reproduction import style
from reproduction.ch04_sparse_optimizer import experiment as chapter
from reproduction.ch04_sparse_optimizer import rules
from reproduction.measure import curve, intervals, pick


@style.shown("fig-travel")
def row_travel(touched: np.ndarray, moved: np.ndarray, lr: float) -> Figure:
    """Draws the distance rows moved in an epoch against the steps that touched them.

    Args:
        touched: Steps that touched each row, (rows,), each at least 1.
        moved: Root mean square over a row's weights, (rows,).
        lr: The rate; touched times lr is about as far as Adam can carry a weight.
    """
    fig, axes = style.figure(height=3.8)
    dots = {"color": style.line_style("plain")["color"], "alpha": 0.12, "ms": 4, "rasterized": True}
    axes.plot(touched, moved, ".", **dots)
    counts = np.unique(touched)
    edges = np.unique(np.geomspace(1, counts.max() + 1, 14).astype(int))
    bins = np.digitize(touched, edges)
    middle = [(np.median(touched[bins == b]), np.median(moved[bins == b])) for b in np.unique(bins)]
    color = style.line_style("FAL")["color"]
    axes.plot(*zip(*middle), color=color, marker="o", ms=5, label="median row")
    look = {"color": style.REFERENCE, "linestyle": style.DASHED, "label": "steps × rate"}
    axes.plot(counts, counts * lr, **look)
    axes.set(xscale="log", yscale="log", xlabel="steps of the epoch that touched the row")
    axes.set_ylabel("distance moved")
    axes.legend(loc="lower right")
    return fig


@style.shown("fig-sweep")
def rate_sweep(rows: pd.DataFrame) -> Figure:
    """Draws logloss after one epoch against the tables' rate, in multiples of the dense rate."""
    fig, axes = style.figure(height=3.6)
    base = chapter.multiple(1)
    found = {m: chapter.against(rows, chapter.multiple(m), base) for m in chapter.MULTIPLES}
    change = pd.concat(found, names=["times"]).rename("value").reset_index()
    style.objectives(axes, change, "times")
    style.reference(axes)
    axes.set(xscale="log", xlabel="tables' rate, in multiples of the dense rate")
    axes.set_ylabel("logloss against 1×, %")
    axes.set_xticks(chapter.MULTIPLES, [f"{m}×" for m in chapter.MULTIPLES])
    axes.minorticks_off()
    style.legend_outside(fig, axes)
    return fig


@style.shown("fig-first-epoch")
def first_epoch(rows: pd.DataFrame, objectives: tuple[str, ...] = ("click", "checkout")) -> Figure:
    """Draws test logloss over the epoch: shared rate, tables' own rate, whole network at it."""
    fig, grid = style.figure(len(objectives), height=2.9, sharex=True, squeeze=False)
    points = curve(rows)
    unit, size = ("million", 1e6) if points["samples"].max() >= 1e6 else ("thousand", 1e3)
    points = points.assign(samples=points["samples"] / size)
    for axes, objective in zip(grid[:, 0], objectives):
        shown = points[points["objective"] == objective]
        shared, own = pick(shown, "plain", chapter.SHARED), pick(shown, "plain", chapter.OWN)
        style.line(axes, shared, "samples", "plain", "shared, tuned")
        style.line(axes, own, "samples", "sparse optimizer", "tables' own, tuned")
        whole = intervals(pick(shown, "plain", chapter.WHOLE), ["samples"]).sort_index()["mean"]
        look = {"color": style.REFERENCE, "linestyle": (0, (1, 1)), "label": "whole network at it"}
        axes.plot(whole.index, whole, **look)
        mean = shared.groupby("epoch")["value"].mean()
        low, high = shown["value"].min(), mean[mean.index >= 0.2].iloc[0]
        axes.set_ylim(low - 0.1 * (high - low), high + 0.5 * (high - low))
        axes.set(title=style.spelled(objective), ylabel="test logloss")
    axes.set_xlabel(f"{unit} impressions trained on")
    grid[0, 0].legend(loc="upper right", handlelength=2.2)
    return fig


@style.shown("fig-rivals")
def against_shared(rows: pd.DataFrame) -> Figure:
    """Draws the logloss of each rival after one epoch against the tuned shared rate."""
    found = {k: chapter.against(rows, name, chapter.SHARED) for k, name in chapter.RIVALS.items()}
    return _rivals(found, 0, "logloss after one epoch\nagainst the tuned shared rate, %")


@style.shown("fig-speed-up")
def speed_up(rows: pd.DataFrame) -> Figure:
    """Draws the speed-up in samples of each rival over the tuned shared rate."""
    found = {label: chapter.speed_up(rows, setting) for label, setting in chapter.RIVALS.items()}
    return _rivals(found, 1, "speed-up in samples\n(0: never reaches the shared rate's loss)")


def _rivals(found: dict[str, pd.Series], same: float, xlabel: str) -> Figure:
    fig, axes = style.figure(height=0.75 * len(found) + 1.3)
    values = pd.concat({textwrap.fill(label, 20): one for label, one in found.items()})
    values = values.rename_axis(["rival", "objective", "seed"])
    style.dots(axes, values, "rival", "objective")
    style.reference(axes, same, vertical=True)
    axes.set_xlabel(xlabel)
    style.legend_outside(fig, axes)
    return fig


@style.shown("fig-gain-by-frequency")
def gain_by_frequency(rows: pd.DataFrame) -> Figure:
    """Draws the own rate against the shared one by tenth of the products' frequency."""
    return style.by_tenth(chapter.by_frequency(rows), "logloss against\nthe tuned shared rate, %")


@style.shown("fig-tuning")
def tuning_grid(trials: pd.DataFrame, candidate: str) -> Figure:
    """Draws each trial of a candidate over the two rates: the % its score exceeds the best."""
    mine = trials[trials["candidate"] == candidate]
    excess = 100 * (mine["score"] / mine["score"].min() - 1)
    dark = float(excess.quantile(0.8)) or 1.0  # beyond it all squares are equally dark
    places = mine["embedding_lr"], mine["dense_lr"]
    fig, axes = style.figure(height=4.0)
    axes.scatter(*places, c=excess.clip(upper=dark), cmap="cividis_r", s=620, marker="s")
    for x, y, value in zip(*places, excess):
        text, color = f"{value:.1f}", "white" if value > 0.55 * dark else "black"
        text = text if value < 99.5 else ">99"
        axes.annotate(text, (x, y), ha="center", va="center", fontsize=11, color=color)
    best = mine[mine["best"]]
    frame = {"mfc": "none", "mec": style.line_style("MEDA")["color"], "mew": 2.5, "ms": 27}
    axes.plot(best["embedding_lr"], best["dense_lr"], "s", **frame)
    axes.set(xscale="log", yscale="log", xlabel="tables' rate", ylabel="dense rate")
    axes.margins(0.14)
    axes.grid(visible=False)
    return fig


@style.shown("fig-warm-up")
def warm_up(rates: pd.DataFrame) -> Figure:
    """Draws the columns dense and tables, a rate by step each, and their ratio."""
    ratio = rates["tables"] / rates["dense"]
    fig, (above, below) = style.figure(2, height=2.3, sharex=True)
    above.plot(rates.index, rates["tables"], **style.line_style("sparse optimizer"), label="tables")
    above.plot(rates.index, rates["dense"], **style.line_style("plain"), label="dense layers")
    above.set(yscale="log", ylabel="rate")
    above.legend(loc="lower right")
    below.plot(rates.index, ratio, color=style.REFERENCE)
    below.set(ylabel="ratio", xlabel="step", ylim=(0, 1.4 * ratio.max()))
    return fig


@style.shown("fig-rules")
def speed_up_by_rule(rows: pd.DataFrame) -> Figure:
    """Draws the speed-up of the tables' own rate along the epoch for each rule."""
    found = chapter.speed_up_by_rule(rows)
    fig, grid = style.figure(len(chapter.READ_AT), height=2.5, sharex=True)
    for axes, point in zip(grid, chapter.READ_AT):
        mine = found.xs(point, level="point").reorder_levels(["condition", "objective", "seed"])
        mine = pd.concat({name: mine.xs(name) for name in chapter.CONDITIONS}, names=["condition"])
        style.dots(axes, mine, "condition", "objective")
        style.reference(axes, 1, vertical=True)
        axes.set_title(f"at the shared rate's loss after {point:g} of the epoch")
    grid[-1].set(xscale="log", xlabel="times as fast as the tuned shared rate")
    grid[-1].set_xticks([0.5, 1, 2, 5, 10], ["0.5", "1", "2", "5", "10"])
    grid[-1].minorticks_off()
    style.legend_outside(fig, grid[0])
    return fig


@style.shown("fig-production")
def gains_by_rule(rows: pd.DataFrame) -> Figure:
    """Draws the change by the tables' own rate for each rule, a panel a source."""
    found = rules.gains(rows)
    fig, grid = style.figure(len(rules.DATA), height=2.7, sharex=True)
    for axes, name in zip(grid, rules.DATA.values()):
        style.dots(axes, found[name], "rule", "objective")
        style.reference(axes, vertical=True)
        axes.set_title(name)
        axes.legend(loc="best")
    grid[-1].set_xlabel("change of the loss by the tables' own rate, %")
    return fig

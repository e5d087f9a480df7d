"""The figures of the chapters: functions of result rows, for a live run and its record alike."""

from __future__ import annotations

import functools
import textwrap
from collections.abc import Callable

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reproduction.ch04_sparse_optimizer import experiment as sparse_optimizer
from reproduction.ch05_multi_epoch_overfitting import experiment as overfitting
from reproduction.ch05_multi_epoch_overfitting import leak
from reproduction.measure import at, curve, intervals, jump, percent_change, pick
from reproduction.style import OBJECTIVES, REFERENCE, STYLE, band, figure, line_style, reference

NAMES = {"add_to_cart": "add-to-cart"}
MARKERS = {"click": "o", "add_to_cart": "s", "checkout": "D"}


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Draws in the book's style: titles and legends take it when they are made, not when saved."""

    @functools.wraps(draw)
    def inside(*arguments, **keywords) -> Figure:
        with plt.rc_context(STYLE):
            return draw(*arguments, **keywords)

    return inside


def spelled(name: str) -> str:
    """An objective or setting as a figure writes it."""
    return NAMES.get(name, name)


def line(axes: Axes, values: pd.DataFrame, x: str, name: str, label: str = "", **kind) -> None:
    """Mean and interval over seeds of the column `value` along the column `x`, as `band` draws."""
    mean = intervals(values, [x]).sort_index()
    label = label or spelled(name)
    band(axes, mean.index, mean["mean"], mean["low"], mean["high"], name, label=label, **kind)


def estimates(axes: Axes, values: pd.Series, by: str, width: int = 20) -> None:
    """A row for each value of the level `by`, in order; in it a dot with interval an objective.

    values: by `by`, seed and objective.
    """
    rows = list(values.index.unique(by))
    objectives = [o for o in OBJECTIVES if o in values.index.unique("objective")]
    for k, objective in enumerate(objectives):
        found = intervals(values.rename("value").xs(objective, level="objective"), [by]).reindex(
            rows
        )
        y = np.arange(len(rows)) + 0.22 * (k - (len(objectives) - 1) / 2)
        color = line_style(objective)["color"]
        axes.plot(found["mean"], y, MARKERS.get(objective, "o"), color=color, markersize=6,
                  label=spelled(objective))  # fmt: skip
        known = np.isfinite(found["low"].to_numpy())
        axes.hlines(y[known], found["low"][known], found["high"][known], color=color, linewidth=2)
    axes.set_yticks(range(len(rows)), [textwrap.fill(spelled(str(row)), width) for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)


def legend_above(axes: Axes, columns: int = 3) -> None:
    """A legend between the title's place and the axes, clear of the data."""
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=columns, borderaxespad=0.2,
                columnspacing=1.2, handlelength=2.2)  # fmt: skip


# Chapter 4


@styled
def row_travel(touched: np.ndarray, moved: np.ndarray, lr: float) -> Figure:
    """How far rows moved in an epoch against the number of steps that touched them.

    touched: (rows,), each at least 1. moved: (rows,), the root mean square over a row's weights.
    lr: the rate; touched times lr is about as far as Adam can carry a weight.
    """
    fig, axes = figure(height=3.8)
    axes.plot(touched, moved, ".", color=line_style("plain")["color"], alpha=0.12, markersize=4,
              rasterized=True)  # fmt: skip
    counts = np.unique(touched)
    edges = np.unique(np.geomspace(1, counts.max() + 1, 14).astype(int))
    bins = np.digitize(touched, edges)
    middle = [(np.median(touched[bins == b]), np.median(moved[bins == b])) for b in np.unique(bins)]
    axes.plot(
        *zip(*middle),
        color=line_style("FAL")["color"],
        marker="o",
        markersize=5,
        label="median row",
    )
    axes.plot(counts, counts * lr, color=REFERENCE, linestyle=(0, (2, 2)), label="steps × rate")
    axes.set(xscale="log", yscale="log", xlabel="steps of the epoch that touched the row",
             ylabel="distance moved")  # fmt: skip
    axes.legend(loc="lower right")
    return fig


@styled
def rate_sweep(rows: pd.DataFrame) -> Figure:
    """Logloss at one epoch against the tables' rate, in multiples of the dense rate."""
    fig, axes = figure(height=3.6)
    settings = {sparse_optimizer.multiple(m): m for m in sparse_optimizer.MULTIPLES}
    base = at(pick(rows, "plain", "1x"), 1.0)
    for objective in OBJECTIVES:
        change = pd.concat({m: percent_change(at(pick(rows, "plain", name), 1.0), base)
                            for name, m in settings.items()}, names=["times"])  # fmt: skip
        change = change.rename("value").reset_index()
        change = change[change["objective"] == objective]
        if len(change):
            line(axes, change, "times", objective, marker=MARKERS[objective], markersize=5)
    axes.axhline(0, color=REFERENCE, linewidth=1)
    axes.set(xscale="log", xlabel="tables' rate, in multiples of the dense rate",
             ylabel="logloss against 1×, %")  # fmt: skip
    axes.set_xticks(list(settings.values()), [f"{m}×" for m in settings.values()])
    axes.minorticks_off()
    legend_above(axes)
    return fig


@styled
def first_epoch(rows: pd.DataFrame, objectives: tuple[str, ...] = ("click", "checkout")) -> Figure:
    """Test logloss over the first epoch: the shared rate, the tables' own, the whole network's."""
    s = sparse_optimizer
    fig, grid = figure(len(objectives), height=2.9, sharex=True)
    for axes, objective in zip(np.atleast_1d(grid), objectives):
        shown = curve(rows)
        shown = shown[shown["objective"] == objective]
        million = shown["samples"].max() >= 1e6
        shown = shown.assign(samples=shown["samples"] / (1e6 if million else 1e3))
        shared, own = pick(shown, "plain", s.SHARED), pick(shown, "plain", s.OWN)
        line(axes, shared, "samples", "plain", "shared, tuned")
        line(axes, own, "samples", "sparse optimizer", "tables' own, tuned")
        whole = intervals(pick(shown, "plain", s.WHOLE), ["samples"]).sort_index()
        axes.plot(whole.index, whole["mean"], color=REFERENCE, linestyle=(0, (1, 1)),
                  label="whole network at it")  # fmt: skip
        mean = shared.groupby("epoch")["value"].mean()
        low, high = shown["value"].min(), mean[mean.index >= 0.2].iloc[0]
        axes.set_ylim(low - 0.1 * (high - low), high + 0.5 * (high - low))
        axes.set_title(spelled(objective))
        axes.set_ylabel("test logloss")
    axes.set_xlabel(f"{'million' if million else 'thousand'} impressions trained on")
    np.atleast_1d(grid)[0].legend(loc="upper right", handlelength=2.2)
    return fig


@styled
def against_shared(rows: pd.DataFrame, settings: dict[str, str]) -> Figure:
    """Logloss at one epoch against the tuned shared rate, for each setting (by the label shown)."""
    base = at(pick(rows, "plain", sparse_optimizer.SHARED), 1.0)
    change = {label: percent_change(at(pick(rows, "plain", setting), 1.0), base)
              for label, setting in settings.items()}  # fmt: skip
    fig, axes = figure(height=0.75 * len(settings) + 1.3)
    estimates(axes, pd.concat(change, names=["setting"]), "setting")
    axes.axvline(0, color=REFERENCE, linewidth=1.2, linestyle=(0, (2, 2)))
    axes.set_xlabel("logloss after one epoch\nagainst the tuned shared rate, %")
    legend_above(axes)
    return fig


@styled
def speed_up(rows: pd.DataFrame, settings: dict[str, str]) -> Figure:
    """Samples of the shared rate's epoch over those a setting needs to its loss. 0: never there."""
    found = {label: sparse_optimizer.speed_up(rows, setting) for label, setting in settings.items()}
    fig, axes = figure(height=0.75 * len(settings) + 1.3)
    estimates(axes, pd.concat(found, names=["setting"]), "setting")
    axes.axvline(1, color=REFERENCE, linewidth=1.2, linestyle=(0, (2, 2)))
    axes.set_xlabel("speed-up in samples\n(0: never reaches the shared rate's loss)")
    legend_above(axes)
    return fig


@styled
def gain_by_frequency(rows: pd.DataFrame) -> Figure:
    """The tables' own rate against the shared one, by tenth of the product rows' frequency."""
    s, groups = sparse_optimizer, sorted(set(rows["group"]) - {"all"}, key=int)
    change = pd.concat(
        {int(g): percent_change(at(pick(rows, "plain", s.OWN), 1.0, group=g),
                       at(pick(rows, "plain", s.SHARED), 1.0, group=g)) for g in groups},
        names=["group"],
    )  # fmt: skip
    return _by_tenth(change, "logloss against\nthe tuned shared rate, %")


def _by_tenth(values: pd.Series, ylabel: str) -> Figure:
    """A line with interval an objective along the tenths of the product rows' frequency."""
    frame = values.rename("value").reset_index()
    objectives = [o for o in OBJECTIVES if o in set(frame["objective"])]
    fig, grid = figure(len(objectives), height=2.0, sharex=True)
    for axes, objective in zip(np.atleast_1d(grid), objectives):
        mine = frame[frame["objective"] == objective]
        line(axes, mine.assign(tenth=mine["group"].astype(int) + 1), "tenth", objective,
             marker=MARKERS[objective], markersize=5)  # fmt: skip
        axes.axhline(0, color=REFERENCE, linewidth=1)
        axes.set_title(spelled(objective))
        axes.set_xticks(range(1, 11))
    fig.supylabel(ylabel, fontsize=12)
    axes.set_xlabel(
        "tenth of the impressions, by how often their product\n"
        "was trained on: 1 rarest, 10 most frequent"
    )
    return fig


@styled
def tuning_grid(trials: pd.DataFrame, candidate: str) -> Figure:
    """Each trial of a candidate over the two rates: % its score is above the best one's."""
    mine = trials[trials["candidate"] == candidate]
    excess = 100 * (mine["score"] / mine["score"].min() - 1)
    dark = float(excess.quantile(0.8)) or 1.0  # beyond it all squares are equally dark
    fig, axes = figure(height=4.0)
    axes.scatter(mine["embedding_lr"], mine["dense_lr"], c=excess.clip(upper=dark),
                 cmap="cividis_r", s=620, marker="s")  # fmt: skip
    for x, y, value in zip(mine["embedding_lr"], mine["dense_lr"], excess):
        axes.annotate(f"{value:.1f}" if value < 99.5 else ">99", (x, y), ha="center", va="center",
                      fontsize=9, color="white" if value > 0.55 * dark else "black")  # fmt: skip
    best = mine[mine["best"]]
    axes.plot(best["embedding_lr"], best["dense_lr"], "s", markersize=27, markerfacecolor="none",
              markeredgecolor=line_style("MEDA")["color"], markeredgewidth=2.5)  # fmt: skip
    axes.set(xscale="log", yscale="log", xlabel="tables' rate", ylabel="dense rate")
    axes.margins(0.14)
    axes.grid(visible=False)
    return fig


@styled
def warm_up(rates: pd.DataFrame) -> Figure:
    """The two rates by step, and their ratio: columns dense and tables."""
    fig, (above, below) = figure(2, height=2.3, sharex=True)
    above.plot(rates.index, rates["tables"], **line_style("sparse optimizer"), label="tables")
    above.plot(rates.index, rates["dense"], **line_style("plain"), label="dense layers")
    above.set(yscale="log", ylabel="rate")
    above.legend(loc="lower right")
    below.plot(rates.index, rates["tables"] / rates["dense"], color=REFERENCE)
    below.set(
        ylabel="ratio", xlabel="step", ylim=(0, 1.4 * (rates["tables"] / rates["dense"]).max())
    )
    return fig


# Chapter 5


@styled
def within_epochs(rows: pd.DataFrame, setting: str = overfitting.PLAIN) -> Figure:
    """Test logloss over the epochs, against that at the end of the first, by objective."""
    mine = pick(rows, "plain", setting)
    base = at(mine, 1.0)
    points = curve(mine).merge(base.rename("base").reset_index())
    points = points.assign(value=100 * (points["value"] / points["base"] - 1))
    points = points[points["epoch"] >= 0.5]
    fig, axes = figure(height=4.0)
    for boundary in range(1, int(points["epoch"].max())):
        axes.axvline(boundary, color=REFERENCE, linewidth=1.2, linestyle=(0, (2, 2)))
    for objective in [o for o in OBJECTIVES if o in set(points["objective"])]:
        line(axes, points[points["objective"] == objective], "epoch", objective)
    axes.set(xlabel="epochs over the data", ylabel="test logloss against\nthe end of epoch 1, %")
    legend_above(axes)
    return fig


@styled
def jumps(rows: pd.DataFrame, reported: float) -> Figure:
    """The boundary jump of each objective with its interval, beside a number from elsewhere."""
    found = intervals(jump(pick(rows, "plain", overfitting.PLAIN)).rename("value"), ["objective"])
    found = found.reindex([o for o in OBJECTIVES if o in found.index])
    fig, axes = figure(height=3.2)
    for k, (objective, at_mean) in enumerate(found.iterrows()):
        color = line_style(objective)["color"]
        axes.bar(k, at_mean["mean"], width=0.55, color=color)
        if np.isfinite(at_mean["low"]):
            axes.vlines(k, at_mean["low"], at_mean["high"], color=REFERENCE, linewidth=3)
    axes.set_xticks(range(len(found)), [spelled(o) for o in found.index])
    axes.set_xlim(-0.5, len(found) + 0.2)
    reference(axes, reported, "reported\n(second-hand)")
    axes.axhline(0, color="black", linewidth=1)
    axes.set_ylabel("boundary jump, %")
    axes.grid(axis="x", visible=False)
    return fig


@styled
def jump_by_labels(rows: pd.DataFrame) -> Figure:
    """Click's jump, alone in the model, against the share of clicks that keep their label."""
    kept = {k: jump(pick(rows, "plain", overfitting.thinned(k))) for k in overfitting.KEPT}
    values = pd.concat(kept, names=["kept"]).rename("value").reset_index()
    fig, axes = figure(height=3.4)
    line(axes, values, "kept", "click", label="click alone", marker="o", markersize=6)
    axes.set_xscale("log", base=2)
    axes.set_xlim(1.15, overfitting.KEPT[-1] / 1.15)
    axes.set_xticks(overfitting.KEPT, ["all", *(f"1/{round(1 / k)}" for k in overfitting.KEPT[1:])])
    axes.minorticks_off()
    axes.axhline(0, color=REFERENCE, linewidth=1)
    axes.set(xlabel="clicks that keep their label", ylabel="boundary jump, %")
    return fig


@styled
def jump_by_frequency(rows: pd.DataFrame) -> Figure:
    """The jump by tenth of the product rows' frequency, by objective."""
    return _by_tenth(overfitting.jump_by_group(rows), "boundary jump, %")


@styled
def part_left(rows: pd.DataFrame) -> Figure:
    """The part of the jump that each intervention leaves, mean over objectives, in %."""
    left = (100 - overfitting.part_gone(rows)).groupby(["setting", "seed"]).mean()
    found = intervals(left.rename("value"), ["setting"]).sort_values("mean", ascending=False)
    fig, axes = figure(height=4.2)
    y = np.arange(len(found))
    axes.barh(y, found["mean"], color="#B9C6CF", height=0.62)
    known = np.isfinite(found["low"].to_numpy())
    axes.hlines(y[known], found["low"][known], found["high"][known], color="black", linewidth=2)
    ends = np.where(known, found["high"], found["mean"])
    for k, value in enumerate(found["mean"]):
        axes.annotate(f"{value:.0f} %", (max(ends[k], 0), k), xytext=(5, 0), va="center",
                      textcoords="offset points", fontsize=11)  # fmt: skip
    axes.axvline(100, color=REFERENCE, linewidth=1.2, linestyle=(0, (2, 2)))
    axes.axvline(0, color="black", linewidth=1)
    axes.set_xlim(right=1.18 * max(100, ends.max()))
    axes.set_yticks(y, [textwrap.fill(name, 16) for name in found.index])
    axes.set_ylim(len(found) - 0.4, -0.6)
    axes.set_xlabel("part of the jump that is left, %")
    axes.grid(axis="y", visible=False)
    return fig


@styled
def memory(rows: pd.DataFrame, objective: str = "click") -> Figure:
    """Above: logloss of seen over fresh impressions after epoch 1. Below: the jump. By row count."""
    mine = rows[rows["objective"] == objective]
    wide = mine.pivot_table(index=["seed", "group"], columns=["split", "epoch"], values="value")
    known = 100 * (wide[leak.SEEN, 1.0] / wide[leak.FRESH, 1.0] - 1)
    jumped = 100 * (wide[leak.NEXT, 1.25] / wide[leak.NEXT, 1.0] - 1)
    fig, grid = figure(2, height=2.6, sharex=True)
    titles = ("what the model knows of what it saw", "the jump on the test day")
    labels = ("logloss, seen\nagainst fresh, %", "boundary jump, %")
    for axes, values, title, label in zip(grid, (known, jumped), titles, labels):
        values = values.rename("value").dropna().reset_index()
        values = values.assign(x=values["group"].map({g: k for k, g in enumerate(leak.GROUPS)}))
        line(axes, values.dropna(), "x", objective, marker=MARKERS[objective], markersize=6)
        axes.axhline(0, color=REFERENCE, linewidth=1)
        axes.set_title(title)
        axes.set_ylabel(label)
    axes.set_xticks(
        range(len(leak.GROUPS)),
        [g.replace(" or more", "+").replace(" to ", "–") for g in leak.GROUPS],
    )
    axes.set_xlabel("impressions on the same user × advertiser row")
    return fig


@styled
def toy_leak(found: pd.DataFrame) -> Figure:
    """What trust in row statistics does to fresh impressions, by impressions a row (the index)."""
    fig, axes = figure(height=3.4)
    axes.plot(found.index, found["its own label among them"], **line_style("plain"), marker="o",
              label="its own label among them")  # fmt: skip
    axes.plot(found.index, found["earlier labels only"], **line_style("tail rewind"), marker="s",
              label="earlier labels only")  # fmt: skip
    axes.axhline(0, color=REFERENCE, linewidth=1)
    axes.set(
        xscale="log",
        xlabel="impressions a row",
        ylabel="logloss on fresh impressions\nagainst the base rate, %",
    )
    axes.legend()
    return fig

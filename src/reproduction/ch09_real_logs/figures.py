"""The figures and tables of chapter 9."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from multiepoch.data import Log
from multiepoch.methods import METHODS
from reproduction import style, tables
from reproduction.ch09_real_logs import experiment
from reproduction.ch09_real_logs.experiment import (
    CLICK_ALONE,
    CROSS,
    HEAVY_LIKE,
    LIKE_ALONE,
    LIKE_WEIGHT,
    MEAN,
    ONE_EPOCH,
    RARE_CLICK,
    SLOW_TABLES,
    TRAINED_ON,
    TUNED,
    WITH,
    WITHOUT,
    change,
    end_of_three,
    jumps,
    ran,
    setting,
    to_one_epoch,
    worst,
)
from reproduction.measure import at, pick, relative

LABELS = {name: method.label for name, method in METHODS.items()}
WITH_ONE, WITH_TUNED = setting(WITH, ONE_EPOCH), setting(WITH, TUNED)
SHADES = ("#7A1E3A", "#B5538F", "#D9A0C0", "#C9D6DF", "#9FB4C3")  # the rarer, the darker
MARKERS = {"click": "o", "long_view": "s", "like": "D"}
FIRST_DAY = np.datetime64("2022-04-25")  # day 0 of the packaged part
PAIRS = (
    ("fal", "meda"),
    ("fal", "plain"),
    ("meda", "plain"),
    ("tail_rewind", "meda"),
    ("tail_rewind", "fal"),
    ("tail_rewind", "plain"),
    ("adamar", "meda"),
    ("fal_tail_rewind", "tail_rewind"),
)


def parts(logs: Mapping[str, Log]) -> None:
    """Displays the size and the labels of each part of the log."""
    found = {}
    for name, part in logs.items():
        rates = zip(part.objectives, part.labels.mean(dim=0))
        found[name] = {
            "days": f"{FIRST_DAY + int(part.day.min())} to {FIRST_DAY + int(part.day.max())}",
            "impressions": f"{len(part):,}",
            "users": f"{part.ids['user'].unique().numel():,}",
            "videos": f"{part.ids['video'].unique().numel():,}",
        } | {style.spelled(k): f"{100 * rate:.1f} %" for k, rate in rates}
    tables.show(found, "part")


@style.shown(
    "fig-nine-problem",
    alt="Test logloss of three objectives against epochs, relative to the end of the first epoch.",
    caption="The plain optimizer on KuaiRand, with the cross. A quarter into the second epoch, "
    "test logloss is above that at the end of the first by {jumps}.",
)
def problem(rows: pd.DataFrame) -> tuple[Figure, dict]:
    """Draws the plain optimizer's test loss by objective."""
    fig, axes = style.figure(height=3.6)
    style.by_objective(axes, rows)
    axes.set_xlabel("epochs over the training window")
    axes.set_ylabel("test logloss against\nthe end of epoch 1, %")
    style.legend_outside(fig, axes)
    found = jumps(rows, "plain", WITH_ONE).mean()
    said = ", ".join(f"{found[k]:.1f} % ({style.spelled(k)})" for k in MARKERS)
    return fig, {"jumps": said}


@style.shown(
    "fig-nine-rows",
    alt="For each id column, how often the rows of the test impressions were trained on. On rows "
    "trained on twice at most: {all}.",
    caption="Of the test impressions, {cross:.0f} % look up a row of the cross that was trained on "
    "twice at most; {user:.0f} % such a row of the users, {author:.0f} % of the authors.",
)
def rows(shares: pd.DataFrame) -> tuple[Figure, dict]:
    """Draws the % of the test impressions in each group of rows: group by id column."""
    fig, axes = style.figure(height=3.9)
    left = np.zeros(len(shares.columns))
    names = [column.replace("_x_", " ×\n") for column in shares]
    for (group, widths), shade in zip(shares.iterrows(), SHADES):
        axes.barh(names, widths, left=left, color=shade, label=group, height=0.7)
        left += widths.to_numpy()
    axes.invert_yaxis()
    axes.set(xlim=(0, 100), xlabel="test impressions, %")
    axes.grid(axis="y", visible=False)
    title = "times that the row was trained on"
    fig.legend(title=title, loc="outside upper center", ncols=3, handlelength=1)
    rare = shares.iloc[:2].sum()
    said = ", ".join(f"{column} {value:.0f} %" for column, value in rare.items())
    return fig, {"all": said, "cross": rare[CROSS], "user": rare["user"], "author": rare["author"]}


@style.shown(
    "fig-nine-collapse",
    alt="Click's test logloss against epochs at the rates that are best for one epoch, a panel "
    "with and, if it was run, one without the cross; a line for each method.",
    caption="Click's test logloss at the rates for one epoch. Zero is the plain optimizer at the "
    "end of its first epoch, of the panel's own model. At each grey line an epoch begins.",
)
def collapse(rows: pd.DataFrame) -> Figure:
    """Draws click's loss with and without the cross."""
    crosses = [cross for cross in (WITH, WITHOUT) if ran(rows, setting(cross, ONE_EPOCH))]
    points = [to_one_epoch(rows, cross, ONE_EPOCH).assign(cross=cross) for cross in crosses]
    points = pd.concat(points).query("objective == 'click'")
    return _lines(points, "click's logloss against\none plain epoch, %", 2.6, "cross")


def collapse_table(rows: pd.DataFrame) -> None:
    """Displays click's jumps with and without the cross, and the worth of the cross itself."""
    found, ends = {}, {}
    for cross in (WITH, WITHOUT):
        where = setting(cross, ONE_EPOCH)
        if not ran(rows, where):
            continue
        plain, fal = (jumps(rows, name, where)["click"] for name in ("plain", "fal"))
        later = [change(rows, name, where, 2.0, "click") for name in ("plain", "fal")]
        found[cross] = {
            "jump": tables.cell(plain, "%", 1),
            "jump with FAL": tables.cell(fal, "%", 1),
            "left by FAL": tables.cell(100 * fal / plain, "%", 0),
            "end of epoch 2": tables.cell(later[0], "%", 1),
            "end of epoch 2 with FAL": tables.cell(later[1], "%", 1),
        }
        ends[cross] = at(pick(rows, "plain", where), 1.0)[:, :, :, "click"].groupby("seed").mean()
    if WITHOUT in ends:
        worth = 100 * (ends[WITH] / ends[WITHOUT] - 1)
        found[WITH]["epoch 1, against no cross"] = tables.cell(worth, "%")
        found[WITHOUT]["epoch 1, against no cross"] = "—"
    tables.show(found, "click")


@style.shown(
    "fig-nine-frequency",
    alt="The jump of each objective in three groups of test impressions, by how often their row of "
    "the cross was trained on.",
    caption="The plain jump at the rates for one epoch, by how often the window trained the row of "
    "the cross that a test impression looks up. Bars are 95 % intervals over seeds.",
)
def by_frequency(rows: pd.DataFrame) -> Figure:
    """Draws the plain jump by the training frequency of the cross's row."""
    fig, axes = style.figure(height=3.4)
    looks = {k: {"color": style.line_style(k)["color"], "marker": m} for k, m in MARKERS.items()}
    values = experiment.jump_by_frequency(rows).loc[list(TRAINED_ON)]
    style.dots(axes, values, "group", "objective", looks)
    style.zero(axes, vertical=True)
    axes.set(xlabel="jump, %", ylabel="row of the cross\nwas trained on")
    style.legend_outside(fig, axes)
    return fig


@style.shown(
    "fig-nine-label-ablation",
    alt="Four panels of test logloss against epochs, relative to the end of the first epoch: "
    "click, long view and like trained together; the same with slower tables; the same with a "
    "larger weight for like; and click, like, and click made as rare as like, each by itself.",
    caption="The upper three panels: one model for three labels. The lowest: one model for each "
    "label. If no rate is named, it is the one for one epoch. Mind the scales.",
)
def label_ablations(rows: pd.DataFrame) -> Figure:
    """Draws what becomes of click and like together, slowed down, weighed, and each alone."""
    titles = {
        WITH_ONE: "all three together",
        SLOW_TABLES: f"all three, {SLOW_TABLES}",
        HEAVY_LIKE: f"all three, like weighs {LIKE_WEIGHT:g} times",
    }
    fig, (*together, alone) = style.figure(4, height=2.1, sharex=True)
    for axes, (where, title) in zip(together, titles.items()):
        style.by_objective(axes, pick(rows, "plain", where), last=2)
        axes.set_title(title)
    looks = {
        CLICK_ALONE: ("click", {}),
        LIKE_ALONE: ("like", {}),
        RARE_CLICK: ("click", {"linestyle": (0, (4, 1.5))}),
    }
    for where, (objective, look) in looks.items():
        mine = pick(rows, "plain", where)
        points = relative(mine, at(mine, 1.0))
        points, words = points[points["epoch"] >= 0.5], where.replace(", ", ",\n")
        style.line(alone, points, "epoch", objective, words, **look)
    style.boundaries(alone, 2)
    style.zero(alone)
    alone.set_title("each by itself")
    alone.set_xlabel("epochs over the training window")
    for axes in (together[0], alone):
        axes.legend(loc="upper left")
    fig.supylabel("test logloss against the end of epoch 1, %", fontsize=12)
    return fig


def label_ablation_table(rows: pd.DataFrame) -> None:
    """Displays the same in numbers, with the AUC after each epoch."""
    models = {"together": WITH_ONE, SLOW_TABLES: SLOW_TABLES, HEAVY_LIKE: HEAVY_LIKE}
    shown = {
        f"{objective}, {words}": (where, objective)
        for words, where in models.items()
        for objective in ("click", "like")
    }
    shown |= {CLICK_ALONE: (CLICK_ALONE, "click"), RARE_CLICK: (RARE_CLICK, "click")}
    found = {}
    for name, (where, objective) in (shown | {LIKE_ALONE: (LIKE_ALONE, "like")}).items():
        mine = pick(rows, "plain", where)
        mine = mine[mine["objective"] == objective]
        points = {"a quarter into epoch 2": 1.25, "end of epoch 2": 2.0}
        found[name] = {
            words: tables.cell(change(rows, "plain", where, epoch, objective), "%", 1)
            for words, epoch in points.items()
        }
        for k in (1.0, 2.0):
            found[name][f"AUC, epoch {k:g}"] = tables.cell(at(mine, k, "auc"), digits=3)
    tables.show(found, "logloss against the end of epoch 1")


@style.shown(
    "fig-nine-remedies",
    alt="Test logloss of the tuned methods against epochs, relative to one plain epoch at its best "
    "rates, a panel for each objective.",
    caption="Test logloss of each method at its own best rates for three epochs, with the cross. "
    "Zero: the plain optimizer after one epoch at its best rates for one.",
)
def remedies(rows: pd.DataFrame) -> Figure:
    """Draws the tuned methods against one plain epoch."""
    return _lines(to_one_epoch(rows, WITH, TUNED), "logloss against one plain epoch, %", 2.4)


def best_ends(rows: pd.DataFrame) -> None:
    """Displays after how many whole epochs each method is best, and how good it is there."""
    points = to_one_epoch(rows, WITH, TUNED)
    mean = points.groupby(["method", "epoch", "seed"])["value"].mean()
    found = {}
    for name in ran(rows, WITH_TUNED):
        ends = mean[name].unstack("epoch")
        ends = ends[[epoch for epoch in ends if epoch % 1 == 0]]
        best = ends.mean().idxmin()
        found[LABELS[name]] = {
            "best at the end of epoch": f"{best:g}",
            "logloss against one plain epoch": tables.cell(ends[best], "%"),
        }
    tables.show(found, MEAN)


def differences(rows: pd.DataFrame, cross: str, pairs: Sequence = PAIRS) -> None:
    """Displays tuned methods against each other after epoch 3, and C11's measure if it was run."""
    methods, found = ran(rows, setting(cross, TUNED)), {}
    for one, other in [pair for pair in pairs if set(pair) <= set(methods)]:
        ends = end_of_three(rows, cross, one, other)
        found[f"{LABELS[one]} against {LABELS[other]}"] = {
            style.spelled(k): tables.cell(ends[k], "%") for k in (*MARKERS, MEAN)
        }
    if "tail_rewind" in methods:
        for other in ("fal", "meda"):
            found[f"tail rewind against {LABELS[other]}, at its worst point"] = {
                **{style.spelled(k): "" for k in MARKERS},
                MEAN: tables.cell(worst(rows, cross, other), "%"),
            }
    if found:
        tables.show(found, f"end of epoch 3, {cross}")


def _lines(points: pd.DataFrame, ylabel: str, height: float, panels: str = "objective") -> Figure:
    points = points.assign(line=points["method"].map(LABELS))
    methods = set(points["method"])
    looks = {label: style.line_style(label) for name, label in LABELS.items() if name in methods}
    return style.by_epoch(points, looks, ylabel, panels, height)

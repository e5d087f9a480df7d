"""The figures and tables of chapter 9."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from multiepoch.data import Log
from multiepoch.methods import METHODS
from multiepoch.stats import interval
from reproduction import style, tables
from reproduction.ch09_real_logs import experiment as chapter
from reproduction.ch09_real_logs.experiment import CROSS, MEAN, ONE_EPOCH, TUNED, WITH, WITHOUT
from reproduction.findings import cell
from reproduction.measure import losses, pick, to_start

LABELS = {name: method.label for name, method in METHODS.items()}
WITH_ONE, WITH_TUNED = chapter.setting(WITH, ONE_EPOCH), chapter.setting(WITH, TUNED)
SHADES = ("#7A1E3A", "#B5538F", "#D9A0C0", "#C9D6DF", "#9FB4C3")  # the rarer, the darker
OBJECTIVES = ("click", "long_view", "like")
FIRST_DAY = np.datetime64("2022-04-25")  # day 0 of the packaged part
PAIRS = [("fal", "meda"), ("fal", "plain"), ("meda", "plain")]
PAIRS += [("tail_rewind", other) for other in ("meda", "fal", "plain")]
PAIRS += [("adamar", "meda"), ("fal_tail_rewind", "tail_rewind")]


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


@style.shown("fig-nine-problem")
def problem(rows: pd.DataFrame) -> tuple[Figure, dict]:
    """Draws the plain optimizer's test loss by objective."""
    fig, axes, jumps = style.rises(rows, height=3.6)
    style.legend_outside(fig, axes)
    return fig, jumps


@style.shown("fig-nine-rows")
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


@style.shown("fig-nine-collapse")
def collapse(rows: pd.DataFrame) -> Figure:
    """Draws click's loss with and without the cross."""
    panels = {
        cross: chapter.to_one_epoch(rows, cross, ONE_EPOCH)
        for cross in (WITH, WITHOUT)
        if chapter.ran(rows, chapter.setting(cross, ONE_EPOCH))
    }
    points = pd.concat(panels, names=["cross"]).reset_index("cross")
    points = points.query("objective == 'click'")
    return _lines(points, "click's logloss against\none plain epoch, %", 2.6, "cross")


def collapse_table(rows: pd.DataFrame) -> None:
    """Displays click's jumps with and without the cross, and the worth of the cross itself."""
    found, ends = {}, {}
    for cross in (WITH, WITHOUT):
        where = chapter.setting(cross, ONE_EPOCH)
        if not chapter.ran(rows, where):
            continue
        plain, fal = (chapter.jumps(rows, name, where)["click"] for name in ("plain", "fal"))
        later = [chapter.change(rows, name, where, 2.0, "click") for name in ("plain", "fal")]
        found[cross] = {
            "jump": cell(plain, "%", 1),
            "jump with FAL": cell(fal, "%", 1),
            "left by FAL": cell(100 * fal / plain, "%", 0),
            "end of epoch 2": cell(later[0], "%", 1),
            "end of epoch 2 with FAL": cell(later[1], "%", 1),
        }
        which = {"method": "plain", "setting": where, "objective": "click", "epoch": 1.0}
        ends[cross] = losses(rows, **which)
    if WITHOUT in ends:
        worth = 100 * (ends[WITH] / ends[WITHOUT] - 1)
        found[WITH]["epoch 1, against no cross"] = cell(worth, "%")
        found[WITHOUT]["epoch 1, against no cross"] = "—"
    tables.show(found, "click")


@style.shown("fig-nine-frequency")
def by_frequency(rows: pd.DataFrame) -> Figure:
    """Draws the plain jump by the training frequency of the cross's row."""
    fig, axes = style.figure(height=3.4)
    style.dots(axes, chapter.jump_by_frequency(rows), "group", "objective")
    style.reference(axes, vertical=True)
    axes.set(xlabel="jump, %", ylabel="row of the cross\nwas trained on")
    style.legend_outside(fig, axes)
    return fig


@style.shown("fig-nine-label-ablation")
def label_ablations(rows: pd.DataFrame) -> Figure:
    """Draws what becomes of click and like together, slowed down, weighed, and each alone."""
    titles = {
        WITH_ONE: "all three together",
        chapter.SLOW_TABLES: f"all three, {chapter.SLOW_TABLES}",
        chapter.HEAVY_LIKE: f"all three, like weighs {chapter.LIKE_WEIGHT:g} times",
    }
    fig, (*together, alone) = style.figure(4, height=2.1, sharex=True)
    for axes, (where, title) in zip(together, titles.items()):
        style.by_objective(axes, pick(rows, "plain", where), last=2)
        axes.set_title(title)
    looks = {
        chapter.CLICK_ALONE: ("click", {}),
        chapter.LIKE_ALONE: ("like", {}),
        chapter.RARE_CLICK: ("click", {"linestyle": (0, (4, 1.5))}),
    }
    for where, (objective, look) in looks.items():
        mine = pick(rows, "plain", where)
        points = to_start(mine)
        points, words = points[points["epoch"] >= 0.5], where.replace(", ", ",\n")
        style.line(alone, points, "epoch", objective, words, **look)
    style.boundaries(alone, 2)
    style.reference(alone)
    alone.set_title("each by itself")
    alone.set_xlabel("epochs over the training window")
    for axes in (together[0], alone):
        axes.legend(loc="upper left")
    fig.supylabel("test logloss against the end of epoch 1, %", fontsize=12)
    return fig


def label_ablation_table(rows: pd.DataFrame) -> None:
    """Displays the same in numbers, with the AUC after each epoch."""
    together = (WITH_ONE, chapter.SLOW_TABLES, chapter.HEAVY_LIKE)
    models = [(where, objective) for where in together for objective in ("click", "like")]
    models += [(chapter.CLICK_ALONE, "click"), (chapter.RARE_CLICK, "click")]
    found = {}
    for where, objective in (*models, (chapter.LIKE_ALONE, "like")):
        mine = pick(rows, "plain", where)
        mine = mine[mine["objective"] == objective]
        model = "together" if where == WITH_ONE else where
        line = found[f"{objective}, {model}" if where in together else where] = {}
        for words, epoch in {"a quarter into epoch 2": 1.25, "end of epoch 2": 2.0}.items():
            line[words] = cell(chapter.change(rows, "plain", where, epoch, objective), "%", 1)
        for k in (1.0, 2.0):
            line[f"AUC, epoch {k:g}"] = cell(losses(mine, "auc", epoch=k), digits=3)
    tables.show(found, "logloss against the end of epoch 1")


@style.shown("fig-nine-remedies")
def remedies(rows: pd.DataFrame) -> Figure:
    """Draws the tuned methods against one plain epoch."""
    points = chapter.to_one_epoch(rows, WITH, TUNED)
    return _lines(points, "logloss against one plain epoch, %", 2.4)


def best_ends(rows: pd.DataFrame) -> None:
    """Displays after how many whole epochs each method is best, and how good it is there."""
    points = chapter.to_one_epoch(rows, WITH, TUNED)
    mean = points.groupby(["method", "epoch", "seed"])["value"].mean()
    found = {}
    for name in chapter.ran(rows, WITH_TUNED):
        ends = mean[name].unstack("epoch")
        ends = ends[[epoch for epoch in ends if epoch % 1 == 0]]
        best = ends.mean().idxmin()
        found[LABELS[name]] = {
            "best at the end of epoch": f"{best:g}",
            "logloss against one plain epoch": cell(ends[best], "%"),
        }
    tables.show(found, MEAN)


def differences(rows: pd.DataFrame, cross: str) -> None:
    """Displays tuned methods against each other after epoch 3, and C11's measure if it was run."""
    methods, found = chapter.ran(rows, chapter.setting(cross, TUNED)), {}
    for one, other in [pair for pair in PAIRS if set(pair) <= set(methods)]:
        ends = chapter.end_of_three(rows, cross, one, other)
        found[f"{LABELS[one]} against {LABELS[other]}"] = {
            style.spelled(k): cell(ends[k], "%") for k in (*OBJECTIVES, MEAN)
        }
    for other in ("fal", "meda") if "tail_rewind" in methods else ():
        empty = {style.spelled(k): "" for k in OBJECTIVES}
        worst = cell(chapter.worst(rows, cross, other), "%")
        found[f"tail rewind against {LABELS[other]}, at its worst point"] = empty | {MEAN: worst}
    if found:
        tables.show(found, f"end of epoch 3, {cross}")


def _lines(points: pd.DataFrame, ylabel: str, height: float, panels: str = "objective") -> Figure:
    looks = {label: style.line_style(label) for label in LABELS.values()}
    points = points.assign(line=points["method"].map(LABELS))
    return style.by_epoch(points, looks, ylabel, panels, height)


def carried_over(rows: pd.DataFrame) -> None:
    """Displays each measure in both, and whether the two lie on the same side of its threshold."""
    ours, found = chapter.of_log(rows), {}
    for name, (words, threshold, *where) in chapter.MEASURES.items():
        both = chapter.of_world(*where), ours.get(name)
        world, log = ("no record found" if one is None else cell(one) for one in both)
        found[words] = {"threshold": f"{threshold:g}", "AdsWorld": world, "KuaiRand": log}
        found[words]["carries over"] = _verdict(both, threshold)
    tables.show(found, "measure")


def _verdict(both: tuple[pd.Series | None, pd.Series | None], threshold: float) -> str:
    if any(values is None for values in both):
        return "—"
    ends = [interval(values)[1:] for values in both]
    sides = [(high < threshold, low > threshold) for low, high in ends]
    if (False, False) in sides:
        return "not settled"
    return "yes" if sides[0] == sides[1] else "**no**"

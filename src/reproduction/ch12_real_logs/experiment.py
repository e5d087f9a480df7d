"""The collapse and its remedies on KuaiRand, with and without the cross."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from multiepoch_lab import regime
from multiepoch_lab.data import Log
from reproduction import style, tables
from reproduction.ch12_real_logs import penalty
from reproduction.dose_response import production
from reproduction.findings import by_name, estimate
from reproduction.measure import by_seed, intervals, jump, losses, pick, relative
from reproduction.records import Record
from reproduction.remedies.board import METHODS
from reproduction.runs import Profile, Run, over_seeds, run_all

NAME = "kuairand"
WITH, WITHOUT = "with the cross", "without the cross"
CROSS = "user_x_author"
COMPARED = ("plain", "fal", "meda", "tail_rewind")
TRAINED_ON = ("never", "once", "more often")  # how often a row of the cross was, in the window


def runs(epochs: int) -> list[Run]:
    """Returns each method with the cross, and plain and FAL without, in the default setting."""
    found = []
    for cross, methods in ((WITH, COMPARED), (WITHOUT, COMPARED[:2])):
        how = {"setting": cross, "epochs": epochs, "data": "kuairand"}
        how["cross"] = cross == WITH
        for name in methods:
            groups = CROSS if (name, cross) == ("plain", WITH) else ""
            value = METHODS[name].grid[0]
            found.append(production.at_best(name, value, group_by=groups, **how))
    return found


def run(profile: Profile, device: str = "auto", seeds=None) -> pd.DataFrame:
    """Trains on KuaiRand and returns rows of `runs.COLUMNS`.

    A seed draws first weights and the order of batches, not the log. The log has one size, so that
    only fewer runs are quicker: in the profile quick, plain and FAL with the cross.
    """
    todo = runs(profile.epochs)
    if profile.short_on_kuairand:
        todo = [replace(one, epochs=2, evaluate_at=(0.25, 1.0)) for one in todo[:2]]
    return run_all(over_seeds(seeds or profile.seeds, todo), profile, device)


def facts(record: Record) -> dict:
    """Returns the loss of one plain epoch with the cross against without it, in % by seed."""
    ends = (losses(record.rows, method="plain", setting=one, epoch=1.0) for one in (WITH, WITHOUT))
    return by_name(cross=by_seed(relative(*ends).dropna()))


def jumps(rows: pd.DataFrame, method: str, where: str) -> pd.DataFrame:
    """Returns a method's jumps in a setting in %: seed by objective."""
    return jump(rows, method=method, setting=where).unstack("objective")


def change(rows: pd.DataFrame, method: str, where: str, epoch: float, objective: str) -> pd.Series:
    """Returns an objective's logloss at a point against the run's end of epoch 1, in % by seed."""
    which = {"method": method, "setting": where, "objective": objective}
    return relative(*(losses(rows, epoch=point, **which) for point in (epoch, 1.0)))


def pairs_seen(window: Log, test: Log) -> tuple[float, float]:
    """Returns the % of test impressions with a pair of user and author that the window had.

    Also, of those whose row of the cross was trained on, the % with a row of other pairs alone.
    """
    n_authors = window.schema.cardinality["author"]
    pairs, test_pairs = (p.ids["user"] * n_authors + p.ids["author"] for p in (window, test))
    known, seen = (torch.isin(test_pairs, pairs), torch.isin(test.ids[CROSS], window.ids[CROSS]))
    stranger = int((seen & ~known).sum()) / int(seen.sum())
    return 100 * known.float().mean().item(), 100 * stranger


def jump_by_frequency(rows: pd.DataFrame) -> pd.Series:
    """Returns the plain jump by how often the cross's row was trained on (group).

    Of the tenths that `frequency_groups` makes, only these three have impressions: most rows were
    never trained on, so the edges between tenths are one lookup or two.
    """
    mine = pick(rows, "plain", WITH)
    groups = dict(zip(TRAINED_ON, sorted(set(mine["group"]) - {"all"}), strict=True))
    found = {name: jump(mine, group=group) for name, group in groups.items()}
    return pd.concat(found, names=["group"]).droplevel(["method", "setting"])


# Figures and tables -----------------------------------------------------------------------------

LABELS = {name: METHODS[name].label for name in COMPARED}
SHADES = ("#7A1E3A", "#B5538F", "#D9A0C0", "#C9D6DF", "#9FB4C3")  # the rarer, the darker
FIRST_DAY = np.datetime64("2022-04-25")  # day 0 of the packaged part
KINDS = {
    penalty.SMALL: ("#D55E00", "o"),
    penalty.LARGE: ("#0072B2", "D"),
    "not stated": ("#6B6B6B", "s"),
}
# The more steps an epoch has, the darker.
BATCHES = {1024: ("#7FB7D9", "o"), 512: ("#3E87B8", "s"), 256: ("#0B3C5D", "D")}


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


@style.shown("fig-twelve-problem")
def problem(rows: pd.DataFrame) -> tuple[Figure, dict]:
    """Draws the plain optimizer's test loss by objective."""
    fig, axes, jumps = style.rises(rows, height=3.6)
    style.legend_outside(fig, axes)
    return fig, jumps


@style.shown("fig-twelve-rows")
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


@style.shown("fig-twelve-collapse")
def collapse(rows: pd.DataFrame) -> Figure:
    """Draws click's loss with and without the cross."""
    base = losses(rows, method="plain", objective="click", epoch=1.0)
    points = relative(losses(rows, objective="click"), base).reset_index()
    points = points[points["epoch"] >= 1].assign(line=lambda of: of["method"].map(LABELS))
    looks = {label: style.line_style(label) for label in LABELS.values()}
    words = "click's logloss against\none plain epoch, %"
    return style.by_epoch(points, looks, words, "setting", 2.6)


def collapse_table(rows: pd.DataFrame) -> None:
    """Displays click's jumps with and without the cross, and the worth of the cross itself."""
    found, ends = {}, {}
    for cross in (WITH, WITHOUT):
        if cross not in set(rows["setting"]):
            continue
        plain, fal = (jumps(rows, name, cross)["click"] for name in ("plain", "fal"))
        later = [change(rows, name, cross, 2.0, "click") for name in ("plain", "fal")]
        found[cross] = {
            "jump": estimate(plain, "%", 1),
            "jump with FAL": estimate(fal, "%", 1),
            "left by FAL": estimate(100 * fal / plain, "%", 0),
            "end of epoch 2": estimate(later[0], "%", 1),
            "end of epoch 2 with FAL": estimate(later[1], "%", 1),
        }
        which = {"method": "plain", "setting": cross, "objective": "click", "epoch": 1.0}
        ends[cross] = losses(rows, **which)
    if WITHOUT in ends:
        worth = 100 * (ends[WITH] / ends[WITHOUT] - 1)
        found[WITH]["epoch 1, against no cross"] = estimate(worth, "%")
        found[WITHOUT]["epoch 1, against no cross"] = "—"
    tables.show(found, "click")


@style.shown("fig-twelve-frequency")
def by_frequency(rows: pd.DataFrame) -> Figure:
    """Draws the plain jump by the training frequency of the cross's row."""
    fig, axes = style.figure(height=3.4)
    style.dots(axes, jump_by_frequency(rows), "group", "objective")
    style.reference(axes, vertical=True)
    axes.set(xlabel="jump, %", ylabel="row of the cross\nwas trained on")
    style.legend_outside(fig, axes)
    return fig


@style.shown("fig-twelve-logs")
def in_public_logs(runs: pd.DataFrame) -> Figure:
    """Draws what epoch 2 does to the AUC, run by run, against the coefficient."""
    mine = runs[runs["data"] == "avazu_x4"].dropna(subset="change")
    places = [0.0, 1e-9, 1e-8, 1e-7, 1e-6, 1e-5]
    labels = ["0", "1e-9", "1e-8", "1e-7", "1e-6", "1e-5", "not\nstated"]
    fig, axes = style.figure(height=3.8)
    for kind, (color, marker) in KINDS.items():
        of = mine[mine["kind"] == kind].sort_values("change")
        x = [places.index(v) if v in places else len(places) for v in of["regularizer"].tolist()]
        spread = 0.5 * (np.arange(len(of)) / max(1, len(of) - 1) - 0.5)
        look = {"linestyle": "none", "markersize": 6, "alpha": 0.8, "label": kind}
        axes.plot(np.array(x) + spread, of["change"], marker, color=color, **look)
    style.reference(axes)
    axes.set_xticks(range(len(labels)), labels)
    axes.set(xlabel="coefficient of the L2 penalty on whole tables", ylabel="change of AUC, points")
    return fig


@style.shown("fig-twelve-row")
def one_row(gradient: float, lr: float, steps: int) -> Figure:
    """Draws what is left of one impression's update while its row waits."""
    lines = {
        "lazy Adam": ({"lazy": True}, "#000000", "-"),
        "dense Adam": ({}, "#6B6B6B", "-"),
        "λ = 1e-8": ({"l2": 1e-8}, "#9ECAE1", "-"),
        "λ = 1e-7": ({"l2": 1e-7}, "#4A98C9", "-"),
        "λ = 1e-6": ({"l2": 1e-6}, "#17649F", "-"),
        "λ = 1e-5": ({"l2": 1e-5}, "#08306B", "-"),
        "AdamW, 0.3": ({"weight_decay": 0.3}, "#D55E00", (0, (3, 1.5))),
        "AdamAR, 0.01": ({"alpha": 0.01, "lazy": True}, "#B5538F", (0, (1, 1))),
    }
    fig, axes = style.figure(height=3.8)
    for name, (options, color, dashes) in lines.items():
        path = np.abs(regime.wait(steps, gradient, lr, **options))
        axes.plot(path / path.max(), color=color, linestyle=dashes, label=name)
    axes.set(xlabel="steps since the impression", ylabel="what is left of its update")
    style.legend_outside(fig, axes, columns=3)
    return fig


@style.shown("fig-twelve-scan")
def scan(rows: pd.DataFrame) -> Figure:
    """Draws the jump, and the change over epoch 2, against the coefficient."""
    found = penalty.changes(rows)
    scanned = found.xs("whole_l2", level="remedy")
    values = sorted(scanned.index.unique("coefficient"))
    fig, grid = style.figure(2, height=2.6, sharex=True)
    titles = {"jump": "¼ into epoch 2", "gain": "at the end of epoch 2"}
    for axes, (column, title) in zip(grid, titles.items()):
        for batch, (color, marker) in BATCHES.items():
            if batch not in scanned.index.unique("batch"):
                continue
            mine = intervals(scanned[column].xs(batch, level="batch"), ["coefficient"])
            mine.index = [values.index(v) for v in mine.index]
            name = f"batch {batch:,}"
            style.band(axes, mine, "plain", color=color, marker=marker, linestyle="-", label=name)
        if "plain" in found.index.unique("remedy"):
            lazy = found[column].xs("plain", level="remedy").groupby("batch").mean()
            axes.plot([-0.6] * len(lazy), lazy, "k_", markersize=14)
        style.reference(axes)
        axes.set_title(title)
    names = ["0" if v == 0 else f"{v:.0e}".replace("e-0", "e-") for v in values]
    grid[1].set_xticks([-0.6, *range(len(values))], ["lazy", *names])
    grid[1].set_xlabel("coefficient λ of the penalty, dense Adam")
    fig.supylabel("loss against the end of epoch 1, %", fontsize=12)
    style.legend_outside(fig, grid[0])
    return fig

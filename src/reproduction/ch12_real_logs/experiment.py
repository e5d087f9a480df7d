"""The collapse and its remedies on KuaiRand, with and without the cross."""

from dataclasses import replace

import pandas as pd
import torch
from matplotlib.figure import Figure

from multiepoch_lab.data import Log
from reproduction import style
from reproduction.ch12_real_logs import penalty
from reproduction.dose_response import production
from reproduction.findings import by_name
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


# Figures ----------------------------------------------------------------------------------------

LABELS = {name: METHODS[name].label for name in COMPARED}
# The more steps an epoch has, the darker.
BATCHES = {1024: ("#7FB7D9", "o"), 512: ("#3E87B8", "s"), 256: ("#0B3C5D", "D")}


@style.shown("fig-twelve-problem")
def problem(rows: pd.DataFrame) -> tuple[Figure, dict]:
    """Draws the plain optimizer's test loss by objective."""
    fig, axes, jumps = style.rises(rows, height=3.6)
    style.legend_outside(fig, axes)
    return fig, jumps


@style.shown("fig-twelve-collapse")
def collapse(rows: pd.DataFrame) -> Figure:
    """Draws click's loss with and without the cross."""
    base = losses(rows, method="plain", objective="click", epoch=1.0)
    points = relative(losses(rows, objective="click"), base).reset_index()
    points = points[points["epoch"] >= 1].assign(line=lambda of: of["method"].map(LABELS))
    looks = {label: style.line_style(label) for label in LABELS.values()}
    words = "click's logloss against\none plain epoch, %"
    return style.by_epoch(points, looks, words, "setting", 2.6)


@style.shown("fig-twelve-frequency")
def by_frequency(rows: pd.DataFrame) -> Figure:
    """Draws the plain jump by the training frequency of the cross's row."""
    fig, axes = style.figure(height=3.4)
    style.dots(axes, jump_by_frequency(rows), "group", "objective")
    style.reference(axes, vertical=True)
    axes.set(xlabel="jump, %", ylabel="row of the cross\nwas trained on")
    style.legend_outside(fig, axes)
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

"""Chapters 5 and 6: the jump at the epoch boundary and its cause, at one rate under Adam."""

import textwrap
from functools import partial

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from multiepoch.model import ConversionModel
from multiepoch.optim import SparseOptimizer
from multiepoch.runner import Runner
from multiepoch.train import frequency_groups, train
from reproduction import style
from reproduction.findings import by_name, measures
from reproduction.measure import by_seed, intervals, jump, losses, pick, relative
from reproduction.records import Record
from reproduction.runs import Profile, Run, over_seeds, resolve_device, run_all, workers
from reproduction.runs.interventions import INTERVENTIONS, more_of_each_day
from reproduction.tuning import tuned

NAME = "second_epoch"
PLAIN = "several epochs"
FINE = (0.05, 0.1, 0.25, 0.5, 0.75, 1.0)


def runs(epochs: int, causes: bool = True) -> list[Run]:
    """Returns the runs of one seed, at the rates that are best for one epoch."""
    rates = tuned("plain", 1)
    base = dict(method="plain", seed=0, dense_lr=rates.dense_lr, embedding_lr=rates.embedding_lr)
    several = Run(**base, setting=PLAIN, epochs=epochs, evaluate_at=FINE)
    names = INTERVENTIONS if causes else ()
    return [several, *(Run(**base, setting=name, epochs=2, intervention=name) for name in names)]


def run(
    profile: Profile, device: str = "auto", seeds=None, store=None, log=print, causes: bool = True
) -> pd.DataFrame:
    """Returns rows of runs.COLUMNS, of plain training and, with `causes`, of each intervention."""
    todo = over_seeds(seeds or profile.seeds, runs(profile.epochs, causes))
    return run_all(todo, profile, device, store, log)


def plain_jump(rows: pd.DataFrame, setting: str = PLAIN) -> pd.Series:
    """Returns the boundary jump of plain training in %, by seed and objective."""
    return jump(rows, method="plain", setting=setting)


def quarters(rows: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Returns the rise over epoch 2's first quarter, and per quarter over the others, in %."""
    plain = pick(rows, "plain", PLAIN)
    later = relative(*(losses(plain, epoch=epoch) for epoch in (2.0, 1.25)))
    return by_seed(plain_jump(rows)), by_seed(later) / 3


def part_left(rows: pd.DataFrame) -> pd.Series:
    """Returns the % of the plain jump that is left, mean over objectives, by setting and seed."""
    left = {name: plain_jump(rows, setting=name) for name in INTERVENTIONS}
    part = 100 * pd.concat(left, names=["setting"]) / plain_jump(rows)
    return part.groupby(["setting", "seed"]).mean()


def directions(rows: pd.DataFrame) -> dict[str, bool]:
    """Returns the conditions that hold for every seed, of the runs that the rows have."""
    if set(rows["setting"]) == {PLAIN}:
        jumps = plain_jump(rows).groupby("objective")
        return {f"the test loss of {name} jumps": (jump > 0).all() for name, jump in jumps}
    left, found = part_left(rows).unstack("setting"), {}
    for name in ("labels drawn anew", "fresh impressions"):
        found[f"{name} leave less than half of the jump"] = (left[name] < 50).all()
    alone = left["dense layers frozen"] < left["tables frozen"]
    found["the tables alone do less harm than the dense layers alone"] = alone.all()
    rows_apart = left["infrequent rows frozen"] < left["frequent rows frozen"]
    found["freezing infrequent rows helps more than freezing frequent ones"] = rows_apart.all()
    return found


# What rows remember of the impressions they were trained on --------------------------------------
#
# After one epoch the model is evaluated on impressions it was trained on and on fresh ones of the
# same days, grouped by how often the window has the impression's row of the sparsest table.

COLUMN = "user_x_advertiser"
EDGES = (1, 2, 4, 8, 16, 32)  # of GROUPS, in times that a row was trained on
GROUPS = ("never", "once", "2 to 3", "4 to 7", "8 to 15", "16 to 31", "32 or more")
SEEN, FRESH, NEXT = "trained on", "fresh, same days", "test day"


def run_memory(profile: Profile, device: str = "auto", seeds=None, log=print) -> pd.DataFrame:
    """Returns the logloss by seed, epoch, split, group of the cross row, and objective."""
    device, seeds = resolve_device(device), list(seeds or profile.seeds)
    found = {}
    with Runner(partial(_one_seed, profile, device), workers(profile, device)) as runner:
        for seed, rows in runner.map(seeds):
            found[seed] = rows
            log(f"the rows' memory, seed {seed}: done")
    return pd.concat([found[seed] for seed in seeds], ignore_index=True)


def _one_seed(profile: Profile, device: str, seed: int) -> pd.DataFrame:
    rates = tuned("plain", 1)
    world, days = profile.world(seed), profile.train_days
    window, _, test = (one.to(device) for one in profile.split(world))
    sample = torch.arange(0, len(window), days, device=device)
    fresh = more_of_each_day(world, window, days, profile.impressions_per_day, len(sample) // days)
    logs = {SEEN: window[sample], FRESH: fresh, NEXT: test}
    torch.manual_seed(seed)
    model = ConversionModel(window.schema).to(device)
    optimizer = SparseOptimizer.from_model(model, rates.dense_lr, rates.embedding_lr)
    more = dict(epochs=2, batch_size=profile.batch_size, seed=seed, progress=None)
    by_count = partial(frequency_groups, column=COLUMN, edges=EDGES)
    more |= dict(evaluate=logs, evaluate_at=(0.25, 1.0), groups=by_count)
    rows = train(model, optimizer, window, **more)
    rows = rows[rows["metric"] == "logloss"].assign(seed=seed)
    names = {str(k): name for k, name in enumerate(GROUPS)} | {"all": "all"}
    return rows.assign(group=rows["group"].map(names))


def memory(rows: pd.DataFrame, objective: str = "click") -> tuple[pd.Series, pd.Series]:
    """Returns the loss on seen impressions against fresh ones, and the jump: % by group, seed."""
    losses = rows[rows["objective"] == objective].pivot_table(
        index=["group", "seed"], columns=["split", "epoch"], values="value"
    )
    known = losses[SEEN, 1.0] / losses[FRESH, 1.0]
    jumped = losses[NEXT, 1.25] / losses[NEXT, 1.0]
    return 100 * (known - 1).dropna(), 100 * (jumped - 1).dropna()


def facts(record: Record) -> dict:
    """Returns the values that the findings speak of, by name."""
    first, later = quarters(record.rows)
    known = measures(record.evidence)
    return known | by_name(first=first, later=later)


# Figures ----------------------------------------------------------------------------------------


@style.shown("fig-within")
def within_epochs(rows: pd.DataFrame) -> Figure:
    """Draws test logloss over the epochs against that at the end of the first, by objective."""
    fig, axes, _ = style.rises(pick(rows, "plain", PLAIN), height=4.0)
    style.legend_outside(fig, axes)
    return fig


@style.shown("fig-jumps")
def jumps(rows: pd.DataFrame, reported: float) -> Figure:
    """Draws the boundary jump of each objective beside a reported number."""
    found = intervals(plain_jump(rows), ["objective"])
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
def left_by_intervention(rows: pd.DataFrame) -> Figure:
    """Draws the part of the jump that each intervention leaves, mean over objectives."""
    found = intervals(part_left(rows), ["setting"]).sort_values("mean", ascending=False)
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
def seen_and_fresh(rows: pd.DataFrame) -> Figure:
    """Draws click's loss on seen against fresh impressions, and the jump, by row count."""
    fig, grid = style.figure(2, height=2.6, sharex=True)
    titles = ("memory after one epoch", "the jump on the test day")
    labels = ("logloss, seen\nagainst fresh, %", "boundary jump, %")
    places = {group: k for k, group in enumerate(GROUPS)}
    for axes, values, title, label in zip(grid, memory(rows), titles, labels):
        points = values.rename("value").reset_index()
        points = points.assign(place=points["group"].map(places)).dropna()
        style.line(axes, points, "place", "click", marker="o", markersize=6)
        style.reference(axes)
        axes.set(title=title, ylabel=label)
    names = [group.replace(" or more", "+").replace(" to ", "–") for group in GROUPS]
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

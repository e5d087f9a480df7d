"""Chapters 2 and 6: the jump at the epoch boundary, and what rows remember, at one rate."""

from functools import partial

import pandas as pd
import torch
from matplotlib.figure import Figure

from multiepoch.optim import SparseOptimizer
from multiepoch_lab.model import ConversionModel
from multiepoch_lab.runner import Runner
from multiepoch_lab.train import frequency_groups, train
from reproduction import style
from reproduction.dose_response import production
from reproduction.findings import by_name
from reproduction.measure import by_seed, intervals, jump, losses, relative
from reproduction.records import Record
from reproduction.runs import Profile, over_seeds, resolve_device, run_all, workers
from reproduction.runs.interventions import more_of_each_day

NAME = "ch05_second_epoch"
FINE = (0.05, 0.1, 0.25, 0.5, 0.75, 1.0)


def run(profile: Profile, device: str = "auto", seeds=None) -> pd.DataFrame:
    """Trains plainly for the profile's epochs and returns rows of runs.COLUMNS."""
    todo = [production.at_best(epochs=profile.epochs, evaluate_at=FINE)]
    return run_all(over_seeds(seeds or profile.seeds, todo), profile, device)


def quarters(rows: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Returns the rise over epoch 2's first quarter, and per quarter over the others, in %."""
    later = relative(*(losses(rows, None, epoch=epoch) for epoch in (2.0, 1.25)))
    return by_seed(jump(rows, metric=None)), by_seed(later) / 3


# What rows remember of the impressions they were trained on --------------------------------------
#
# After one epoch the model is evaluated on impressions it was trained on and on fresh ones of the
# same days, grouped by how often the window has the impression's row of the sparsest table.

COLUMN = "user_x_advertiser"
EDGES = (1, 2, 4, 8, 16, 32)  # of GROUPS, in times that a row was trained on
GROUPS = ("never", "once", "2 to 3", "4 to 7", "8 to 15", "16 to 31", "32 or more")
SEEN, FRESH, NEXT = "trained on", "fresh, same days", "test day"


def run_memory(profile: Profile, device: str = "auto", seeds=None) -> pd.DataFrame:
    """Returns the logloss by seed, epoch, split, group of the cross row, and objective."""
    device, seeds = resolve_device(device), list(seeds or profile.seeds)
    with Runner(partial(_one_seed, profile, device), workers(profile, device)) as runner:
        found = dict(runner.map(seeds))
    return pd.concat([found[seed] for seed in seeds], ignore_index=True)


def _one_seed(profile: Profile, device: str, seed: int) -> pd.DataFrame:
    world, days = profile.world(seed), profile.train_days
    window, _, test = (one.to(device) for one in profile.split(world))
    sample = torch.arange(0, len(window), days, device=device)
    fresh = more_of_each_day(world, window, days, profile.impressions_per_day, len(sample) // days)
    logs = {SEEN: window[sample], FRESH: fresh, NEXT: test}
    torch.manual_seed(seed)
    model = ConversionModel(window.schema).to(device)
    rates = production.DENSE, production.BEST
    optimizer = SparseOptimizer.from_model(model, *rates, rule="rowwise_adagrad")
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
    return by_name(first=first, later=later, jump=jump(record.rows, metric=None, method="plain"))


# Figures ----------------------------------------------------------------------------------------


@style.shown("fig-within")
def within_epochs(rows: pd.DataFrame) -> Figure:
    """Draws test logloss over the epochs against that at the end of the first, by objective."""
    fig, axes, _ = style.rises(rows, height=4.0)
    style.legend_outside(fig, axes)
    return fig


@style.shown("fig-jumps")
def jumps(rows: pd.DataFrame, reported: float) -> Figure:
    """Draws the boundary jump of each objective beside a reported number."""
    found = intervals(jump(rows, metric=None), ["objective"])
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


@style.shown("fig-memory")
def seen_and_fresh(rows: pd.DataFrame) -> Figure:
    """Draws click's loss on seen against fresh impressions, and the jump, by row count."""
    fig, grid = style.figure(2, height=2.6, sharex=True)
    titles = ("memory after one epoch", "the jump on the test day")
    labels = ("logloss, seen\nagainst fresh, %", "boundary jump, %")
    places = {group: k for k, group in enumerate(GROUPS)}
    for axes, values, title, label in zip(grid, memory(rows), titles, labels):
        places_of = values.drop("all", level="group").rename(places, level="group")
        style.line(axes, places_of, "group", "click", marker="o", markersize=6)
        style.reference(axes)
        axes.set(title=title, ylabel=label)
    names = [group.replace(" or more", "+").replace(" to ", "–") for group in GROUPS]
    axes.set_xticks(range(len(names)), names)
    axes.set_xlabel("impressions on the same user × advertiser row")
    return fig


@style.shown("fig-toy")
def toy_leak(found: pd.DataFrame) -> Figure:
    """Draws the harm of trusting row statistics against impressions per row (the index), in %."""
    fig, axes = style.figure(height=3.4)
    own, earlier = found
    lines = {own: (own, "plain", "o"), earlier: (earlier, "tail rewind", "s")}
    style.columns(axes, found, lines)
    style.reference(axes)
    axes.set(xscale="log", xlabel="impressions per row")
    axes.set_ylabel("logloss on fresh impressions\nagainst the base rate, %")
    axes.legend()
    return fig

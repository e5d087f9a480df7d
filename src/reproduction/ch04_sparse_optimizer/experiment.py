"""Chapter 5: a learning rate of the tables' own, in one epoch of the default setting.

`rules` decides the chapter's claims. Its seeds are the record's, so that both have the same gain.
"""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from multiepoch_lab.data.ads_world import OBJECTIVES
from reproduction import style
from reproduction.ch04_sparse_optimizer import rules
from reproduction.findings import by_name
from reproduction.measure import EXPECTED, by_seed, curve, losses, pick, relative
from reproduction.records import Record
from reproduction.runs import Profile, Run, over_seeds, run_all
from reproduction.tuning import RULES

NAME = "two_rates"
SHARED = "one shared rate, tuned"
OWN = "tables' own rate, tuned"
WHOLE = "whole network at the tables' rate"
MULTIPLES = (1, 10, rules.REPORTED, 1000)  # of the dense rate, beside the best one


def multiple(times: float) -> str:
    """Returns the setting of the sweep with the tables at `times` the dense rate."""
    return f"{times:g}x"


def runs() -> list[Run]:
    """Returns the runs of one seed: the headline, and the sweep of the ratio."""
    best = rules.tuned(rules.PRODUCTION, "world")
    shared, own = ((one.dense_lr, one.embedding_lr) for one in best.values())
    rates = {SHARED: shared, OWN: own, WHOLE: own[1:] * 2}
    rates |= {multiple(m): (own[0], m * own[0]) for m in MULTIPLES}
    more = {"evaluate_at": rules.POINTS} | RULES[rules.PRODUCTION]
    return [Run("plain", 0, *of, setting=name, **more) for name, of in rates.items()]


def run(profile: Profile, device: str = "auto", seeds=None) -> pd.DataFrame:
    """Returns rows of runs.COLUMNS."""
    return run_all(over_seeds(seeds or profile.seeds, runs()), profile, device)


def against(rows: pd.DataFrame, ours: str, theirs: str) -> pd.Series:
    """Returns the expected loss after one epoch of one setting against another's in %."""
    which = {"metric": EXPECTED, "method": "plain", "epoch": 1.0}
    return relative(*(losses(rows, setting=name, **which) for name in (ours, theirs)))


def sweep(rows: pd.DataFrame) -> pd.Series:
    """Returns the loss in % of that at the dense rate, by the tables' multiple of it."""
    own = rules.tuned(rules.PRODUCTION, "world")["own"]
    best = {own.embedding_lr / own.dense_lr: OWN}
    names = dict(sorted(({m: multiple(m) for m in MULTIPLES} | best).items()))
    found = {times: against(rows, name, multiple(1)) for times, name in names.items()}
    return pd.concat(found, names=["times"])


def facts(record: Record) -> dict:
    """Returns the values that the findings speak of, by name."""
    rows = record.rows
    return by_name(
        times=sweep(rows).groupby(["times", "seed"]).mean(),
        gain=by_seed(against(rows, OWN, SHARED)),
        control=by_seed(against(rows, WHOLE, OWN)),
    )


@style.shown("fig-travel")
def row_travel(touched: np.ndarray, moved: np.ndarray, lr: float, spread: float) -> Figure:
    """Draws the distance rows moved in an epoch against the steps that touched them.

    Args:
        touched: Steps that touched each row, (rows,), each at least 1.
        moved: Root mean square over a row's weights, (rows,).
        lr: The rate. If a row's gradients are equal, step n of row-wise Adagrad is lr / sqrt(n).
        spread: Root mean square of the weights at the start.
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
    steps = np.arange(1, counts.max() + 1)
    look = {"color": style.REFERENCE, "linestyle": style.DASHED, "label": "equal gradients"}
    axes.plot(steps, lr * np.cumsum(steps**-0.5), **look)
    axes.axhline(spread, color="black", linewidth=1.2, label="random start")
    axes.set(xscale="log", yscale="log", xlabel="steps of the epoch that touched the row")
    axes.set_ylabel("distance moved")
    axes.legend(loc="lower right")
    return fig


@style.shown("fig-sweep")
def rate_sweep(rows: pd.DataFrame) -> Figure:
    """Draws the loss after one epoch against the tables' rate, in multiples of the dense rate."""
    fig, axes = style.figure(height=3.6)
    change = sweep(rows)
    style.objectives(axes, change.reset_index(), "times")
    style.reference(axes)
    axes.set(xscale="log", xlabel="tables' rate, in multiples of the dense rate")
    axes.set_ylabel("loss against 1×, %")
    times = change.index.unique("times")
    axes.set_xticks(times, [f"{m:,.0f}×" for m in times])
    axes.minorticks_off()
    style.legend_outside(fig, axes)
    return fig


@style.shown("fig-first-epoch")
def first_epoch(rows: pd.DataFrame) -> Figure:
    """Draws the loss over the epoch for the tuned shared rate and the tables' own rate."""
    fig, grid = style.figure(2, height=2.9, sharex=True)
    points = curve(rows, EXPECTED)
    unit, size = ("million", 1e6) if points["samples"].max() >= 1e6 else ("thousand", 1e3)
    points = points.assign(samples=points["samples"] / size)
    for axes, objective in zip(grid, OBJECTIVES[::2]):
        mine = points[(points["objective"] == objective) & (points["epoch"] >= 0.2)]
        shared, own = pick(mine, "plain", SHARED), pick(mine, "plain", OWN)
        style.line(axes, shared, "samples", "plain", "shared, tuned")
        style.line(axes, own, "samples", "sparse optimizer", "tables' own, tuned")
        axes.set(title=style.spelled(objective), ylabel="test loss")
    axes.set_xlabel(f"{unit} impressions trained on")
    grid[0].legend(loc="upper right", handlelength=2.2)
    return fig


@style.shown("fig-production")
def gains_by_rule(rows: pd.DataFrame) -> Figure:
    """Draws the change by the tables' own rate for each rule, a panel a source."""
    found = rules.gains(rows)
    fig, grid = style.figure(len(rules.DATA), height=2.7, sharex=True)
    for axes, name in zip(grid, rules.DATA.values()):
        style.dots(axes, found.xs(name, level="data"), "rule", "objective")
        style.reference(axes, vertical=True)
        axes.set_title(name)
        axes.legend(loc="best")
    grid[-1].set_xlabel("change of the loss by the tables' own rate, %")
    return fig

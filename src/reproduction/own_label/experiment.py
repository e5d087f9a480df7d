"""Rows with and without the own label, of C12's first reading; chapter 6 shows the record.

The record has rows that are sums, with the own label and without it, and two-fold tables; the code
that ran them is in the history, at the commit of the record. Its further rows, of the rewinds under
Adagrad and Adam, decided C13's first reading and have no reader any more.
"""

from __future__ import annotations

from dataclasses import asdict

import pandas as pd
from matplotlib.figure import Figure

from reproduction import measure, style
from reproduction.dose_response.experiment import mean_jump
from reproduction.findings import by_name
from reproduction.measure import EXPECTED, POINT, losses, over_objectives, relative
from reproduction.own_label import theory
from reproduction.records import Record
from reproduction.runs import Profile, Run, over_seeds, run_all
from reproduction.tuning import TUNING_DAYS, tuned

NAME = "own_label"
SUMS = ("in_sample", "leave_one_out")  # the methods of the rows that are sums


def rise(rows: pd.DataFrame, stratum: str, method: str) -> pd.Series:
    """Returns the loss at the end of epoch 2 in % of that at the end of epoch 1, by rate and seed.

    Mean over the objectives.
    """
    of = {"metric": None, "stratum": stratum, "method": method}
    return over_objectives(relative(*(losses(rows, epoch=epoch, **of) for epoch in (2.0, 1.0))))


def facts(record: Record) -> dict:
    """Returns the values that the findings speak of, by name."""
    rows, sums = record.rows, [(log, name) for log in ("AdsWorld", "KuaiRand") for name in SUMS]
    return by_name(
        jump={(log, name): mean_jump(rows, f"{log}, sums", name) for log, name in sums},
        rise={(log, name): rise(rows, f"{log}, sums", name) for log, name in sums},
    )


# Day after day -----------------------------------------------------------------------------------
#
# A production model is served while it trains. So each method is evaluated a quarter into its last
# epoch over a day, and at its end, on the next day, against one epoch at the end of the same day.
#
# Predicted before the run, mean over objectives and days 3 to 10: a quarter into the second epoch,
# tail rewind with blended serving to the day's start is below tail rewind and below restored MEDA,
# and within 0.3 % of one epoch or below it; at the end of the day it equals tail rewind, and both
# are below one epoch; one epoch over twice the data is below all of them.

BY_DAY = "blended_days"
DAY_SEEDS = tuple(range(20, 25))
DAYS = 10
FROM = 3  # the first day that counts
QUARTER, END = 0.25, 1.0  # of the last epoch over a day

# By setting: the method, its epochs a day, and the method whose tuned rates it takes. Blending
# leaves training as it is, so it takes the rates of tail rewind.
ARMS = {
    "one epoch": ("plain", 1, "plain"),
    "one epoch, twice the data": ("plain", 1, "plain"),
    "MEDA, restored": ("meda_restored", 2, "meda_restored"),
    "tail rewind": ("day_tail_rewind", 2, "day_tail_rewind"),
    "tail rewind, blended": ("day_tail_rewind_blend", 2, "day_tail_rewind"),
}
BASE, MORE_DATA, MEDA, TAIL, BLENDED = ARMS


def run_days(
    profile: Profile, device: str = "auto", seeds=None, store=None, log=print
) -> pd.DataFrame:
    """Trains every arm day after day and returns rows of `runs.COLUMNS`."""
    todo = [
        Run(
            method,
            0,
            **asdict(tuned(rates_of, epochs, days=TUNING_DAYS)),
            setting=setting,
            epochs=epochs,
            days=DAYS,
            day_evaluate_at=(QUARTER, END),
            times_data=2.0 if setting == MORE_DATA else 1.0,
        )
        for setting, (method, epochs, rates_of) in ARMS.items()
    ]
    rows = run_all(over_seeds(seeds or DAY_SEEDS, todo), profile, device, store, log)
    return rows[rows["metric"] == EXPECTED]


def gain(rows: pd.DataFrame, setting: str, at: float, base: str = BASE) -> pd.DataFrame:
    """Returns the loss in % of another setting's, mean over objectives: by day, a column a seed.

    Args:
        rows: Of `run_days`.
        setting: A key of ARMS.
        at: QUARTER or END, of the last epoch over a day.
        base: Another key of ARMS. One epoch is taken at its end, the others at the same point.
    """

    def of(name: str, point: float) -> pd.Series:
        loss = losses(rows, EXPECTED, by=POINT, setting=name)
        loss = loss[(loss.index.get_level_values("epoch") - point) % 1 == 0]
        return loss.rename(lambda epoch: epoch - point + 1, level="epoch").rename_axis(
            index={"epoch": "day"}
        )

    change = relative(of(setting, at), of(base, END if base == BASE else at))
    return over_objectives(change).unstack("seed").sort_index()


def later(rows: pd.DataFrame, setting: str, at: float, base: str = BASE) -> pd.Series:
    """Returns the mean of `gain` from day FROM on, by seed."""
    return gain(rows, setting, at, base).loc[FROM:].mean()


def facts_by_day(record: Record) -> dict:
    """Returns the values that the findings speak of, by name."""
    rows = record.rows
    return by_name(
        quarter={name: later(rows, name, QUARTER) for name in ARMS},
        end={name: later(rows, name, END) for name in ARMS},
        gained=later(rows, BLENDED, QUARTER, TAIL),
    )


# Figures ----------------------------------------------------------------------------------------

DAY_LOOKS = {
    MORE_DATA: {"color": "#5B7FA6", "linestyle": style.DASHED},
    MEDA: style.line_style("MEDA"),
    TAIL: style.line_style("tail rewind"),
    BLENDED: style.line_style("tail rewind") | {"linestyle": "-"},
}
CONTROLS = {
    "in_sample": "own label in\nthe rows",
    "leave_one_out": "own label\nleft out",
    "two_fold": "two-fold\ntables",
}


@style.shown("fig-six-trust")
def trust(variances: tuple[float, float]) -> tuple[Figure, dict]:
    """Draws where the head's weight on a row goes, against the impressions of the row."""
    sizes = [2, 4, 8, 16, 32, 64]
    found = {kind: [theory.trust(kind, n, *variances) for n in sizes] for kind in theory.READS}
    found["best for fresh impressions"] = [theory.best_trust(n, *variances) for n in sizes]
    lines = {
        "epoch 2": ("epoch 2: all n, the own one among them", "plain", "o"),
        "epoch 1": ("epoch 1: the earlier ones (ordered)", "MEDA", "s"),
        "leave one out": ("the n - 1 others", "tail rewind", "D"),
        "out of fold": ("the other fold", "FAL", "^"),
        "best for fresh impressions": ("best for fresh impressions", "AdamAR", "v"),
    }
    fig, axes = style.figure(height=4.0)
    style.columns(axes, pd.DataFrame(found, index=sizes), lines, markersize=5)
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, map(str, sizes))
    axes.set(xlabel="impressions per row, n", ylabel="weight of the head on the row")
    style.legend_outside(fig, axes, columns=1)
    return fig, {"best": found["best for fresh impressions"][1]}


@style.shown("fig-six-jumps")
def controls(rows: pd.DataFrame) -> Figure:
    """Draws the jump of the sums with and without the own label, and of two-fold tables."""
    fig, grid = style.figure(2, height=2.8)
    for axes, name in zip(grid, ("AdsWorld", "KuaiRand")):
        strata = f"{name}, sums", f"{name}, two-fold"
        found = pd.concat([measure.jump(rows, metric=None, stratum=one) for one in strata])
        at_highest_rate = found.groupby(["method", "objective", "seed"]).last()
        shown = {label: at_highest_rate[method] for method, label in CONTROLS.items()}
        style.dots(axes, pd.concat(shown, names=["method"]), "method", "objective")
        style.reference(axes, vertical=True)
        axes.set(title=name, xlabel="boundary jump, %")
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))  # each log has its objectives
    return fig


@style.shown("fig-nine-days")
def by_day(rows: pd.DataFrame) -> Figure:
    """Draws each arm against one epoch a day, a quarter into the last epoch and at its end."""
    fig, grid = style.figure(2, height=2.7, sharex=True)
    titles = {
        QUARTER: "a quarter into the last epoch over the day",
        END: "at the end of the day",
    }
    for axes, (at, title) in zip(grid, titles.items()):
        for setting, look in DAY_LOOKS.items():
            values = gain(rows, setting, at).stack().rename("value").reset_index()
            style.line(axes, values, "day", "plain", setting, **look)
        style.reference(axes, 0, BASE)
        style.percent_axis(axes)
        axes.set_title(title)
    axes.set_xlabel("days trained on")
    fig.supylabel("next-day loss against one epoch a day, %", fontsize=12)
    style.legend_outside(fig, grid[0], columns=2)
    return fig

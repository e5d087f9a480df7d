"""Figures of dose and response: effects against plain training's jump, or against the rate.

They read the record of `experiment`. findings.toml has their texts.
"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reproduction import style
from reproduction.dose_response import experiment, production
from reproduction.measure import intervals, ran
from reproduction.remedies.board import METHODS

# One colour and marker for each stratum, wherever it is shown.
STRATA = {
    "AdsWorld": ("#0072B2", "o"),
    "AdsWorld, row-wise Adagrad": ("#D55E00", "s"),
    "AdsWorld, no cross": ("#00835F", "^"),
    "KuaiRand": ("#4A0E4E", "D"),
}


@style.shown("fig-dose")
def valley_and_jump(rows: pd.DataFrame) -> tuple[Figure, dict]:
    """Draws plain training by the tables' rate: the loss of one epoch above, the jump below."""
    fig, (above, below) = style.figure(2, height=2.7, sharex=True)
    style.line(above, experiment.valley(rows, "AdsWorld"), "rate", "plain", marker="o")
    above.set_ylabel("loss of one epoch\nagainst the best, %")
    above.set_ylim(bottom=min(0, above.get_ylim()[0]))
    points = experiment.jumps(rows, "AdsWorld", method="plain").rename("value").reset_index()
    style.objectives(below, points, "rate")
    style.reference(below, 1.19, "the paper's, as reported")
    below.set(xscale="log", xlabel="learning rate of the tables", ylabel="boundary jump, %")
    style.percent_axis(below)
    below.set_ylim(bottom=min(0, points["value"].min()))
    below.legend(loc="lower right")
    dose = experiment.mean_dose(rows, "AdsWorld")
    return fig, {"low": dose.min(), "high": dose.max()}


@style.shown("fig-dose-left")
def share_left(rows: pd.DataFrame) -> Figure:
    """Draws the part of plain's jump that FAL leaves against the jump itself."""
    fig, axes = style.figure(height=4.4)
    for name in ran(rows, STRATA, "stratum"):
        dose = _by_rate(experiment.dose(rows, name))
        keep = dose["mean"] > 0.5  # a part of a jump near zero says nothing
        _points(axes, dose[keep], _by_rate(experiment.share_left(rows, name))[keep], name)
    style.reference(axes, 50)
    style.reference(axes, 0)
    low = axes.dataLim.x0  # of a dose near zero, the scale is linear
    axes.set_xscale("log" if low > 0.3 else "symlog", **({} if low > 0.3 else {"linthresh": 1}))
    ticks = [tick for tick in (0, 1, 3, 10, 30) if tick >= min(low, 1)]
    axes.set_xticks(ticks, [f"{tick}" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("plain training's jump at the same rate, %")
    axes.set_ylabel("part of the jump that FAL leaves, %")
    style.legend_outside(fig, axes, 2)
    return fig


@style.shown("fig-dose-epochs-{which}")
def by_epoch(rows: pd.DataFrame, which: str, stratum: str = "AdsWorld") -> tuple[Figure, dict]:
    """Draws each method's loss against plain's after one epoch, at the rate best for that."""
    fig, axes = style.figure(height=4.0)
    change = experiment.to_one_epoch(rows, stratum).xs(production.BEST, level="rate")
    for method in change.index.unique("method"):
        found = intervals(change.xs(method, level="method"), ["epoch"])
        style.band(axes, found[found.index >= 0.5], METHODS[method].label)
    style.boundaries(axes, change.index.unique("epoch").max())
    style.reference(axes)
    style.percent_axis(axes)
    dose = experiment.mean_dose(rows, stratum)[production.BEST]
    axes.set_title(f"tables at {production.BEST:.2g}: plain jumps by {dose:.1f} %")
    axes.set_xlabel("epochs over the training window")
    axes.set_ylabel("loss against plain after epoch 1, %")
    style.legend_outside(fig, axes)
    return fig, {"which": which, "stratum": stratum}


def _by_rate(values: pd.Series) -> pd.DataFrame:
    """Returns the mean and the interval over seeds for each rate."""
    return intervals(values, ["rate"]).sort_index()


def _points(axes: Axes, x: pd.DataFrame, y: pd.DataFrame, stratum: str) -> None:
    """Draws a stratum's points, joined by a line, with the intervals of both coordinates."""
    color, marker = STRATA[stratum]
    y = y.reindex(x.index)
    axes.plot(x["mean"], y["mean"], color=color, marker=marker, label=stratum, linewidth=1.2)
    if np.isfinite(y["low"]).all():
        up_down = [y["mean"] - y["low"], y["high"] - y["mean"]]
        left_right = [x["mean"] - x["low"], x["high"] - x["mean"]]
        look = {"fmt": "none", "ecolor": color, "alpha": 0.45}
        axes.errorbar(x["mean"], y["mean"], up_down, left_right, **look)

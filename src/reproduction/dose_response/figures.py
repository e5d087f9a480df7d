"""Figures of dose and response: effects against plain training's jump, or against the rate.

They read the record of `experiment`. findings.toml has their texts.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reproduction import style
from reproduction.dose_response import experiment
from reproduction.measure import intervals, ran
from reproduction.remedies.board import METHODS

# One colour and marker for each stratum, wherever it is shown.
STRATA = {
    "AdsWorld": ("#0072B2", "o"),
    "AdsWorld, row-wise Adagrad": ("#D55E00", "s"),
    "AdsWorld, no cross": ("#00835F", "^"),
    "KuaiRand": ("#4A0E4E", "D"),
    "KuaiRand, no cross": ("#B5538F", "v"),
    experiment.HIGH_DENSE: ("#7A5FB5", "P"),
    "AdsWorld, dense rate 3.2e-4": ("#8A7A2C", "X"),
    "AdsWorld, dense rate x 0.03 from epoch 2 on": ("#000000", "*"),
}
# Those compared by point of training.
DECIDING = ("AdsWorld", "AdsWorld, row-wise Adagrad", "KuaiRand", "KuaiRand, no cross")
POINTS = {1.25: "¼ into epoch 2", 2.0: "end of epoch 2", 3.0: "end of epoch 3"}


@style.shown("fig-dose-{which}")
def valley_and_jump(
    rows: pd.DataFrame, which: str, stratum: str = "AdsWorld"
) -> tuple[Figure, dict]:
    """Draws plain training by the tables' rate: the loss of one epoch above, the jump below."""
    fig, (above, below) = style.figure(2, height=2.7, sharex=True)
    style.line(above, experiment.valley(rows, stratum), "rate", "plain", marker="o")
    above.set_ylabel("loss of one epoch\nagainst the best, %")
    above.set_ylim(bottom=min(0, above.get_ylim()[0]))
    plain = experiment.jumps(rows, stratum, method="plain")
    points = plain.rename("value").reset_index()
    if set(points["objective"]) <= style.OBJECTIVES.keys():
        style.objectives(below, points, "rate")
    else:
        for name, dashes in zip(points["objective"].unique(), ("-", "--", ":")):
            mine, look = plain.xs(name, level="objective"), {"linestyle": dashes, "marker": "o"}
            style.line(below, mine, "rate", "plain", style.spelled(name), **look)
    style.reference(below, 1.19, "the paper's, as reported")
    below.set(xscale="log", xlabel="learning rate of the tables", ylabel="boundary jump, %")
    style.percent_axis(below)
    below.set_ylim(bottom=min(0, points["value"].min()))
    below.legend(loc="lower right")
    dose = experiment.mean_dose(rows, stratum)
    about = {"which": which, "setting": _setting(which), "stratum": stratum}
    return fig, about | {"low": dose.min(), "high": dose.max()}


@style.shown("fig-dose-left-{which}")
def share_left(rows: pd.DataFrame, which: str, strata: Sequence[str] = tuple(STRATA)):
    """Draws the part of plain's jump that FAL leaves against the jump itself."""
    fig, axes = style.figure(height=4.4)
    strata = ran(rows, strata, "stratum")
    for name in strata:
        dose = _by_rate(experiment.dose(rows, name))
        keep = dose["mean"] > 0.5  # a part of a jump near zero says nothing
        _points(axes, dose[keep], _by_rate(experiment.share_left(rows, name))[keep], name)
    style.reference(axes, 50)
    style.reference(axes, 0)
    _dose_axis(axes)
    axes.set_ylabel("part of the jump that FAL leaves, %")
    style.legend_outside(fig, axes, 2)
    return fig, {"which": which, "setting": _setting(which, strata)}


@style.shown("fig-dose-{method}-{other}-{which}")
def difference(
    rows: pd.DataFrame,
    which: str,
    strata: Sequence[str] = ("AdsWorld",),
    method: str = "fal",
    other: str = "meda",
) -> tuple[Figure, dict]:
    """Draws one method's loss against another's by plain's jump, a panel for each point."""
    fig, grid = style.figure(len(POINTS), height=2.3, sharex=True)
    strata = ran(rows, strata, "stratum")
    for axes, (epoch, title) in zip(grid, POINTS.items()):
        for name in strata:
            against = experiment.against(rows, name, method, other)
            if epoch in against:
                _points(axes, _by_rate(experiment.dose(rows, name)), _by_rate(against[epoch]), name)
        style.reference(axes)
        style.percent_axis(axes)
        axes.set_title(title)
    _dose_axis(grid[-1])
    names = METHODS[method].label, METHODS[other].label
    fig.supylabel(f"loss of {names[0]} against {names[1]}, %", fontsize=12)
    style.legend_outside(fig, grid[0], 2)
    about = {"ours": names[0], "theirs": names[1], "which": which}
    about["setting"] = _setting(which, strata)
    return fig, about | {"method": method.replace("_", "-"), "other": other.replace("_", "-")}


@style.shown("fig-dose-epochs-{which}")
def by_epoch(
    rows: pd.DataFrame, which: str, rates: Sequence[float], stratum: str = "AdsWorld"
) -> tuple[Figure, dict]:
    """Draws each method's loss against plain's after one epoch, a panel for each rate."""
    height = 2.5 if len(rates) > 1 else 4.0  # one panel bears the whole label
    fig, grid = style.figure(len(rates), height=height, sharex=True, squeeze=False)
    change, dose = experiment.to_one_epoch(rows, stratum), experiment.mean_dose(rows, stratum)
    for axes, rate in zip(grid[:, 0], rates):
        for method in change.index.unique("method"):
            mine = change.xs((rate, method), level=["rate", "method"])
            found = intervals(mine, ["epoch"])
            style.band(axes, found[found.index >= 0.5], METHODS[method].label)
        style.boundaries(axes, change.index.unique("epoch").max())
        style.reference(axes)
        style.percent_axis(axes)
        axes.set_title(f"tables at {rate:.2g}: plain jumps by {dose[rate]:.1f} %")
    grid[-1, 0].set_xlabel("epochs over the training window")
    fig.supylabel("loss against plain after epoch 1, %", fontsize=12)
    style.legend_outside(fig, grid[0, 0])
    return fig, {"which": which, "setting": _setting(which), "stratum": stratum}


def _setting(which: str, strata: Sequence[str] = ()) -> str:
    """Returns the setting of a figure as its caption names it."""
    if which.startswith("default"):
        return "in the default setting"
    others = any("Adagrad" in name for name in strata)
    return "with Adam on the tables" + ", if the legend names no other rule" * others


def _by_rate(values: pd.Series) -> pd.DataFrame:
    """Returns the mean and the interval over seeds for each rate."""
    return intervals(values, ["rate"]).sort_index()


def _points(axes: Axes, x: pd.DataFrame, y: pd.DataFrame, stratum: str) -> None:
    """Draws a stratum's points, joined by a line, with the intervals of both coordinates."""
    color, marker = STRATA[stratum]
    y = y.reindex(x.index)
    label = stratum.replace("AdsWorld, dense", "dense")
    axes.plot(x["mean"], y["mean"], color=color, marker=marker, label=label, linewidth=1.2)
    if np.isfinite(y["low"]).all():
        up_down = [y["mean"] - y["low"], y["high"] - y["mean"]]
        left_right = [x["mean"] - x["low"], x["high"] - x["mean"]]
        look = {"fmt": "none", "ecolor": color, "alpha": 0.45}
        axes.errorbar(x["mean"], y["mean"], up_down, left_right, **look)


def _dose_axis(axes: Axes) -> None:
    low = axes.dataLim.x0  # of a dose near zero, the scale is linear
    axes.set_xscale("log" if low > 0.3 else "symlog", **({} if low > 0.3 else {"linthresh": 1}))
    ticks = [tick for tick in (0, 1, 3, 10, 30) if tick >= min(low, 1)]
    axes.set_xticks(ticks, [f"{tick}" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("plain training's jump at the same rate, %")

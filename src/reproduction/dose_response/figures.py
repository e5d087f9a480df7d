"""Figures of dose and response: effects against plain training's jump, or against the rate."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reproduction import style
from reproduction.dose_response import experiment as dose_response
from reproduction.measure import intervals

# One marker and colour for each stratum, wherever it is shown.
STRATUM_STYLES = {
    "AdsWorld": ("#0072B2", "o"),
    "AdsWorld, row-wise Adagrad": ("#D55E00", "s"),
    "AdsWorld, no cross": ("#00835F", "^"),
    "KuaiRand": ("#4A0E4E", "D"),
    "KuaiRand, no cross": ("#B5538F", "v"),
    "AdsWorld, dense rate 3.2e-3": ("#7A5FB5", "P"),
    "AdsWorld, dense rate 3.2e-4": ("#8A7A2C", "X"),
    "AdsWorld, dense rate x 0.03 from epoch 2 on": ("#000000", "*"),
}


def _by_rate(values: pd.Series) -> pd.DataFrame:
    """Mean and interval over seeds for each rate."""
    return intervals(values.rename("value"), ["rate"]).sort_index()


def valley_and_jump(rows: pd.DataFrame, stratum: str = "AdsWorld") -> Figure:
    """Draws plain training against the tables' rate: one epoch's loss above, the jump below."""
    fig, (above, below) = style.figure(2, height=2.6, sharex=True)
    loss = _by_rate(dose_response.valley(rows, stratum))
    style.band(above, loss.index, loss["mean"], loss["low"], loss["high"], "plain", marker="o")
    above.set_ylabel("loss of one epoch\nagainst the best, %")
    above.set_ylim(bottom=min(0, above.get_ylim()[0]))
    plain = dose_response.jumps(rows, stratum).xs("plain", level="method")
    for objective in plain.index.unique("objective"):
        jump = _by_rate(plain.xs(objective, level="objective"))
        name = objective.replace("_", "-")
        style.band(
            below, jump.index, jump["mean"], jump["low"], jump["high"], objective, marker="o",
            label=name,
        )  # fmt: skip
    style.reference(below, 1.19, "the paper's jump, as reported")
    below.set(xscale="log", xlabel="learning rate of the tables", ylabel="boundary jump, %")
    below.set_yscale("symlog", linthresh=1)
    _percent_ticks(below, (0, 1, 3, 10, 30))
    below.legend(loc="upper left")
    return fig


def share_left(rows: pd.DataFrame, strata: Sequence[str], method: str = "fal") -> Figure:
    """Draws the share of plain's jump that a method leaves against the jump itself."""
    fig, axes = style.figure(height=4.2)
    for name in strata:
        x = _by_rate(dose_response.dose(rows, name))
        keep = x["mean"] > 0.5  # a share of a jump near zero says nothing
        y = _by_rate(dose_response.share_left(rows, name, method))[keep]
        _points(axes, x[keep], y, name)
    axes.axhline(100, color=style.REFERENCE, linewidth=1)
    axes.axhline(0, color=style.REFERENCE, linewidth=1)
    _dose_axis(axes)
    axes.set_ylabel("share of the jump left, %")
    _legend_below(fig)
    return fig


def difference(
    rows: pd.DataFrame,
    strata: Sequence[str],
    points: dict[float, str],
    method: str = "fal",
    other: str = "meda",
) -> Figure:
    """Draws one method's loss against another's by plain's jump, a panel for each point."""
    fig, grid = style.figure(len(points), height=2.4, sharex=True, squeeze=False)
    for axes, (epoch, title) in zip(grid[:, 0], points.items()):
        for name in strata:
            against = dose_response.against(rows, name, method, other)
            if epoch in against:
                x = _by_rate(dose_response.dose(rows, name))
                _points(axes, x, _by_rate(against[epoch]), name)
        axes.axhline(0, color=style.REFERENCE, linewidth=1)
        axes.set_title(title)
    _dose_axis(grid[-1, 0])
    labels = {"fal": "FAL", "meda": "MEDA", "tail_rewind": "tail rewind", "plain": "plain"}
    fig.supylabel(f"loss of {labels[method]} against {labels[other]}, %", fontsize=12)
    _legend_below(fig)
    return fig


def by_epoch(rows: pd.DataFrame, stratum: str, rates: Sequence[float]) -> Figure:
    """Draws each method's loss against plain's after one epoch, a panel for each rate."""
    fig, grid = style.figure(len(rates), height=2.5, sharex=True, squeeze=False)
    loss = dose_response.losses(rows, stratum)
    base = loss.xs("plain", level="method").xs(1.0, level="epoch")
    change = 100 * (loss / base.reindex(loss.droplevel(["method", "epoch"]).index).to_numpy() - 1)
    change = change.groupby(["rate", "method", "epoch", "seed"]).mean()
    dose = dose_response.dose(rows, stratum).groupby("rate").mean()
    names = {"fal": "FAL", "meda": "MEDA", "adamar": "AdamAR", "tail_rewind": "tail rewind"}
    for axes, rate in zip(grid[:, 0], rates):
        for method in change.index.unique("method"):
            mine = change.xs((rate, method), level=["rate", "method"])
            line = intervals(mine.rename("value"), ["epoch"]).sort_index()
            line = line[line.index >= 0.5]
            name = names.get(method, method)
            style.band(axes, line.index, line["mean"], line["low"], line["high"], name)
        for boundary in range(1, int(change.index.unique("epoch").max())):
            axes.axvline(boundary, color=style.REFERENCE, linewidth=0.8, zorder=0)
        axes.axhline(0, color=style.REFERENCE, linewidth=0.8)
        axes.set_title(f"tables at {rate:.2g}: plain jumps by {dose[rate]:.1f} %")
    grid[-1, 0].set_xlabel("epochs")
    fig.supylabel("loss against plain after epoch 1, %", fontsize=12)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False, fontsize=11)
    return fig


def _points(axes: Axes, x: pd.DataFrame, y: pd.DataFrame, stratum: str) -> None:
    """Draws a stratum's points, joined by a line, with the intervals of both coordinates."""
    color, marker = STRATUM_STYLES[stratum]
    y = y.reindex(x.index)
    axes.plot(x["mean"], y["mean"], color=color, marker=marker, label=stratum, linewidth=1.2)
    if np.isfinite(y["low"]).all():
        axes.errorbar(
            x["mean"], y["mean"], [y["mean"] - y["low"], y["high"] - y["mean"]],
            [x["mean"] - x["low"], x["high"] - x["mean"]], fmt="none", ecolor=color, alpha=0.45,
        )  # fmt: skip


def _dose_axis(axes: Axes) -> None:
    axes.set_xscale("symlog", linthresh=1)
    ticks = [0, 1, 3, 10, 30]
    axes.set_xticks(ticks, [f"{tick}" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("plain training's jump at the same rate, %")


def _percent_ticks(axes: Axes, ticks: Sequence[float]) -> None:
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()


def _legend_below(fig: Figure) -> None:
    handles, labels = fig.axes[0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside upper center", ncols=2, frameon=False, fontsize=10)

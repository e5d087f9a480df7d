"""Rows with and without the own label; chapter 6 shows the record.

The record has rows that are sums, with the own label and without it, and two-fold tables; the code
that ran them is in the history, at the commit of the record. Its further rows, of the rewinds under
Adagrad and Adam, have no reader.
"""

import pandas as pd
from matplotlib.figure import Figure

from reproduction import measure, style
from reproduction.dose_response.experiment import dose
from reproduction.findings import by_name
from reproduction.measure import losses, over_objectives, relative
from reproduction.own_label import theory
from reproduction.records import Record

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
        jump={(log, name): dose(rows, f"{log}, sums", method=name) for log, name in sums},
        rise={(log, name): rise(rows, f"{log}, sums", name) for log, name in sums},
    )


# Figures ----------------------------------------------------------------------------------------

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

"""Claim C13: served against trained rows; chapter 9 shows the record.

It compares what blended serving serves with what the rewinds train, at nine points of epochs 2 to
4. The record also has the rows of C12's earlier reading: rows that are sums, with the own label and
without it, and two-fold tables. Chapter 6 shows these; the code that ran them is in the history, at
the commit of the record.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from multiepoch.methods import ALL_METHODS
from reproduction import measure, style, tables
from reproduction.dose_response import experiment as dose_response
from reproduction.dose_response.experiment import mean_jump, stratum
from reproduction.findings import by_name, estimate
from reproduction.judge import evidence
from reproduction.measure import POINT, losses, over_objectives, relative
from reproduction.own_label import theory
from reproduction.records import Record

NAME = "own_label"
SEEDS = tuple(range(20, 28))  # no pilot has seen these

AT = (0.1, 0.25, 0.5, 1.0)
INSIDE = tuple(epoch + part for epoch in (1, 2, 3) for part in (0.25, 0.5))
TENTHS = (1.1, 2.1, 3.1)
ENDS = (2.0, 3.0, 4.0)
REWINDS = ("plain", "meda", "meda_blend", "tail_rewind", "tail_rewind_blend")
ADAGRAD_RATES = tuple(10**exponent for exponent in (-1.5, -1.0, -0.5))
ADAM_RATES = tuple(10**exponent for exponent in (-2.5, -2.0, -1.5))


SUMS = ("in_sample", "leave_one_out")  # the methods of the rows that are sums
_ADAM = {"rates": ADAM_RATES, "rule": "adam"}


def of(data: str, name: str = "", methods=REWINDS, rates=ADAGRAD_RATES, epochs=4, rule="adagrad"):
    """Returns the runs of a stratum, of "AdsWorld" or "KuaiRand", by its name."""
    source = {"AdsWorld": "world", "KuaiRand": "kuairand"}[data]
    more = {"data": source, "epochs": epochs, "rule": rule, "evaluate_at": AT}
    return {data + name: stratum(data + name, methods, rates, **more)}


# All but those under Adam decide the claim.
STRATA = {
    **of("AdsWorld"),
    **of("KuaiRand"),
    **of("AdsWorld", ", Adam", **_ADAM),
    **of("KuaiRand", ", Adam", **_ADAM),
}
# What the notebook of chapter 9 runs itself.
LIVE_RATE = ADAGRAD_RATES[1]  # of the tables, for the rewinds
LIVE_REWINDS = of(
    "AdsWorld", "", ("plain", "meda", "tail_rewind", "tail_rewind_blend"), (LIVE_RATE,), epochs=3
)
run = partial(dose_response.run, strata=STRATA, deciding=STRATA)


def rise(rows: pd.DataFrame, stratum: str, method: str) -> pd.Series:
    """Returns the loss at the end of epoch 2 in % of that at the end of epoch 1, by rate and seed.

    Mean over the objectives.
    """
    of = {"metric": None, "stratum": stratum, "method": method}
    return over_objectives(relative(*(losses(rows, epoch=epoch, **of) for epoch in (2.0, 1.0))))


def against_first(rows: pd.DataFrame, stratum: str, rate: float) -> pd.DataFrame:
    """Returns every method's loss in % of plain's at the end of epoch 1, at one rate of the tables.

    The columns are method, objective, seed, epoch and value.
    """
    here = rows[(rows["stratum"] == stratum) & np.isclose(rows["rate"], rate)]
    first = losses(here, None, by=POINT, method="plain", epoch=1.0)
    return relative(losses(here, None, by=["method", *POINT]), first).reset_index()


def at_point(rows: pd.DataFrame, stratum: str, rate: float, method: str, epoch: float) -> pd.Series:
    """Returns `against_first` of a method at a point, mean over objectives, by seed."""
    found = against_first(rows, stratum, rate)
    found = found[(found["method"] == method) & (found["epoch"] == epoch)]
    return found.groupby("seed")["value"].mean()


def best_rate(rows: pd.DataFrame, stratum: str, method: str, epoch: float) -> float:
    """Returns the tables' rate with the lowest loss at a point, objectives weighing the same."""
    loss = losses(rows, None, stratum=stratum, method=method, epoch=epoch)
    loss = loss / loss.groupby("objective").transform("mean")
    return loss.groupby("rate").mean().idxmin()


def against_one_epoch(
    rows: pd.DataFrame, stratum: str, method: str = "tail_rewind_blend"
) -> pd.DataFrame:
    """Returns a method's loss against one plain epoch's in %, each at its best rate.

    The method's rate is the best for the end of its last epoch. A row for each seed and objective,
    a column for each epoch.
    """
    last = rows.loc[rows["stratum"] == stratum, "epoch"].max()
    ours, base = (
        losses(rows, None, stratum=stratum, method=name).xs(
            best_rate(rows, stratum, name, epoch), level="rate"
        )
        for name, epoch in ((method, last), ("plain", 1.0))
    )
    return relative(ours, base.xs(1.0, level="epoch")).unstack("epoch")


def judge(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the evidence for C13, of the sources that the rows have."""
    there = set(rows["stratum"])
    return evidence(
        one for data in ("AdsWorld", "KuaiRand") if data in there for one in _c13(rows, data)
    )


def _c13(rows: pd.DataFrame, data: str) -> Iterator[tuple]:
    blend = "tail_rewind_blend"
    tail, meda, blended_meda = (
        measure.against(rows, mine, other, metric=None, stratum=data)
        for mine, other in ((blend, "tail_rewind"), (blend, "meda"), ("meda_blend", "meda"))
    )
    for rate in tail.index.unique("rate"):
        of_rate = [one.xs(rate, level="rate") for one in (tail, meda, blended_meda)]
        for epoch in INSIDE:
            point = f"{data}, {epoch:g} epochs, tables at {rate:.2g}"
            for name, values in zip(("tail_inside", "meda_inside", "blended_meda"), of_rate):
                yield "C13", name, point, values[epoch]
    plain = against_one_epoch(rows, data).groupby("seed").mean()
    for name, epochs in (("one_epoch", sorted((*INSIDE, *ENDS))), ("one_epoch_tenth", TENTHS)):
        for epoch in epochs:
            yield "C13", name, f"{data}, {epoch:g} epochs", plain[epoch]
    if data == "AdsWorld":
        yield "C13", "one_epoch_last", f"{data}, 4 epochs", plain[ENDS[-1]]


def facts(record: Record) -> dict:
    """Returns the values that the findings speak of, by name."""
    rows, logs = record.rows, ("AdsWorld", "KuaiRand")
    points, lower = {}, {}
    for log in logs:
        for rate in ADAGRAD_RATES:
            of = against_first(rows, log, rate).groupby(["epoch", "seed", "method"])["value"].mean()
            points[log, rate] = by_method = of.unstack("method")
            inside = by_method[by_method.index.isin((*TENTHS, *INSIDE), level="epoch")]
            for name in ("tail_rewind", "meda"):
                lower[log, rate, name] = inside[f"{name}_blend"] - inside[name]
    means = [of.groupby("epoch").mean() for of in lower.values()]
    return by_name(
        jump={(log, name): mean_jump(rows, f"{log}, sums", name) for log in logs for name in SUMS},
        rise={(log, name): rise(rows, f"{log}, sums", name) for log in logs for name in SUMS},
        point=points,
        lower=lower,
        least=-max(of.max() for of in means),
        most=-min(of.min() for of in means),
        one={log: against_one_epoch(rows, log).groupby("seed").mean() for log in logs},
    )


# Figures ----------------------------------------------------------------------------------------

# A blended remedy has the colour of the remedy, and a line without gaps.
LOOKS = {
    "MEDA": style.line_style("MEDA"),
    "MEDA, blended": style.line_style("MEDA") | {"linestyle": "-"},
    "tail rewind": style.line_style("tail rewind"),
    "tail rewind, blended": style.line_style("tail rewind") | {"linestyle": "-"},
}
LABELS = {name: ALL_METHODS[name].label for name in REWINDS[1:]}
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


@style.shown("fig-nine-served")
def served(rows: pd.DataFrame, rate: float = 0.1) -> Figure:
    """Draws what is trained and what is served, against one plain epoch."""
    points = against_first(rows, "AdsWorld", rate)
    points = points.assign(line=points["method"].map(LABELS)).dropna()
    points = points[points["epoch"] >= 1]
    points = points.sort_values("objective", key=lambda o: o.map(list(style.OBJECTIVES).index))
    return style.by_epoch(points, LOOKS, "loss against one plain epoch's, %")


def numbers(rows: pd.DataFrame, rate: float = 0.1) -> None:
    """Displays each method's loss at each point, mean over the objectives."""
    points = against_first(rows, "AdsWorld", rate)
    points = points[points["epoch"] > 1].assign(line=points["method"].map(LABELS)).dropna()
    means = points.groupby(["line", "epoch", "seed"])["value"].mean()
    found = {}
    for (line, epoch), values in means.groupby(["line", "epoch"]):
        found.setdefault(line, {})[f"{epoch:g}"] = estimate(values, "%")
    tables.show(found, "after epochs", "Loss against one plain epoch's, mean over the objectives:")

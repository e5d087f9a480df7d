"""The figures and tables of appendix A1."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from multiepoch_lab.stats import interval
from reproduction import style, tables
from reproduction.a1_ab_test import experiment
from reproduction.a1_ab_test.serving import ARMS, BLEND, NAIVE, ONE, QUARTERS, REWIND, TRUTH
from reproduction.findings import estimate
from reproduction.measure import ran

# By arm: the method whose style it has, and what tells it apart.
LOOKS = {
    ONE: {"color": "#5B7FA6", "marker": "s", "linestyle": "-"},
    NAIVE: style.line_style("plain") | {"color": "#7A7A7A", "marker": "v"},
    "two epochs": style.line_style("plain") | {"marker": "o"},
    "FAL": style.line_style("FAL") | {"marker": "^"},
    "MEDA": style.line_style("MEDA") | {"marker": "D"},
    REWIND: style.line_style("tail rewind") | {"marker": "P"},
    BLEND: style.line_style("tail rewind, blended") | {"marker": "X"},
}
OTHERS = tuple(ARMS)[1:]  # those compared with one epoch
METRICS = {
    "value": {"color": "#0B2F4A", "marker": "o"},
    "conversions": {"color": "#C0517B", "marker": "s"},
}


@style.shown("fig-a1-slate")
def slate(value: Sequence[float], predicted: Sequence[float]) -> tuple[Figure, dict]:
    """Draws what each ad of a request is worth, and what a model thinks that it is worth."""
    value, predicted = np.asarray(value), np.asarray(predicted)
    fig, axes = style.figure(height=3.4)
    at = np.arange(len(value))
    axes.vlines(at, value, predicted, color="#B9C6D2", linewidth=2)
    axes.plot(at, value, "o", color="#0B2F4A", label="true value", markersize=8)
    axes.plot(at, predicted, "s", color="#D55E00", label="predicted value", markersize=7)
    shown = int(predicted.argmax())
    place = {"xytext": (0, 10), "textcoords": "offset points", "ha": "center", "fontsize": 11}
    axes.annotate("shown", (shown, max(predicted[shown], value[shown])), **place)
    axes.set_xticks(at, at + 1)
    axes.set(xlabel="ad of the slate", ylabel="bid × probability of a checkout")
    axes.set_ylim(0, 1.2 * max(predicted.max(), value.max()))
    style.legend_outside(fig, axes)
    return fig, {"best": int(value.argmax()) + 1, "shown": shown + 1}


@style.shown("fig-a1-lift")
def lifts(rows: pd.DataFrame) -> Figure:
    """Draws the lift of value and of conversions over one epoch, by arm."""
    found = {
        (name, metric): experiment.lift(rows, name, metric)
        for name in ran(rows, OTHERS, "arm")
        for metric in METRICS
    }
    fig, axes = style.figure(height=4.2)
    style.dots(axes, pd.concat(found, names=["arm", "metric"]), "arm", "metric", METRICS)
    style.reference(axes, vertical=True)
    axes.set_xlabel("against one epoch, %")
    style.legend_outside(fig, axes)
    return fig


@style.shown("fig-a1-order")
def offline_online(rows: pd.DataFrame) -> tuple[Figure, dict]:
    """Draws each arm's value against its offline logloss, both relative to one epoch."""
    fig, axes = style.figure(height=4.2)
    for name in ran(rows, ARMS, "arm"):
        found = [experiment.lift(rows, name, m) for m in (experiment.OFFLINE, "value")]
        (x, *x_ends), (y, *y_ends) = map(interval, found)
        look = {k: v for k, v in LOOKS[name].items() if k != "linestyle"}
        axes.plot(x, y, linestyle="none", markersize=9, label=name, **look)
        if np.isfinite(x_ends + y_ends).all():
            axes.hlines(y, *x_ends, color=look["color"], linewidth=1.5)
            axes.vlines(x, *y_ends, color=look["color"], linewidth=1.5)
    style.reference(axes)
    style.reference(axes, vertical=True)
    axes.set(xlabel="offline logloss of the checkout, %", ylabel="value online, %")
    style.legend_outside(fig, axes, columns=2)
    return fig, {"order": f"{experiment.order(rows).mean():.2f}"}


@style.shown("fig-a1-quarters")
def quarters(rows: pd.DataFrame) -> Figure:
    """Draws value against one epoch by the quarter of the day in which a model serves."""
    fig, axes = style.figure(height=3.6)
    for name in ran(rows, OTHERS, "arm"):
        found = experiment.lift(rows, name, "value", "quarter").loc[0:].rename(lambda k: k + 1)
        style.line(axes, found.stack("seed"), "quarter", "plain", name, **LOOKS[name])
    style.reference(axes)
    done = ("½ epoch", "1 epoch", "1½ epochs", "2 epochs")
    axes.set_xticks(range(1, QUARTERS + 1), done)
    axes.set(xlabel="what the served model has done of today's training", ylabel="value, %")
    style.legend_outside(fig, axes, columns=2)
    return fig


def tests(rows: pd.DataFrame) -> None:
    """Displays what it takes to detect each arm's true lift."""
    spread, a_day = experiment.spread(rows).mean(), experiment.requests_a_day(rows)
    found = {}
    for name in ran(rows, OTHERS, "arm"):
        lift = experiment.lift(rows, name).mean()
        needed = experiment.requests_needed(lift / 100, spread)
        found[name] = {
            "true lift, %": style.signed(f"{lift:+.2f}"),
            "power here, mean over worlds, %": f"{experiment.chance(rows, name).mean():.0f}",
            "requests needed, millions": f"{needed / 1e6:,.1f}",
            "days here": f"{needed / a_day:,.0f}",
        }
    note = "What it takes to detect each true lift, in each of two groups that split requests:"
    tables.show(found, "arm", note)


def results(rows: pd.DataFrame) -> None:
    """Displays value, conversions, regret and the offline logloss by arm."""
    found = {}
    for name in (*ran(rows, ARMS, "arm"), TRUTH):
        lifts = {metric: experiment.lift(rows, name, metric) for metric in METRICS}
        found[name] = {f"{metric}, %": estimate(of, digits=1) for metric, of in lifts.items()}
        found[name]["regret, %"] = estimate(experiment.regret(rows, name), digits=1)
        if name != TRUTH:
            loss = experiment.lift(rows, name, experiment.OFFLINE)
            found[name]["offline logloss, %"] = estimate(loss)
    found[ONE] |= dict.fromkeys(("value, %", "conversions, %", "offline logloss, %"), "0")
    found[TRUTH] |= {"regret, %": "0", "offline logloss, %": ""}
    tables.show(found, "arm", "Against one epoch; regret against the ranking by truth:")

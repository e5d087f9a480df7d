"""Draws the figures and the table of chapter 2."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reproduction import style
from reproduction.ch02_model.experiment import final, gap_closed, objectives
from reproduction.findings import cell
from reproduction.measure import curve, pick, share_of_gap_closed


@style.shown("fig-room")
def room(optimum: pd.DataFrame) -> Figure:
    """Draws normalized entropy from the Bayes optimum to the best constant, by objective."""
    floor = optimum["bayes_logloss"] / optimum["constant_logloss"]
    fig, axes = style.figure(height=2.6)
    for k, (name, low) in enumerate(floor.items()):
        axes.barh(k, 1 - low, left=low, color=style.line_style(name)["color"], height=0.55)
        axes.text(low - 0.01, k, f"Bayes optimum {low:.2f}", ha="right", va="center")
    axes.set_yticks(range(len(floor)), map(style.spelled, floor.index))
    axes.invert_yaxis()
    axes.set(xlim=(0, 1.02), xlabel="normalized entropy (1 = best constant)")
    return fig


@style.shown("fig-one-epoch")
def gap(rows: pd.DataFrame) -> Figure:
    """Draws the share of the gap closed against impressions, without the first fifth."""
    points = share_of_gap_closed(pick(rows, "plain", "AdsWorld"))
    fig, axes = _later(points, "share of the gap closed, %")
    style.reference(axes)
    axes.set_ylim(-20, 1.4 * points[points["epoch"] >= 0.2]["value"].max())
    axes.legend(loc="lower right")
    return fig


@style.shown("fig-one-epoch-kuairand")
def entropy(rows: pd.DataFrame) -> Figure:
    """Draws normalized entropy on KuaiRand against impressions, without the first fifth."""
    points = curve(pick(rows, "plain", "KuaiRand"), "normalized_entropy")
    fig, axes = _later(points, "normalized entropy")
    style.reference(axes, 1.0, "best constant")
    axes.set_ylim(0.85, 1.2)
    axes.legend(loc="upper right")
    return fig


def _later(points: pd.DataFrame, ylabel: str) -> tuple[Figure, Axes]:
    """Draws all but the first fifth of the epoch, in which the model learns how rare a label is."""
    fig, axes = style.figure()
    points = points[points["epoch"] >= 0.2].assign(thousands=lambda p: p["samples"] / 1e3)
    style.objectives(axes, points, "thousands", marked=False)
    axes.set(xlabel="thousand impressions trained on", ylabel=ylabel)
    return fig, axes


def results(rows: pd.DataFrame, source: str) -> pd.DataFrame:
    """Returns logloss and AUC at the end of the epoch as text, a column per objective."""
    closed = gap_closed(rows) if source == "AdsWorld" else {}

    def result(name: str) -> dict[str, str]:
        model, constant = (final(rows, source, m, name) for m in ("logloss", "constant_logloss"))
        lines = {
            "logloss, best constant": cell(constant, digits=4),
            "logloss, model": cell(model, digits=4),
            "model against constant, %": cell(100 * (model / constant - 1), digits=1),
            "AUC, model": cell(final(rows, source, "auc", name), digits=3),
        }
        if name in closed:
            bayes = {m: final(rows, source, f"bayes_{m}", name) for m in ("logloss", "auc")}
            lines["logloss, Bayes optimum"] = cell(bayes["logloss"], digits=4)
            lines["AUC, Bayes optimum"] = cell(bayes["auc"], digits=3)
            lines["share of the gap closed, %"] = cell(closed[name], digits=1)
        return lines

    return pd.DataFrame({style.spelled(name): result(name) for name in objectives(rows, source)})

"""The figures of chapter 12. findings.toml has their texts."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from multiepoch import regime
from reproduction import style
from reproduction.ch12_when import experiment, logs, worth
from reproduction.measure import intervals

KINDS = {logs.SMALL: ("#D55E00", "o"), logs.LARGE: ("#0072B2", "D"), "not stated": ("#6B6B6B", "s")}
# The more steps an epoch has, the darker.
BATCHES = {1024: ("#7FB7D9", "o"), 512: ("#3E87B8", "s"), 256: ("#0B3C5D", "D")}


@style.shown("fig-twelve-logs")
def public_logs(runs: pd.DataFrame) -> Figure:
    """Draws what epoch 2 does to the AUC, run by run, against the coefficient."""
    mine = runs[runs["data"] == "avazu_x4"].dropna(subset="change")
    places = [0.0, 1e-9, 1e-8, 1e-7, 1e-6, 1e-5]
    labels = ["0", "1e-9", "1e-8", "1e-7", "1e-6", "1e-5", "not\nstated"]
    fig, axes = style.figure(height=3.8)
    for kind, (color, marker) in KINDS.items():
        of = mine[mine["kind"] == kind].sort_values("change")
        x = [places.index(v) if v in places else len(places) for v in of["regularizer"].tolist()]
        spread = 0.5 * (np.arange(len(of)) / max(1, len(of) - 1) - 0.5)
        look = {"linestyle": "none", "markersize": 6, "alpha": 0.8, "label": kind}
        axes.plot(np.array(x) + spread, of["change"], marker, color=color, **look)
    style.reference(axes)
    axes.set_xticks(range(len(labels)), labels)
    axes.set(xlabel="coefficient of the L2 penalty on whole tables", ylabel="change of AUC, points")
    return fig


@style.shown("fig-twelve-row")
def one_row(gradient: float, lr: float, steps: int) -> Figure:
    """Draws what is left of one impression's update while its row waits."""
    lines = {
        "lazy Adam": ({"lazy": True}, "#000000", "-"),
        "dense Adam": ({}, "#6B6B6B", "-"),
        "λ = 1e-8": ({"l2": 1e-8}, "#9ECAE1", "-"),
        "λ = 1e-7": ({"l2": 1e-7}, "#4A98C9", "-"),
        "λ = 1e-6": ({"l2": 1e-6}, "#17649F", "-"),
        "λ = 1e-5": ({"l2": 1e-5}, "#08306B", "-"),
        "AdamW, 0.3": ({"weight_decay": 0.3}, "#D55E00", (0, (3, 1.5))),
        "AdamAR, 0.01": ({"alpha": 0.01, "lazy": True}, "#B5538F", (0, (1, 1))),
    }
    fig, axes = style.figure(height=3.8)
    for name, (options, color, dashes) in lines.items():
        path = np.abs(regime.wait(steps, gradient, lr, **options))
        axes.plot(path / path.max(), color=color, linestyle=dashes, label=name)
    axes.set(xlabel="steps since the impression", ylabel="what is left of its update")
    style.legend_outside(fig, axes, columns=3)
    return fig


@style.shown("fig-twelve-scan")
def scan(rows: pd.DataFrame) -> Figure:
    """Draws the jump, and the change over epoch 2, against the coefficient."""
    found = experiment.changes(rows)
    penalty = found.xs("whole_l2", level="remedy")
    values = sorted(penalty.index.unique("coefficient"))
    fig, grid = style.figure(2, height=2.6, sharex=True)
    titles = {"jump": "¼ into epoch 2", "gain": "at the end of epoch 2"}
    for axes, (column, title) in zip(grid, titles.items()):
        for batch, (color, marker) in BATCHES.items():
            if batch not in penalty.index.unique("batch"):
                continue
            mine = intervals(
                penalty[column].xs(batch, level="batch").rename("value"), ["coefficient"]
            )
            mine.index = [values.index(v) for v in mine.index]
            name = f"batch {batch:,}"
            style.band(axes, mine, "plain", color=color, marker=marker, linestyle="-", label=name)
        if "plain" in found.index.unique("remedy"):
            lazy = found[column].xs("plain", level="remedy").groupby("batch").mean()
            axes.plot([-0.6] * len(lazy), lazy, "k_", markersize=14)
        style.reference(axes)
        axes.set_title(title)
    names = ["0" if v == 0 else f"{v:.0e}".replace("e-0", "e-") for v in values]
    grid[1].set_xticks([-0.6, *range(len(values))], ["lazy", *names])
    grid[1].set_xlabel("coefficient λ of the penalty, dense Adam")
    fig.supylabel("loss against the end of epoch 1, %", fontsize=12)
    style.legend_outside(fig, grid[0])
    return fig


@style.shown("fig-twelve-worth")
def priced(rows: pd.DataFrame) -> Figure:
    """Draws what the epochs after the first are worth: a panel for each of three windows."""
    found = worth.in_fresh_data(rows).xs(worth.MEAN, level="objective").unstack("epoch")
    found = found.sub(found[1.0], axis=0).stack().rename("value").reset_index()
    windows = worth.UNIQUE[::2]
    found = found[found["unique"].isin(windows)].sort_values("unique")
    found["line"] = found["remedy"].map(worth.LABELS)
    found["unique"] = found["unique"].map(lambda n: f"{n:,} unique impressions")
    label = "worth of the epochs after the first,\nin epochs of fresh data"
    looks = {worth.LABELS[name]: style.line_style(worth.LABELS[name]) for name in worth.METHODS}
    looks[worth.LABELS[worth.BLEND]] = style.line_style("tail rewind") | {"linestyle": "-"}
    return style.by_epoch(found, looks, label, "unique", 2.2)


@style.shown("fig-twelve-equal")
def equal_loss(rows: pd.DataFrame) -> Figure:
    """Draws lines of equal loss over unique data and epochs, interpolated between the runs."""
    found = worth.in_fresh_data(rows).xs(worth.MEAN, level="objective")
    fig, grid = style.figure(3, height=2.6, sharex=True, sharey=True)
    for axes, name in zip(grid, ("plain", *worth.METHODS[-2:])):
        of = found.xs(name, level="remedy").groupby(["unique", "epoch"]).mean().unstack()
        fresh = np.log2(of.mul(of.index, axis=0))  # of the same loss, in one epoch
        unique, epochs = np.meshgrid(np.log2(of.index), of.columns)
        levels = np.log2([n for n in worth.FRESH if n >= of.index[0]])
        lines = axes.contour(unique, epochs, fresh.T, levels, colors="#0B3C5D", linewidths=1.6)
        axes.clabel(lines, fmt=lambda x: f"{2**x:,.0f}", fontsize=9)
        axes.plot(unique, epochs, ".", color=style.REFERENCE, markersize=3)
        axes.set_title(worth.LABELS[name])
        axes.set(ylabel="epochs", yticks=worth.EPOCHS)
    axes.set_xticks(np.log2(of.index), [f"{n / 1000:,.4g}k" for n in of.index])
    axes.set_xlabel("unique impressions")
    return fig

"""Chapter 4: a learning rate of the tables' own, in one epoch of Adam. `rules` has its claims."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from reproduction import style
from reproduction.ch04_sparse_optimizer import rules
from reproduction.findings import by_name, measures
from reproduction.measure import by_seed, curve, intervals, losses, pick, relative
from reproduction.records import Record
from reproduction.runs import Profile, Run, over_seeds, run_all
from reproduction.tuning import tuned

NAME = "ch04_sparse_optimizer"
SHARED = "one shared rate, tuned"
OWN = "tables' own rate, tuned"
WHOLE = "whole network at the tables' rate"
MULTIPLES = (1, 3, 10, 30, 100)
POINTS = tuple(np.round(np.arange(0.1, 1.01, 0.1), 1).tolist())
# Of the tuning, by candidate.
CANDIDATES = {"shared, 1 epoch": "one shared rate", "plain, 1 epoch": "tables' own rate"}


def multiple(times: float) -> str:
    """Returns the setting of the sweep with the tables at `times` the dense rate."""
    return f"{times:g}x"


def runs() -> list[Run]:
    """Returns the runs of one seed: the headline, and the sweep of the ratio."""
    shared, own = tuned("plain", 1, shared=True), tuned("plain", 1)
    rates = {
        SHARED: (shared.dense_lr, shared.embedding_lr),
        OWN: (own.dense_lr, own.embedding_lr),
        WHOLE: (own.embedding_lr, own.embedding_lr),
    }
    rates |= {multiple(m): (own.dense_lr, m * own.dense_lr) for m in MULTIPLES}
    return [Run("plain", 0, *of, setting=name, evaluate_at=POINTS) for name, of in rates.items()]


def run(profile: Profile, device: str = "auto", seeds=None, store=None, log=print) -> pd.DataFrame:
    """Returns rows of runs.COLUMNS."""
    return run_all(over_seeds(seeds or profile.seeds, runs()), profile, device, store, log)


def against(rows: pd.DataFrame, ours: str, theirs: str) -> pd.Series:
    """Returns the logloss after one epoch of one setting against another's in %."""
    which = {"method": "plain", "epoch": 1.0}
    return relative(*(losses(rows, setting=name, **which) for name in (ours, theirs)))


def trials(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the extent of each tuning and its best rates, as text."""
    found = {}
    for name, label in CANDIDATES.items():
        mine = rows[rows["candidate"] == name]
        best = mine[mine["best"]].iloc[0]
        line = {"trials": str(len(mine))}
        for rate, column in (("tables' rate", "embedding_lr"), ("dense rate", "dense_lr")):
            line[f"{rate}, tried"] = f"{mine[column].min():.2g} to {mine[column].max():.2g}"
            line[f"{rate}, best"] = f"{best[column]:.2g}"
        found[label] = line
    return pd.DataFrame(found).T.rename_axis("rival")


def facts(record: Record) -> dict:
    """Returns the values that the findings speak of, by name."""
    base = multiple(1)
    times = {m: by_seed(against(record.rows, multiple(m), base)) for m in MULTIPLES[1:]}
    return measures(record.evidence) | by_name(times=times)


@style.shown("fig-travel")
def row_travel(touched: np.ndarray, moved: np.ndarray, lr: float) -> Figure:
    """Draws the distance rows moved in an epoch against the steps that touched them.

    Args:
        touched: Steps that touched each row, (rows,), each at least 1.
        moved: Root mean square over a row's weights, (rows,).
        lr: The rate; touched times lr is about as far as Adam can carry a weight.
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
    look = {"color": style.REFERENCE, "linestyle": style.DASHED, "label": "steps × rate"}
    axes.plot(counts, counts * lr, **look)
    axes.set(xscale="log", yscale="log", xlabel="steps of the epoch that touched the row")
    axes.set_ylabel("distance moved")
    axes.legend(loc="lower right")
    return fig


@style.shown("fig-sweep")
def rate_sweep(rows: pd.DataFrame) -> Figure:
    """Draws logloss after one epoch against the tables' rate, in multiples of the dense rate."""
    fig, axes = style.figure(height=3.6)
    base = multiple(1)
    found = {m: against(rows, multiple(m), base) for m in MULTIPLES}
    change = pd.concat(found, names=["times"]).rename("value").reset_index()
    style.objectives(axes, change, "times")
    style.reference(axes)
    axes.set(xscale="log", xlabel="tables' rate, in multiples of the dense rate")
    axes.set_ylabel("logloss against 1×, %")
    axes.set_xticks(MULTIPLES, [f"{m}×" for m in MULTIPLES])
    axes.minorticks_off()
    style.legend_outside(fig, axes)
    return fig


@style.shown("fig-first-epoch")
def first_epoch(rows: pd.DataFrame) -> Figure:
    """Draws test logloss over the epoch: shared rate, tables' own rate, whole network at it."""
    fig, grid = style.figure(2, height=2.9, sharex=True)
    points = curve(rows)
    unit, size = ("million", 1e6) if points["samples"].max() >= 1e6 else ("thousand", 1e3)
    points = points.assign(samples=points["samples"] / size)
    for axes, objective in zip(grid, ("click", "checkout")):
        shown = points[points["objective"] == objective]
        shared, own = pick(shown, "plain", SHARED), pick(shown, "plain", OWN)
        style.line(axes, shared, "samples", "plain", "shared, tuned")
        style.line(axes, own, "samples", "sparse optimizer", "tables' own, tuned")
        whole = intervals(pick(shown, "plain", WHOLE), ["samples"]).sort_index()["mean"]
        look = {"color": style.REFERENCE, "linestyle": (0, (1, 1)), "label": "whole network at it"}
        axes.plot(whole.index, whole, **look)
        mean = shared.groupby("epoch")["value"].mean()
        low, high = shown["value"].min(), mean[mean.index >= 0.2].iloc[0]
        axes.set_ylim(low - 0.1 * (high - low), high + 0.5 * (high - low))
        axes.set(title=style.spelled(objective), ylabel="test logloss")
    axes.set_xlabel(f"{unit} impressions trained on")
    grid[0].legend(loc="upper right", handlelength=2.2)
    return fig


@style.shown("fig-tuning")
def tuning_grid(trials: pd.DataFrame, candidate: str) -> Figure:
    """Draws each trial of a candidate over the two rates: the % its score exceeds the best."""
    mine = trials[trials["candidate"] == candidate]
    excess = 100 * (mine["score"] / mine["score"].min() - 1)
    dark = float(excess.quantile(0.8)) or 1.0  # beyond it all squares are equally dark
    places = mine["embedding_lr"], mine["dense_lr"]
    fig, axes = style.figure(height=4.0)
    axes.scatter(*places, c=excess.clip(upper=dark), cmap="cividis_r", s=620, marker="s")
    for x, y, value in zip(*places, excess):
        text, color = f"{value:.1f}", "white" if value > 0.55 * dark else "black"
        text = text if value < 99.5 else ">99"
        axes.annotate(text, (x, y), ha="center", va="center", fontsize=11, color=color)
    best = mine[mine["best"]]
    frame = {"mfc": "none", "mec": style.line_style("MEDA")["color"], "mew": 2.5, "ms": 27}
    axes.plot(best["embedding_lr"], best["dense_lr"], "s", **frame)
    axes.set(xscale="log", yscale="log", xlabel="tables' rate", ylabel="dense rate")
    axes.margins(0.14)
    axes.grid(visible=False)
    return fig


@style.shown("fig-warm-up")
def warm_up(rates: pd.DataFrame) -> Figure:
    """Draws the columns dense and tables, a rate by step each, and their ratio."""
    ratio = rates["tables"] / rates["dense"]
    fig, (above, below) = style.figure(2, height=2.3, sharex=True)
    above.plot(rates.index, rates["tables"], **style.line_style("sparse optimizer"), label="tables")
    above.plot(rates.index, rates["dense"], **style.line_style("plain"), label="dense layers")
    above.set(yscale="log", ylabel="rate")
    above.legend(loc="lower right")
    below.plot(rates.index, ratio, color=style.REFERENCE)
    below.set(ylabel="ratio", xlabel="step", ylim=(0, 1.4 * ratio.max()))
    return fig


@style.shown("fig-production")
def gains_by_rule(rows: pd.DataFrame) -> Figure:
    """Draws the change by the tables' own rate for each rule, a panel a source."""
    found = rules.gains(rows)
    fig, grid = style.figure(len(rules.DATA), height=2.7, sharex=True)
    for axes, name in zip(grid, rules.DATA.values()):
        style.dots(axes, found[name], "rule", "objective")
        style.reference(axes, vertical=True)
        axes.set_title(name)
        axes.legend(loc="best")
    grid[-1].set_xlabel("change of the loss by the tables' own rate, %")
    return fig

"""The figures of chapter 9, and of the own label in chapter 6."""

import pandas as pd
from matplotlib.figure import Figure

from reproduction import style, tables
from reproduction.findings import cell
from reproduction.measure import jump
from reproduction.own_label import experiment, theory

# A blended remedy has the colour of the remedy, and a line without gaps.
LOOKS = {
    "MEDA": style.line_style("MEDA"),
    "MEDA, blended": style.line_style("MEDA") | {"linestyle": "-"},
    "tail rewind": style.line_style("tail rewind"),
    "tail rewind, blended": style.line_style("tail rewind") | {"linestyle": "-"},
}
LABELS = {
    "meda": "MEDA",
    "meda_blend": "MEDA, blended",
    "tail_rewind": "tail rewind",
    "tail_rewind_blend": "tail rewind, blended",
}
DAY_LOOKS = {
    experiment.MORE_DATA: {"color": "#5B7FA6", "linestyle": style.DASHED},
    experiment.MEDA: style.line_style("MEDA"),
    experiment.TAIL: style.line_style("tail rewind"),
    experiment.BLENDED: style.line_style("tail rewind") | {"linestyle": "-"},
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
        found = pd.concat([jump(rows, metric=None, stratum=one) for one in strata])
        at_highest_rate = found.groupby(["method", "objective", "seed"]).last()
        shown = {label: at_highest_rate[method] for method, label in CONTROLS.items()}
        style.dots(axes, pd.concat(shown, names=["method"]), "method", "objective")
        style.reference(axes, vertical=True)
        axes.set(title=name, xlabel="boundary jump, %")
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))  # each log has its objectives
    return fig


@style.shown("fig-nine-served")
def served(rows: pd.DataFrame, stratum: str = "AdsWorld", rate: float = 0.1) -> Figure:
    """Draws what is trained and what is served, against one plain epoch."""
    points = experiment.against_first(rows, stratum, rate)
    points = points.assign(line=points["method"].map(LABELS)).dropna()
    points = points[points["epoch"] >= 1]
    points = points.sort_values("objective", key=lambda o: o.map(list(style.OBJECTIVES).index))
    return style.by_epoch(points, LOOKS, "loss against one plain epoch's, %")


def numbers(rows: pd.DataFrame, stratum: str = "AdsWorld", rate: float = 0.1) -> None:
    """Displays each method's loss at each point, mean over the objectives."""
    points = experiment.against_first(rows, stratum, rate)
    points = points[points["epoch"] > 1].assign(line=points["method"].map(LABELS)).dropna()
    means = points.groupby(["line", "epoch", "seed"])["value"].mean()
    found = {}
    for (line, epoch), values in means.groupby(["line", "epoch"]):
        found.setdefault(line, {})[f"{epoch:g}"] = cell(values, "%")
    tables.show(found, "after epochs", "Loss against one plain epoch's, mean over the objectives:")


@style.shown("fig-nine-days")
def by_day(rows: pd.DataFrame) -> Figure:
    """Draws each arm against one epoch a day, a quarter into the last epoch and at its end."""
    fig, grid = style.figure(2, height=2.7, sharex=True)
    titles = {
        experiment.QUARTER: "a quarter into the last epoch over the day",
        experiment.END: "at the end of the day",
    }
    for axes, (at, title) in zip(grid, titles.items()):
        for setting, look in DAY_LOOKS.items():
            values = experiment.gain(rows, setting, at).stack().rename("value").reset_index()
            style.line(axes, values, "day", "plain", setting, **look)
        style.reference(axes, 0, experiment.BASE)
        style.percent_axis(axes)
        axes.set_title(title)
    axes.set_xlabel("days trained on")
    fig.supylabel("next-day loss against one epoch a day, %", fontsize=12)
    style.legend_outside(fig, grid[0], columns=2)
    return fig

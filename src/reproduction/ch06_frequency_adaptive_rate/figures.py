"""The figures and the table of chapter 6."""

from __future__ import annotations

import pandas as pd
import torch
from matplotlib.figure import Figure

from multiepoch.data import Log
from multiepoch.methods import FAL_SCALES
from multiepoch.optim import FrequencyAdaptiveLR
from reproduction import style, tables
from reproduction.ch06_frequency_adaptive_rate import experiment
from reproduction.measure import at, jump, pick, relative

# FAL's scales are told apart like methods: a colour and a dash pattern each.
SCALES = {
    experiment.PLAIN: style.line_style("plain"),
    "log": style.line_style("FAL"),
    "linear": {"color": "#DD7711", "linestyle": (0, (3, 1.5))},
    "square root": {"color": "#886655", "linestyle": (0, (6, 1.5))},
    "threshold 20": {"color": "#7700EE", "linestyle": (0, (1, 1))},
    "threshold 100": {"color": "#AA1100", "linestyle": (0, (8, 1.5, 1, 1.5))},
}
REPORTED = 100 * 0.23 / 1.19  # % of the jump left, from the two jumps reported of the paper
DOT = {"": {"color": style.line_style("FAL")["color"], "marker": "o"}}


@style.shown(
    "fig-six-problem",
    alt="Test logloss against epochs for three objectives. Each falls until the end of the first "
    "epoch and rises steeply when the second begins.",
    caption="The plain optimizer. A quarter into the second epoch, test logloss is above that at "
    "the end of the first by {jumps}.",
)
def problem(rows: pd.DataFrame) -> tuple[Figure, dict]:
    """Draws the plain optimizer's test loss through the first two epochs."""
    fig, axes = style.figure(height=3.6)
    style.by_objective(axes, rows, last=2)
    axes.set_xlabel("epochs over the training window")
    axes.set_ylabel("test logloss against\nthe end of epoch 1, %")
    axes.legend()
    jumps = jump(rows).groupby("objective", sort=False).mean()
    said = ", ".join(f"{value:.1f} % ({style.spelled(name)})" for name, value in jumps.items())
    return fig, {"jumps": said}


@style.shown(
    "fig-six-scales",
    alt="Above, the scale of a row against its count: the logarithm is a straight line on the log "
    "axis, the square root and the count itself stay near zero until late, thresholds are steps. "
    "Below, the cumulative share of rows: most rows have small counts.",
    caption="Above: at ten lookups the logarithm leaves {log:.0f} % of the product table's rate, "
    "the count itself {linear:.1g} %. Below: {product:.0f} % of the products in the window and "
    "{user_x_advertiser:.0f} % of the user × advertiser rows have ten lookups or fewer. For them, "
    "linear is close to not training at all.",
)
def scales(window: Log) -> tuple[Figure, dict]:
    """Draws each scale over a row's count, and how many rows have how small a count."""
    shades = {"product": ("#000000", "-"), "user_x_advertiser": ("#B5538F", (0, (4, 1.5)))}
    counts = {name: torch.bincount(window.ids[name]).float() for name in shades}
    counts = {name: count[count > 0].sort().values for name, count in counts.items()}
    most = counts["product"].max()
    lookups = torch.logspace(0, float(most.log10()), 200).int().unique()  # whole numbers
    fig, (above, below) = style.figure(2, 1, height=3.0, sharex=True)
    for name, look in SCALES.items():
        if name in FAL_SCALES:
            scale = FrequencyAdaptiveLR(**FAL_SCALES[name]).factor(lookups, most, epoch=0)
            above.plot(lookups, scale, label=name, **look)
    above.set(xscale="log", ylabel="scale of the rate", title="The scale of a row")
    for name, (color, dashes) in shades.items():
        share = 100 * torch.arange(1, len(counts[name]) + 1) / len(counts[name])
        below.step(
            counts[name],
            share,
            where="post",
            label=name.replace("_x_", " × "),
            color=color,
            linestyle=dashes,
        )
    below.set(xlabel="lookups of the row in the window (log scale)", ylabel="rows at most there, %")
    below.set_title("Where the rows are")
    below.legend(loc="lower right")
    style.legend_outside(fig, above)
    rare = {name: 100 * (count <= 10).float().mean().item() for name, count in counts.items()}
    log = 100 * FrequencyAdaptiveLR().factor(torch.tensor([10]), most, 0).item()
    return fig, {"log": log, "linear": 1000 / most.item(), **rare}


def growing_scales(window: Log, epochs: int = 4) -> None:
    """Displays how the logarithm's scale of a row grows from epoch to epoch."""
    most = torch.bincount(window.ids["product"]).max()
    rows = {}
    for n in (1, 5, 50):
        scales = {}
        for k in range(1, epochs + 1):
            scale = FrequencyAdaptiveLR().factor(torch.tensor([n * k]), most * k, 0)
            scales[f"after epoch {k}"] = f"{scale.item():.3f}"
        rows[f"{n} an epoch"] = scales
    tables.show(rows, "lookups", "Scale of a product row under the logarithm:")


@style.shown(
    "fig-six-curves",
    alt="Test logloss against epochs, a panel for each objective. Without FAL the loss leaps at "
    "each epoch boundary; the scales with a lower rate for infrequent rows rise less.",
    caption="Test logloss of the plain optimizer and of FAL. At each grey line an epoch begins. "
    "Compare how far each curve rises after the first of them, and after the second.",
)
def curves(rows: pd.DataFrame) -> Figure:
    """Draws logloss against the plain optimizer's after one epoch, by scale."""
    base = at(pick(rows, "plain"), 1.0).droplevel(["method", "setting"])
    points = relative(rows, base).rename(columns={"setting": "line"})
    points = points[points["epoch"] >= 0.25]
    return style.by_epoch(points, SCALES, "logloss against no FAL's at the end of epoch 1, %")


@style.shown(
    "fig-six-left",
    alt="Two dot plots with intervals over seeds. Above, the part of the jump that each kind of "
    "FAL leaves. Below, the best logloss of each against that of the logarithm.",
    caption="Above, the part of the plain jump at the second epoch that FAL leaves. The dashed "
    "lines are the threshold set beforehand, and the part left by the jumps that notes of the "
    "paper report for its own data. Below, the lowest logloss that a run reaches at any point. "
    "Bars are 95 % intervals over seeds.",
)
def left_and_best(rows: pd.DataFrame) -> Figure:
    """Draws the part of the jump that each scale leaves, and its best logloss."""
    fig, (above, below) = style.figure(2, height=2.9)
    left = experiment.jump_left(rows)[list(FAL_SCALES)].unstack()
    best = experiment.best_against(rows, "log")[[experiment.PLAIN, *FAL_SCALES]].unstack()
    for axes, values, words in (
        (above, left, "jump left, % of the plain one"),
        (below, best, "best logloss against that of log, %"),
    ):
        values = pd.concat({"": values}, names=["kind"])
        style.dots(axes, values, "setting", "kind", DOT)
        axes.set_xlabel(words)
    for x, words in ((50, "threshold"), (REPORTED, "reported")):
        above.axvline(x, color=style.REFERENCE, linewidth=1.2, linestyle=(0, (2, 2)))
        above.annotate(
            words,
            (x, -0.55),
            xytext=(3, 0),
            textcoords="offset points",
            va="top",
            color=style.REFERENCE,
            fontsize=10,
        )
    style.zero(below, vertical=True)
    return fig


def numbers(rows: pd.DataFrame) -> None:
    """Displays what each scale leaves of the jump, and its logloss against the plain one."""
    left, best = experiment.jump_left(rows), experiment.best_against(rows, experiment.PLAIN)
    last = rows["epoch"].max()
    points = {"quarter of epoch 1": 0.25, "end of epoch 1": 1.0, f"end of epoch {last:g}": last}
    found = {}
    for name in FAL_SCALES:
        found[name] = {
            "jump left": tables.cell(left[name], "%", 0),
            "best": tables.cell(best[name], "%"),
        }
        for words, epoch in points.items():
            change = experiment.against_plain(rows, name, epoch)
            found[name][words] = tables.cell(change, "%")
    note = "Logloss against the plain optimizer, with 95 % intervals if there are several seeds."
    tables.show(found, "scale", note)

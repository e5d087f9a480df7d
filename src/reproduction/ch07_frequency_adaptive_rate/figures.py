"""The figures and the table of chapter 7."""

import pandas as pd
import torch
from matplotlib.figure import Figure

from multiepoch.data import Log
from multiepoch.methods import FAL_SCALES
from multiepoch.optim import FrequencyAdaptiveLR
from reproduction import style, tables
from reproduction.ch07_frequency_adaptive_rate import experiment
from reproduction.findings import cell
from reproduction.measure import losses, relative

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


@style.shown("fig-seven-problem")
def problem(rows: pd.DataFrame) -> tuple[Figure, dict]:
    """Draws the plain optimizer's test loss through the first two epochs."""
    fig, axes, jumps = style.rises(rows, height=3.6, last=2)
    axes.legend()
    return fig, jumps


@style.shown("fig-seven-scales")
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
        look = {"color": color, "linestyle": dashes, "label": style.spelled(name)}
        below.step(counts[name], share, where="post", **look)
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


@style.shown("fig-seven-curves")
def curves(rows: pd.DataFrame) -> Figure:
    """Draws logloss against the plain optimizer's after one epoch, by scale."""
    base = losses(rows, method="plain", setting=experiment.PLAIN, epoch=1.0)
    points = relative(losses(rows), base).reset_index().rename(columns={"setting": "line"})
    points = points[points["epoch"] >= 0.25]
    return style.by_epoch(points, SCALES, "logloss against no FAL's at the end of epoch 1, %")


@style.shown("fig-seven-left")
def left_and_best(rows: pd.DataFrame) -> Figure:
    """Draws the part of the jump that each scale leaves, and its best logloss."""
    fig, (above, below) = style.figure(2, height=2.9)
    scales = experiment.ran(rows)
    left = experiment.jump_left(rows)[scales].unstack()
    best = experiment.best_against(rows, "log")[[experiment.PLAIN, *scales]].unstack()
    for axes, values in ((above, left), (below, best)):
        values = pd.concat({"": values}, names=["kind"])
        style.dots(axes, values, "setting", "kind", DOT)
    above.set_xlabel("jump left, % of the plain one")
    below.set_xlabel("best logloss against that of log, %")
    look = {"va": "top", "color": style.REFERENCE, "fontsize": 11}
    for x, words in ((50, "threshold"), (REPORTED, "reported")):
        style.reference(above, x, vertical=True)
        above.annotate(words, (x, -0.55), xytext=(3, 0), textcoords="offset points", **look)
    style.reference(below, vertical=True)
    return fig


def numbers(rows: pd.DataFrame) -> None:
    """Displays what each scale leaves of the jump, and its logloss against the plain one."""
    left, best = experiment.jump_left(rows), experiment.best_against(rows, experiment.PLAIN)
    last = rows["epoch"].max()
    points = {"quarter of epoch 1": 0.25, "end of epoch 1": 1.0, f"end of epoch {last:g}": last}
    found = {}
    for name in experiment.ran(rows):
        found[name] = {"jump left": cell(left[name], "%", 0), "best": cell(best[name], "%")}
        for words, epoch in points.items():
            found[name][words] = cell(experiment.against_plain(rows, name, epoch), "%")
    note = "Logloss against the plain optimizer, with 95 % intervals if there are several seeds."
    tables.show(found, "scale", note)

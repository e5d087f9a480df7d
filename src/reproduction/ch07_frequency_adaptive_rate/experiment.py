"""Chapter 7: FAL's scales against the plain optimizer, in the default setting."""

from collections.abc import Sequence

import pandas as pd
import torch
from matplotlib.figure import Figure

from multiepoch.optim import FrequencyAdaptiveLR
from multiepoch_lab.data import Log
from multiepoch_lab.methods import FAL_SCALES
from reproduction import style
from reproduction.dose_response import production
from reproduction.measure import by_seed, jump, losses, pick, ran, relative
from reproduction.runs import Profile, Run, over_seeds, run_all

NAME = "fal_scales"
PLAIN = "no FAL"
LIVE = ("log", "linear", "square root", "threshold 20")  # the others only in long and gpu
# FAL's scales are told apart like methods: a colour and a dash pattern each.
SCALES = {
    PLAIN: style.line_style("plain"),
    "log": style.line_style("FAL"),
    "linear": {"color": "#DD7711", "linestyle": (0, (3, 1.5))},
    "square root": {"color": "#886655", "linestyle": (0, (6, 1.5))},
    "threshold 20": {"color": "#7700EE", "linestyle": (0, (1, 1))},
    "threshold 100": {"color": "#AA1100", "linestyle": (0, (8, 1.5, 1, 1.5))},
}
REPORTED = 100 * 0.23 / 1.19  # % of the jump left, from the two jumps reported of the paper
DOT = {"": {"color": style.line_style("FAL")["color"], "marker": "o"}}


def runs(epochs: int, scales: Sequence[str] = tuple(FAL_SCALES)) -> list[Run]:
    """Returns plain and the scales."""
    how = {"epochs": epochs, "evaluate_at": (0.1, 0.25, 0.5, 0.75, 1.0)}
    fal = [production.at_best("fal", name, setting=name, **how) for name in scales]
    return [production.at_best(setting=PLAIN, **how), *fal]


def run(profile: Profile, device: str = "auto", seeds=None) -> pd.DataFrame:
    """Trains the scales for up to three epochs and returns rows of `runs.COLUMNS`."""
    scales = tuple(FAL_SCALES) if profile.every_scale else LIVE
    todo = over_seeds(seeds or profile.seeds, runs(min(3, profile.epochs), scales))
    return run_all(todo, profile, device)


def jump_left(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns each scale's jump as % of the plain one, over objectives: seed by setting.

    The seeds share plain's mean jump as the denominator.
    """
    plain = by_seed(jump(pick(rows, "plain"), metric=None)).mean()
    left = jump(pick(rows, "fal"), metric=None).groupby(["setting", "seed"]).mean()
    return 100 * left.unstack("setting") / plain


def best_against(rows: pd.DataFrame, other: str) -> pd.DataFrame:
    """Returns each run's lowest loss against another setting's in %: seed by setting."""
    best = losses(rows, None).groupby(["setting", "seed", "objective"], sort=False).min()
    best = best.unstack("setting")
    return 100 * (best.div(best[other], axis=0) - 1).groupby("seed").mean()


def against_plain(rows: pd.DataFrame, scale: str, epoch: float) -> pd.Series:
    """Returns a scale's loss against the plain one at a point of training, in % by seed."""
    ours = losses(rows, None, method="fal", setting=scale, epoch=epoch)
    return by_seed(relative(ours, losses(rows, None, method="plain", setting=PLAIN, epoch=epoch)))


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


@style.shown("fig-seven-curves")
def curves(rows: pd.DataFrame) -> Figure:
    """Draws the loss against the plain optimizer's after one epoch, by scale."""
    base = losses(rows, None, method="plain", setting=PLAIN, epoch=1.0)
    points = relative(losses(rows, None), base).reset_index().rename(columns={"setting": "line"})
    points = points[points["epoch"] >= 0.25]
    return style.by_epoch(points, SCALES, "loss against no FAL's at the end of epoch 1, %")


@style.shown("fig-seven-left")
def left_and_best(rows: pd.DataFrame) -> Figure:
    """Draws the part of the jump that each scale leaves, and its best loss."""
    fig, (above, below) = style.figure(2, height=2.9)
    scales = ran(rows, FAL_SCALES)
    left = jump_left(rows)[scales].unstack()
    best = best_against(rows, "log")[[PLAIN, *scales]].unstack()
    for axes, values in ((above, left), (below, best)):
        values = pd.concat({"": values}, names=["kind"])
        style.dots(axes, values, "setting", "kind", DOT)
    above.set_xlabel("jump left, % of the plain one")
    below.set_xlabel("best loss against that of log, %")
    look = {"va": "top", "color": style.REFERENCE, "fontsize": 11}
    for x, words in ((50, "threshold"), (REPORTED, "reported")):
        style.reference(above, x, vertical=True)
        above.annotate(words, (x, -0.55), xytext=(3, 0), textcoords="offset points", **look)
    style.reference(below, vertical=True)
    return fig

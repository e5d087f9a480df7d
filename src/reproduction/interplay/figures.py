"""The figures of claim C18. findings.toml has their texts."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from multiepoch.stats import interval
from reproduction import style
from reproduction.interplay import experiment

NAMES = {"kuairand": "KuaiRand", "retailrocket": "RetailRocket", "tmall": "Tmall"}
LOOKS = {"kuairand": ("#D55E00", "o"), "retailrocket": ("#00835F", "s"), "tmall": ("#8822EE", "D")}


@style.shown("fig-interplay")
def worth(rows: pd.DataFrame) -> Figure:
    """Draws what four epochs gain against the share of interplay: a panel for each remedy."""
    share = experiment.share(rows)
    of_world, of_real = experiment.worlds(share).mean(), experiment.labels(share)
    remedies = {"tail_rewind": "tail rewind", "leave_one_out": "leave-one-out rows"}
    fig, grid = style.figure(2, height=3.2, sharex=True, sharey=True)
    for axes, (method, title) in zip(grid, remedies.items()):
        gain = experiment.gain(rows, method)
        world, real = experiment.worlds(gain), experiment.labels(gain)
        low, high = ends(world)
        errors = [world.mean() - low, high - world.mean()]
        color = {"color": "#000000", "markersize": 4, "capsize": 2}
        axes.errorbar(of_world, world.mean(), errors, fmt="-o", label="AdsWorld", **color)
        for taste, x in of_world.items():
            if taste in (experiment.TASTES[0], 1.5, experiment.TASTES[-1]):
                at = (x, world[taste].mean())
                axes.annotate(f"{taste:g}", at, (3, 5), textcoords="offset points", fontsize=11)
        for data, (shade, marker) in LOOKS.items():
            mine, x = real[data], of_real[data].mean()
            low, high = ends(mine)
            errors = [mine.mean() - low, high - mine.mean()]
            look = {"color": shade, "capsize": 2, "label": NAMES[data]}
            axes.errorbar(x, mine.mean(), errors, fmt=marker, **look)
            if "like" in mine:
                at = (x["like"], mine["like"].mean())
                axes.annotate("like", at, (-26, -4), textcoords="offset points", fontsize=11)
        style.reference(axes)
        axes.set_title(title)
    grid[1].set_xlabel("share of interplay: additive over full, one epoch, %")
    fig.supylabel("loss after four epochs against one, %", fontsize=12)
    style.legend_outside(fig, grid[0], columns=2)
    return fig


def ends(values: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Returns the ends of the 95 % interval over seeds, by column."""
    found = values.apply(lambda column: pd.Series(interval(column)[1:]))
    return found.loc[0], found.loc[1]

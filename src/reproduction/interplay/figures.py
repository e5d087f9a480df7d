"""The figures of claim C18. findings.toml has their texts."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reproduction import style
from reproduction.interplay import experiment
from reproduction.measure import intervals

LOOKS = {"kuairand": ("#D55E00", "o"), "retailrocket": ("#00835F", "s"), "tmall": ("#8822EE", "D")}


@style.shown("fig-interplay")
def worth(rows: pd.DataFrame) -> Figure:
    """Draws what four epochs gain against the share of interplay: a panel for each remedy."""
    share = experiment.share(rows)
    of_world, of_real = experiment.worlds(share).mean(), experiment.labels(share)
    fig, grid = style.figure(2, height=3.2, sharex=True, sharey=True)
    for axes, method in zip(grid, ("tail_rewind", "leave_one_out")):
        gain = experiment.gain(rows, method)
        world, real = experiment.worlds(gain), experiment.labels(gain)
        look = {"color": "#000000", "markersize": 4, "label": "AdsWorld"}
        _points(axes, of_world, world, fmt="-o", **look)
        for taste, x in of_world.items():
            if taste in (experiment.TASTES[0], experiment.DEFAULT, experiment.TASTES[-1]):
                at = (x, world[taste].mean())
                axes.annotate(f"{taste:g}", at, (3, 5), textcoords="offset points", fontsize=11)
        for data, (shade, marker) in LOOKS.items():
            mine, x = real[data], of_real[data].mean()
            _points(axes, x, mine, fmt=marker, color=shade, label=experiment.REAL[data])
            if "like" in mine:
                at = (x["like"], mine["like"].mean())
                axes.annotate("like", at, (-26, -4), textcoords="offset points", fontsize=11)
        style.reference(axes)
        axes.set_title(experiment.REPEATED[method])
    grid[1].set_xlabel("share of interplay: additive over full, one epoch, %")
    fig.supylabel("loss after four epochs against one, %", fontsize=12)
    style.legend_outside(fig, grid[0], columns=2)
    return fig


def _points(axes: Axes, x: pd.Series, values: pd.DataFrame, **look) -> None:
    """Draws the mean of each column of values, a row a seed, with its interval."""
    found = intervals(values.unstack().rename("value"), [values.columns.name])
    errors = [found["mean"] - found["low"], found["high"] - found["mean"]]
    axes.errorbar(x.loc[found.index], found["mean"], errors, capsize=2, **look)

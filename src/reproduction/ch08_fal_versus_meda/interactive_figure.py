"""The static picture of the interactive figure, which `tools.interactive_figure` builds."""

import numpy as np
import pandas as pd

from multiepoch.methods import METHODS
from reproduction import style
from reproduction.dose_response import experiment
from reproduction.findings import estimate
from reproduction.measure import EXPECTED, curve, intervals, jump
from reproduction.records import Record

# Shown first, and all that the static figure shows.
STRATUM, RATE, OBJECTIVE = "AdsWorld", experiment.RATES[1], "checkout"
SHOWN = ("plain", "fal", "meda", "tail_rewind")
CHAPTER = "fig-eight-interactive"


def shown_rows(record: Record) -> pd.DataFrame:
    """Returns the rows that the figure shows, with the tables' rate as their setting."""
    rows = record.rows[record.rows["stratum"] == STRATUM]
    rows = curve(rows, EXPECTED).sort_values("epoch", kind="stable")
    return rows.assign(setting=rows["rate"].map("{:.2g}".format))


def figure(record: Record):
    """Draws the static figure: the curves that are shown first."""
    points = shown_rows(record)
    points = points[(points["setting"] == f"{RATE:.2g}") & (points["objective"] == OBJECTIVE)]
    fig, axes = style.figure(height=3.4)
    ends = []
    for name in SHOWN:
        line = intervals(points[points["method"] == name], ["epoch"]).sort_index()
        style.band(axes, line, METHODS[name].label)
        ends += [end for end in line.loc[1.0:].to_numpy().flat if np.isfinite(end)]
    room = 0.06 * (max(ends) - min(ends))
    axes.set_ylim(min(ends) - room, max(ends) + room)  # cuts off the first steps at the top
    for boundary in range(1, int(points["epoch"].max())):
        axes.axvline(boundary, color=style.REFERENCE, linewidth=0.8, zorder=0)
    axes.set(xlabel="epochs over the training window", ylabel=f"expected logloss of {OBJECTIVE}")
    fig.legend(loc="outside upper center", ncols=4, frameon=False, fontsize=11)
    return fig


def words(record: Record) -> dict[str, str]:
    """Returns the alt text and the caption of the static figure, for `style.show`."""
    rows = shown_rows(record)
    rows = rows[(rows["setting"] == f"{RATE:.2g}") & (rows["objective"] == OBJECTIVE)]
    jumps = jump(rows, metric=EXPECTED).groupby(["method", "seed"]).first()
    found = ", ".join(f"{METHODS[name].label} {estimate(jumps[name], '%', 1)}" for name in SHOWN)
    last = rows["epoch"].max()
    ends = rows[rows["epoch"] == last].groupby("method")["value"].mean()
    ends = ", ".join(f"{METHODS[name].label} {ends[name]:.4f}" for name in SHOWN)
    dose = experiment.mean_dose(record.rows, STRATUM)[RATE]
    return {
        "alt": f"Expected logloss of {OBJECTIVE} over {last:g} epochs. Change a quarter into epoch "
        f"2 against the end of epoch 1: {found}. At the end of epoch {last:g}: {ends}.",
        "caption": f"Expected logloss on a later day over {last:g} epochs, mean and 95 % interval "
        f"over the seeds. Shown first: {OBJECTIVE}, with the tables' rate at {RATE:.2g}, where "
        f"plain training jumps by {dose:.1f} %, mean over objectives. Record: {record}.",
    }

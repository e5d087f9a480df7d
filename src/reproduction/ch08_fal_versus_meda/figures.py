"""The figures and tables of chapter 8."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from reproduction import style
from reproduction.dose_response import experiment as dose
from reproduction.dose_response import production
from reproduction.findings import estimate
from reproduction.measure import DRAWN, EXPECTED, curve, intervals, jump
from reproduction.records import Record
from reproduction.remedies.board import METHODS

# The interactive figure, whose static picture is here: what it shows first.
SOURCE, RATE, OBJECTIVE = "AdsWorld", production.BEST, dose.SPARSEST["AdsWorld"]
SHOWN = ("plain", "fal", "meda", "tail_rewind")
INTERACTIVE = "fig-eight-interactive"


@style.shown("fig-eight-leak")
def leak(found: pd.DataFrame) -> tuple[Figure, dict]:
    """Draws what `experiment.leak` measured."""
    lines = {
        "second_epoch": ("second epoch: all of the window", "plain", "o"),
        "first_epoch": ("first epoch: before this impression", "tail rewind", "s"),
        "new_day": ("a new day: all of the window", "MEDA", "D"),
    }
    fig, axes = style.figure(height=3.8)
    style.columns(axes, found, lines)
    style.reference(axes, 0.5, "chance")
    axes.set(xlabel="lookups of the row in the window", ylabel="AUC of the row's mean click")
    style.legend_outside(fig, axes, columns=1)
    first, last = found.iloc[0], found.iloc[-1]
    numbers = {"once": first["second_epoch"], "once_new": first["new_day"]}
    return fig, numbers | {"often": last["second_epoch"], "often_new": last["new_day"]}


def shown_rows(record: Record, source: str = SOURCE) -> pd.DataFrame:
    """Returns the losses that the figure shows, with the tables' rate as their setting."""
    rows = record.rows[record.rows["stratum"] == source]
    rows = curve(rows, EXPECTED if EXPECTED in set(rows["metric"]) else DRAWN)
    rows = rows.sort_values("epoch", kind="stable")
    return rows.assign(setting=rows["rate"].map("{:.2g}".format))


def interactive(record: Record):
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
    style.boundaries(axes, points["epoch"].max())
    axes.set(xlabel="epochs over the training window", ylabel=f"expected logloss of {OBJECTIVE}")
    fig.legend(loc="outside upper center", ncols=4, frameon=False, fontsize=11)
    return fig


def interactive_words(record: Record) -> dict[str, str]:
    """Returns the alt text and the caption of the static figure, for `style.show`."""
    rows = shown_rows(record)
    rows = rows[(rows["setting"] == f"{RATE:.2g}") & (rows["objective"] == OBJECTIVE)]
    jumps = jump(rows, metric=EXPECTED).groupby(["method", "seed"]).first()
    found = ", ".join(f"{METHODS[name].label} {estimate(jumps[name], '%', 1)}" for name in SHOWN)
    last = rows["epoch"].max()
    ends = rows[rows["epoch"] == last].groupby("method")["value"].mean()
    ends = ", ".join(f"{METHODS[name].label} {ends[name]:.4f}" for name in SHOWN)
    size = dose.mean_dose(record.rows, SOURCE)[RATE]
    return {
        "alt": f"Expected logloss of {OBJECTIVE} over {last:g} epochs. Change a quarter into epoch "
        f"2 against the end of epoch 1: {found}. At the end of epoch {last:g}: {ends}.",
        "caption": f"Expected logloss on a later day over {last:g} epochs, mean and 95 % interval "
        f"over the seeds. Shown first: {OBJECTIVE} in {SOURCE}, in the default setting, where "
        f"plain training's mean over objectives jumps by {size:.1f} %. Record: {record}.",
    }

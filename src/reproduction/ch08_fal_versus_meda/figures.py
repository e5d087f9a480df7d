"""The figures and tables of chapter 8."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from multiepoch.methods import METHODS
from reproduction import style, tables
from reproduction.ch08_fal_versus_meda import experiment
from reproduction.dose_response import experiment as dose
from reproduction.dose_response import production
from reproduction.dose_response import tuned as search
from reproduction.dose_response.figures import POINTS
from reproduction.findings import estimate
from reproduction.measure import DRAWN, EXPECTED, curve, intervals, jump, share_of_gap_closed
from reproduction.records import Record
from reproduction.tuning import chosen

LABELS = {name: method.label for name, method in METHODS.items()}
LOOKS = {label: style.line_style(label) for label in LABELS.values()}

# The interactive figure, whose static picture is here: what it shows first.
SOURCE, RATE, OBJECTIVE = "AdsWorld", production.BEST, "checkout"
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


@style.shown("fig-eight-curves")
def curves(rows: pd.DataFrame) -> Figure:
    """Draws the share of the gap closed by each tuned method."""
    points = share_of_gap_closed(rows[rows["setting"] == experiment.TUNED])
    points = points[points["epoch"] >= 1].assign(line=points["method"].map(LABELS))
    low = points[points["method"].isin(["meda", "tail_rewind"])]["value"].min()
    ylim = (min(0, low) - 5, 1.08 * points["value"].max())
    return style.by_epoch(points, LOOKS, "share of the gap closed, %", ylim=ylim)


@style.shown("fig-eight-against")
def against_meda(rows: pd.DataFrame) -> Figure:
    """Draws each tuned method against MEDA from the end of epoch 1."""
    fig, axes = style.figure(height=4.2)
    for name in [name for name in METHODS if name != "meda"]:
        change = experiment.against(rows, name, "meda").stack().rename("value").reset_index()
        style.line(axes, change[change["epoch"] >= 1], "epoch", LABELS[name])
    style.reference(axes, 0, "MEDA")
    style.percent_axis(axes)
    style.boundaries(axes, change["epoch"].max())
    axes.set(xlabel="epochs over the training window", ylabel="logloss against MEDA, %")
    style.legend_outside(fig, axes)
    return fig


def difference_table(rows: pd.DataFrame, method: str, others: Sequence[str]) -> None:
    """Displays a method's logloss against others' in %, by point of training."""
    changes = {f"against {LABELS[o]}": experiment.against(rows, method, o) for o in others}
    last = rows["epoch"].max()
    found = {
        words: {name: estimate(change[epoch]) for name, change in changes.items()}
        for epoch, words in experiment.POINTS.items()
        if epoch <= last
    }
    tables.show(found, f"{LABELS[method]}'s logloss, %")


def tuned_with_factor(rows: pd.DataFrame) -> None:
    """Displays the chosen rates and factor of each method, and its loss against MEDA's."""
    found = {}
    for method, candidate in search.TUNED.items():
        best, change = chosen(candidate), search.against(rows, method, "meda")
        known, value = METHODS[method].hyperparameter, best.hyperparameter
        named = f"{known} {value if isinstance(value, str) else f'{value:,g}'}" if known else "none"
        rates = {"dense": "dense_lr", "tables": "embedding_lr", "factor": "dense_factor"}
        found[METHODS[method].label] = (
            {word: f"{getattr(best, name):.2g}" for word, name in rates.items()}
            | {"hyperparameter": named, "trials": str(search.n_trials(method))}
            | {words: estimate(change[epoch], "%") for epoch, words in POINTS.items()}
        )
    note = "Rates, factor of the dense rate from epoch 2 on, and loss against MEDA's."
    tables.show(found, "method", note)


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
    for boundary in range(1, int(points["epoch"].max())):
        axes.axvline(boundary, color=style.REFERENCE, linewidth=0.8, zorder=0)
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

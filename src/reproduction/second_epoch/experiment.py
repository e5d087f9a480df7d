"""Chapters 2 and 6: the jump at the epoch boundary, at one rate."""

import pandas as pd
from matplotlib.figure import Figure

from reproduction import style
from reproduction.dose_response import production
from reproduction.findings import by_name
from reproduction.measure import by_seed, jump, losses, relative
from reproduction.records import Record
from reproduction.runs import Profile, over_seeds, run_all

NAME = "ch05_second_epoch"
FINE = (0.05, 0.1, 0.25, 0.5, 0.75, 1.0)


def run(profile: Profile, device: str = "auto", seeds=None) -> pd.DataFrame:
    """Trains plainly for the profile's epochs and returns rows of runs.COLUMNS."""
    todo = [production.at_best(epochs=profile.epochs, evaluate_at=FINE)]
    return run_all(over_seeds(seeds or profile.seeds, todo), profile, device)


def quarters(rows: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Returns the rise over epoch 2's first quarter, and per quarter over the others, in %."""
    later = relative(*(losses(rows, None, epoch=epoch) for epoch in (2.0, 1.25)))
    return by_seed(jump(rows, metric=None)), by_seed(later) / 3


def facts(record: Record) -> dict:
    """Returns the values that the findings speak of, by name."""
    first, later = quarters(record.rows)
    return by_name(first=first, later=later)


# Figures ----------------------------------------------------------------------------------------


@style.shown("fig-within")
def within_epochs(rows: pd.DataFrame) -> Figure:
    """Draws test logloss over the epochs against that at the end of the first, by objective."""
    fig, axes, _ = style.rises(rows, height=4.0)
    style.legend_outside(fig, axes)
    return fig


@style.shown("fig-toy")
def toy_leak(found: pd.DataFrame) -> Figure:
    """Draws the harm of trusting row statistics against impressions per row (the index), in %."""
    fig, axes = style.figure(height=3.4)
    own, earlier = found
    lines = {own: (own, "plain", "o"), earlier: (earlier, "tail rewind", "s")}
    style.columns(axes, found, lines)
    style.reference(axes)
    axes.set(xscale="log", xlabel="impressions per row")
    axes.set_ylabel("logloss on fresh impressions\nagainst the base rate, %")
    axes.legend()
    return fig

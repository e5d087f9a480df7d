"""Chapter 10: blended serving day after day, evaluated while the model trains, too.

A production model is served while it trains. So each method is evaluated a quarter into its last
epoch over a day, and at its end, on the next day, against one epoch at the end of the same day.

Predicted before the run, mean over objectives and days 3 to 10: a quarter into the second epoch,
tail rewind with blended serving to the day's start is below tail rewind and below restored MEDA,
and within 0.3 % of one epoch or below it; at the end of the day it equals tail rewind, and both are
below one epoch; one epoch over twice the data is below all of them.
"""

from __future__ import annotations

import pandas as pd

from reproduction.findings import by_name
from reproduction.measure import EXPECTED, POINT, losses, over_objectives, relative
from reproduction.records import Record
from reproduction.runs import Profile, Run, over_seeds, run_all
from reproduction.tuning import TUNING_DAYS, tuned

NAME = "blended_days"
SEEDS = tuple(range(20, 25))
DAYS = 10
FROM = 3  # the first day that counts
QUARTER, END = 0.25, 1.0  # of the last epoch over a day

# By setting: the method, its epochs a day, and the method whose tuned rates it takes. Blending
# leaves training as it is, so it takes the rates of tail rewind.
ARMS = {
    "one epoch": ("plain", 1, "plain"),
    "one epoch, twice the data": ("plain", 1, "plain"),
    "MEDA, restored": ("meda_restored", 2, "meda_restored"),
    "tail rewind": ("day_tail_rewind", 2, "day_tail_rewind"),
    "tail rewind, blended": ("day_tail_rewind_blend", 2, "day_tail_rewind"),
}
BASE, MORE_DATA, MEDA, TAIL, BLENDED = ARMS


def run(profile: Profile, device: str = "auto", seeds=None, store=None, log=print) -> pd.DataFrame:
    """Trains every arm day after day and returns rows of `runs.COLUMNS`."""
    todo = []
    for setting, (method, epochs, rates_of) in ARMS.items():
        rates = tuned(rates_of, epochs, days=TUNING_DAYS)
        todo.append(
            Run(
                method,
                0,
                rates.dense_lr,
                rates.embedding_lr,
                rates.hyperparameter,
                setting=setting,
                epochs=epochs,
                days=DAYS,
                day_evaluate_at=(QUARTER, END),
                times_data=2.0 if setting == MORE_DATA else 1.0,
            )
        )
    rows = run_all(over_seeds(seeds or SEEDS, todo), profile, device, store, log)
    return rows[rows["metric"] == EXPECTED]


def gain(rows: pd.DataFrame, setting: str, at: float, base: str = BASE) -> pd.DataFrame:
    """Returns the loss in % of another setting's, mean over objectives: by day, a column a seed.

    Args:
        rows: Of `run`.
        setting: A key of ARMS.
        at: QUARTER or END, of the last epoch over a day.
        base: Another key of ARMS. One epoch is taken at its end, the others at the same point.
    """

    def of(name: str, point: float) -> pd.Series:
        loss = losses(rows, EXPECTED, by=POINT, setting=name)
        loss = loss[(loss.index.get_level_values("epoch") - point) % 1 == 0]
        return loss.rename(lambda epoch: epoch - point + 1, level="epoch").rename_axis(
            index={"epoch": "day"}
        )

    change = relative(of(setting, at), of(base, END if base == BASE else at))
    return over_objectives(change).unstack("seed").sort_index()


def later(rows: pd.DataFrame, setting: str, at: float, base: str = BASE) -> pd.Series:
    """Returns the mean of `gain` from day FROM on, by seed."""
    return gain(rows, setting, at, base).loc[FROM:].mean()


def facts(record: Record) -> dict:
    """Returns the values that the findings speak of, by name."""
    rows = record.rows
    return by_name(
        quarter={name: later(rows, name, QUARTER) for name in ARMS},
        end={name: later(rows, name, END) for name in ARMS},
        gained=later(rows, BLENDED, QUARTER, TAIL),
    )

"""Tuned against tuned, the dense rate's factor included: claim C7 in chapter 8.

From epoch 2 on, that factor lowers the dense learning rate, so that a method may learn fast in the
first epoch and hold still in the later ones. All methods were tuned by one search, for the end of
epoch 3.
"""

from dataclasses import asdict

import pandas as pd

from reproduction import measure, records
from reproduction.findings import by_name
from reproduction.measure import EXPECTED
from reproduction.records import Record
from reproduction.runs import Profile, Run, over_seeds, run_all
from reproduction.tuning import DENSE_FACTORS, Candidate, chosen

NAME = "dense_factor"
SEEDS = tuple(range(20, 28))

EPOCHS = 3
TUNED = {
    method: Candidate(method, EPOCHS, factors=DENSE_FACTORS)
    for method in ("plain", "fal", "meda", "adamar", "tail_rewind")
}


def run(profile: Profile, device: str = "auto", seeds=None, store=None, log=print) -> pd.DataFrame:
    """Trains each method at what was chosen for its candidate; returns rows of runs.COLUMNS."""
    todo = [Run(m, 0, **asdict(chosen(one)), epochs=EPOCHS) for m, one in TUNED.items()]
    rows = run_all(over_seeds(seeds or SEEDS, todo), profile, device, store, log)
    return rows[rows["metric"].isin([EXPECTED, "logloss"])]


def n_trials(method: str) -> int:
    """Returns how many points the committed search of a method tried."""
    trials = records.read("tuning", "long").rows
    mine = trials[trials["candidate"] == TUNED[method].name]
    return len(
        mine[["dense_lr", "embedding_lr", "hyperparameter", "dense_factor"]].drop_duplicates()
    )


def against(rows: pd.DataFrame, method: str, other: str) -> pd.DataFrame:
    """Returns one method's loss against another's in %, mean over objectives, by seed and epoch."""
    return measure.against(rows.drop(columns="setting"), method, other, metric=EXPECTED)


def facts(record: Record) -> dict:
    """Returns the values that the findings speak of, by name."""
    rows, best = record.rows, chosen(TUNED["fal"])
    return by_name(
        fal=against(rows, "fal", "meda"),
        fal_plain=against(rows, "fal", "plain"),
        tail=against(rows, "tail_rewind", "meda"),
        held=best.dense_lr * best.dense_factor,
    )

"""Tuned against tuned, the dense rate's factor included: claim C7 in chapter 8, and chapter 9.

From epoch 2 on, that factor lowers the dense learning rate, so that a method may learn fast in the
first epoch and hold still in the later ones. All methods were tuned by one search, for the end of
epoch 3.

Blending, in chapter 9, leaves training as it is, and so the ends of epochs: the best trial of a
rewind is that of its blended form, too. Predicted before the run, mean over objectives: blended
tail rewind is below tuned tail rewind and below tuned MEDA at ¼ and ½ of epochs 2 and 3; it is
below tuned FAL at ¼ of epoch 2 and at the ends of both epochs.
"""

from dataclasses import asdict

import pandas as pd

from reproduction import measure, records
from reproduction.findings import by_name
from reproduction.measure import EXPECTED
from reproduction.records import Record
from reproduction.runs import Profile, Run, over_seeds, run_all
from reproduction.tuning import DENSE_FACTORS, Candidate, chosen

NAME, BLENDED_NAME = "dense_factor", "tuned_blend"
SEEDS = tuple(range(20, 28))

EPOCHS = 3
TUNED = {
    method: Candidate(method, EPOCHS, factors=DENSE_FACTORS)
    for method in ("plain", "fal", "meda", "adamar", "tail_rewind")
}
BLENDED = {"tail_rewind_blend": "tail_rewind", "meda_blend": "meda"}


def run(
    profile: Profile, device: str = "auto", seeds=None, store=None, log=print, methods=TUNED
) -> pd.DataFrame:
    """Trains each method at what was chosen for its candidate; returns rows of runs.COLUMNS."""
    todo = [Run(m, 0, **asdict(chosen(one)), epochs=EPOCHS) for m, one in methods.items()]
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


def run_blended(
    profile: Profile, device: str = "auto", seeds=None, store=None, log=print
) -> pd.DataFrame:
    """Trains the blended rewinds; returns their losses and those of chapter 8's long record."""
    methods = {name: TUNED[of] for name, of in BLENDED.items()}
    rows = run(profile, device, seeds, store, log, methods)
    kept = records.read(NAME, "long").rows
    both = pd.concat([rows, kept[kept["seed"].isin(rows["seed"])]])
    return both[both["metric"] == EXPECTED].reset_index(drop=True)


def facts_blended(record: Record) -> dict:
    """Returns the values that the findings speak of, by name."""
    over = ("tail_rewind", "meda", "fal")
    found = {name: against(record.rows, "tail_rewind_blend", name) for name in over}
    return by_name(over=found)

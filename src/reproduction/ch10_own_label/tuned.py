"""Chapter 10: blended serving of tuned rewinds, the dense rate's factor among what was tuned.

Chapter 7 tuned every method with the same search, at the end of epoch 3. Blending leaves training
as it is, and so the ends of epochs: the best trial of a rewind is that of its blended form, too.

Predicted before the run, mean over objectives: blended tail rewind is below tuned tail rewind and
below tuned MEDA at ¼ and ½ of epochs 2 and 3; it is below tuned FAL at ¼ of epoch 2 and at the ends
of both epochs.
"""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from reproduction import records
from reproduction.ch07_fal_versus_meda import dense_factor
from reproduction.ch07_fal_versus_meda.dense_factor import EPOCHS, EXPECTED, best_trials
from reproduction.findings import by_name
from reproduction.runs import Profile, Run, over_seeds, run_all

NAME = "tuned_blend"
SEEDS = dense_factor.SEEDS
BLENDED = {"tail_rewind_blend": "tail_rewind", "meda_blend": "meda"}


def run(profile: Profile, device: str = "auto", seeds=None, store=None, log=print) -> pd.DataFrame:
    """Trains the blended rewinds at the rewinds' best trials of the long record of chapter 7.

    Returns:
        Losses in runs.COLUMNS, those of the tuned methods of chapter 7 included.
    """
    record = records.read(dense_factor.NAME, "long")
    best, todo = best_trials(record.rows), []
    for method, of in BLENDED.items():
        trial = best.loc[of]
        rates = (float(trial[name]) for name in ("dense_lr", "embedding_lr"))
        tau = trial["hyperparameter"]
        todo.append(
            replace(
                Run(method, 0, *rates, None if pd.isna(tau) else float(tau), epochs=EPOCHS),
                dense_factor=float(trial["dense_factor"]),
            )
        )
    rows = run_all(over_seeds(seeds or SEEDS, todo), profile, device, store, log)
    rows, kept = (one[one["metric"] == EXPECTED] for one in (rows, record.rows))
    return pd.concat([rows, kept[kept["seed"].isin(rows["seed"])]], ignore_index=True)


def facts(record: records.Record) -> dict:
    """Returns the values that the findings speak of, by name."""
    over = ("tail_rewind", "meda", "fal")
    found = {name: dense_factor.against(record.rows, "tail_rewind_blend", name) for name in over}
    return by_name(over=found)

"""Chapter 10: blended serving of tuned rewinds, the dense rate's factor among what was tuned.

Chapter 7 tuned every method by the same search, for the end of epoch 3. Blending leaves training
as it is, and so the ends of epochs: the best trial of a rewind is that of its blended form, too.

Predicted before the run, mean over objectives: blended tail rewind is below tuned tail rewind and
below tuned MEDA at ¼ and ½ of epochs 2 and 3; it is below tuned FAL at ¼ of epoch 2 and at the ends
of both epochs.
"""

from __future__ import annotations

import pandas as pd

from reproduction import records
from reproduction.ch07_fal_versus_meda import dense_factor
from reproduction.findings import by_name
from reproduction.runs import Profile

NAME = "tuned_blend"
SEEDS = dense_factor.SEEDS
BLENDED = {"tail_rewind_blend": "tail_rewind", "meda_blend": "meda"}


def run(profile: Profile, device: str = "auto", seeds=None, store=None, log=print) -> pd.DataFrame:
    """Trains the blended rewinds; returns their losses and those of chapter 7's long record."""
    methods = {name: dense_factor.TUNED[of] for name, of in BLENDED.items()}
    rows = dense_factor.run(profile, device, seeds, store, log, methods)
    kept = records.read(dense_factor.NAME, "long").rows
    both = pd.concat([rows, kept[kept["seed"].isin(rows["seed"])]])
    return both[both["metric"] == dense_factor.EXPECTED].reset_index(drop=True)


def facts(record: records.Record) -> dict:
    """Returns the values that the findings speak of, by name."""
    over = ("tail_rewind", "meda", "fal")
    found = {name: dense_factor.against(record.rows, "tail_rewind_blend", name) for name in over}
    return by_name(over=found)

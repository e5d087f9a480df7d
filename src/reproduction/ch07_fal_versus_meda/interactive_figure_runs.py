"""The picture that can be touched: every method at two choices of rates, by row frequency.

It settles no claim. What it shows beside chapters 5 to 7 is the same measurement for all methods
alike, so that any two of them can be laid over each other.
"""

from __future__ import annotations

import pandas as pd

from multiepoch.methods import METHODS
from reproduction.runs import Profile, Run, over_seeds, run_all
from reproduction.tuning import tuned

CHAPTER = "picture"
NAME = "interactive_figure"
TUNED, ONE_EPOCH = "tuned for three epochs", "rates best for one epoch"
POINTS = (0.25, 0.5, 0.75, 1.0)


def runs(epochs: int) -> list[Run]:
    """Each method at its own best rates for three epochs, and at plain's best for one.

    At the rates for one epoch a method has its default hyperparameter: nothing was tuned for it there.
    """
    more = dict(epochs=epochs, evaluate_at=POINTS, group_by="product")
    one_epoch = tuned("plain", 1)
    found = []
    for name, method in METHODS.items():
        t = tuned(name, 3)
        found += [
            Run(name, 0, t.dense_lr, t.embedding_lr, t.hyperparameter, setting=TUNED, **more),
            Run(name, 0, one_epoch.dense_lr, one_epoch.embedding_lr, method.grid[0],
                setting=ONE_EPOCH, **more),
        ]  # fmt: skip
    return found


def run(profile: Profile, device: str = "auto", seeds=None, store=None, log=print) -> pd.DataFrame:
    """Test logloss alone, over all impressions and in each tenth of the product rows."""
    todo = over_seeds(seeds or profile.seeds, runs(profile.epochs))
    rows = run_all(todo, profile, device, store, log)
    return rows[rows["metric"] == "logloss"].reset_index(drop=True)

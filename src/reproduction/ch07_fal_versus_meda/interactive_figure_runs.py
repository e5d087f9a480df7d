"""Runs every method at two choices of rates, by row frequency, for the interactive figure.

It settles no claim. It repeats the measurement of chapters 5 to 7 for all methods alike, so that
any two of them can be compared.
"""

from __future__ import annotations

from dataclasses import asdict, replace

import pandas as pd

from multiepoch.methods import METHODS
from reproduction.runs import Profile, Run, over_seeds, run_all
from reproduction.tuning import tuned

CHAPTER = NAME = "interactive_figure"
TUNED, ONE_EPOCH = "tuned for three epochs", "rates best for one epoch"
POINTS = (0.25, 0.5, 0.75, 1.0)


def runs(epochs: int) -> list[Run]:
    """Returns each method's run at its own best rates for three epochs, and at plain's for one.

    At the rates for one epoch, a method has its default hyperparameter, since none was tuned there.
    """

    more, found = dict(epochs=epochs, evaluate_at=POINTS, group_by="product"), []
    for name, method in METHODS.items():
        one_epoch = replace(tuned("plain", 1), hyperparameter=method.grid[0])
        for setting, rates in {TUNED: tuned(name, 3), ONE_EPOCH: one_epoch}.items():
            found.append(Run(name, 0, **asdict(rates), setting=setting, **more))
    return found


def run(profile: Profile, device: str = "auto", seeds=None, store=None, log=print) -> pd.DataFrame:
    """Returns the test logloss over all impressions and in each tenth of the product rows."""
    todo = over_seeds(seeds or profile.seeds, runs(profile.epochs))
    rows = run_all(todo, profile, device, store, log)
    return rows[rows["metric"] == "logloss"].reset_index(drop=True)

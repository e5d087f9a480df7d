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
TUNED, ONE_PASS = "tuned for three passes", "rates best for one pass"
POINTS = (0.25, 0.5, 0.75, 1.0)


def runs(passes: int) -> list[Run]:
    """Each method at its own best rates for three passes, and at plain's best for one.

    At the rates for one pass a method has its default knob: nothing was tuned for it there.
    """
    more = dict(passes=passes, evaluate_at=POINTS, group_by="product")
    one_pass = tuned("plain", 1)
    found = []
    for name, method in METHODS.items():
        t = tuned(name, 3)
        found += [
            Run(name, 0, t.dense_lr, t.embedding_lr, t.knob, setting=TUNED, **more),
            Run(name, 0, one_pass.dense_lr, one_pass.embedding_lr, method.knobs[0],
                setting=ONE_PASS, **more),
        ]  # fmt: skip
    return found


def run(profile: Profile, device: str = "auto", seeds=None, store=None, log=print) -> pd.DataFrame:
    """Test logloss alone, over all impressions and in each tenth of the product rows."""
    todo = over_seeds(seeds or profile.seeds, runs(profile.passes))
    rows = run_all(todo, profile, device, store, log)
    return rows[rows["metric"] == "logloss"].reset_index(drop=True)

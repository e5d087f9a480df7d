"""Chapter 2: the model trained for one epoch on both sources, against the best there is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from reproduction.runs import Profile, Run, over_seeds, run_all

# Fixed, not tuned: nothing is compared here but the model and the two ends of what is possible.
DENSE_LR, EMBEDDING_LR = 1e-3, 1e-2
POINTS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
SOURCES = {"AdsWorld": "world", "KuaiRand": "kuairand"}


def run(
    profile: Profile,
    device: str = "auto",
    seeds: Sequence[int] | None = None,
    store: Path | None = None,
    log: Callable[[str], None] = print,
) -> pd.DataFrame:
    """Rows of runs.COLUMNS, `setting` being a key of SOURCES.

    A seed draws the first weights and the order of the impressions, and in AdsWorld the world.
    """
    todo = [Run("plain", 0, DENSE_LR, EMBEDDING_LR, setting=name, data=data, evaluate_at=POINTS)
            for name, data in SOURCES.items()]  # fmt: skip
    return run_all(over_seeds(seeds or profile.seeds, todo), profile, device, store, log)

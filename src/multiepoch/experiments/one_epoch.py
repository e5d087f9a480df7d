"""Chapter 2: the model trained for one epoch on both sources, against the best there is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import torch

from multiepoch.data import PACKAGED_SPLIT, load_kuairand, split_by_day
from multiepoch.experiments.methods import METHODS
from multiepoch.experiments.profiles import Profile
from multiepoch.experiments.runs import COLUMNS, Run, over_seeds, resolve, run_all
from multiepoch.metrics import entropy
from multiepoch.model import ConversionModel
from multiepoch.train import train

# Fixed, not tuned: nothing is compared here but the model and the two ends of what is possible.
DENSE_LR, EMBEDDING_LR = 1e-3, 1e-2
POINTS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
KUAIRAND_BATCH = 512  # the log has one size, so it is the same in every profile


def run(
    profile: Profile,
    device: str = "auto",
    seeds: Sequence[int] | None = None,
    store: Path | None = None,
    log: Callable[[str], None] = print,
) -> pd.DataFrame:
    """Rows of runs.COLUMNS, `setting` being "AdsWorld" or "KuaiRand".

    A seed draws the first weights and the order of the impressions, and in AdsWorld the world.
    """
    device, seeds = resolve(device), seeds or profile.seeds
    one = Run("plain", 0, DENSE_LR, EMBEDDING_LR, setting="AdsWorld", evaluate_at=POINTS)
    rows = run_all(over_seeds(seeds, [one]), profile, device, store, log)
    return pd.concat([rows, *(_kuairand(profile, device, seed, log) for seed in seeds)],
                     ignore_index=True)  # fmt: skip


def _kuairand(profile: Profile, device: str, seed: int, log: Callable[[str], None]) -> pd.DataFrame:
    window, _, test = split_by_day(load_kuairand(), **PACKAGED_SPLIT)
    torch.manual_seed(seed)
    model = ConversionModel(window.schema).to(device)
    optimizer, _ = METHODS["plain"].build(model, dense_lr=DENSE_LR, embedding_lr=EMBEDDING_LR)
    rows = train(
        model, optimizer, window, epochs=1, batch_size=KUAIRAND_BATCH, seed=seed,
        evaluate=test, evaluate_at=POINTS, progress=None,
    )  # fmt: skip
    log(f"KuaiRand seed {seed}: done")
    rows = rows[rows["split"] == "test"]
    rates = dict(zip(test.objectives, test.labels.double().mean(0).tolist()))
    end = {"epoch": 1.0, "samples": len(window), "group": "all", "metric": "constant_logloss"}
    constant = [end | {"objective": name, "value": entropy(rate)} for name, rate in rates.items()]
    about = {"profile": profile.name, "device": device, "seed": seed, "method": "plain",
             "setting": "KuaiRand"}  # fmt: skip
    return pd.concat([rows, pd.DataFrame(constant)], ignore_index=True).assign(**about)[COLUMNS]

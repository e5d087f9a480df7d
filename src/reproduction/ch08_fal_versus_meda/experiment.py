"""Chapter 8: every remedy tuned for three epochs, and the leak without any training."""

import math
from dataclasses import asdict

import pandas as pd
import torch

from multiepoch.data import Log
from multiepoch.methods import METHODS
from multiepoch.train.metrics import auc
from reproduction import measure
from reproduction.runs import Profile, Run, over_seeds, run_all
from reproduction.tuning import tuned

NAME = "ch08_fal_versus_meda"
TUNED = "tuned"
GROUPS = {"1": (1, 1), "2–3": (2, 3), "4–9": (4, 9), "10–29": (10, 29), "30 up": (30, math.inf)}
PARTS = {0.25: "a quarter into", 0.5: "half of", 1.0: "end of"}
POINTS = {n + part: f"{words} epoch {n + 1}" for n in (1, 2, 3) for part, words in PARTS.items()}


def run(profile: Profile, device: str = "auto", seeds=None, store=None, log=print) -> pd.DataFrame:
    """Trains each method at its own best rates and hyperparameter for three epochs."""
    more = {"setting": TUNED, "epochs": profile.epochs}
    todo = [Run(name, 0, **asdict(tuned(name, 3)), **more) for name in METHODS]
    return run_all(over_seeds(seeds or profile.seeds, todo), profile, device, store, log)


def against(rows: pd.DataFrame, method: str, other: str) -> pd.DataFrame:
    """Returns one tuned method's logloss against another's in %, over objectives: seed by epoch."""
    return measure.against(rows, method, other, setting=TUNED)


def leak(window: Log, test: Log) -> pd.DataFrame:
    """Measures how well a row's mean click tells clicks from non-clicks, without any training.

    Returns:
        AUC by lookups of the row in the window (the index). Columns second_epoch: the mean
        includes the impression itself; first_epoch: only earlier ones; new_day: on the test day.
    """
    column = "user_x_advertiser"
    ids, clicks = window.ids[column], window.labels[:, 0]
    counts = measure.tally(ids, clicks, window.schema.cardinality[column])
    lookups, mean, rate = counts[0], measure.mean_labels(counts), clicks.mean().item()
    frame = pd.DataFrame({"row": ids.numpy(), "click": clicks.numpy()})
    by_row = frame.groupby("row")["click"]
    earlier = (by_row.cumsum() - frame["click"] + rate) / (by_row.cumcount() + 1)
    earlier = torch.tensor(earlier.to_numpy())
    test_ids, test_clicks = test.ids[column], test.labels[:, 0]
    found = {}
    for name, (low, high) in GROUPS.items():
        seen = (lookups[ids] >= low) & (lookups[ids] <= high)
        new = (lookups[test_ids] >= low) & (lookups[test_ids] <= high)
        found[name] = {
            "second_epoch": auc(mean[ids][seen], clicks[seen]),
            "first_epoch": auc(earlier[seen], clicks[seen]),
            "new_day": auc(mean[test_ids][new], test_clicks[new]),
        }
    return pd.DataFrame.from_dict(found, orient="index")

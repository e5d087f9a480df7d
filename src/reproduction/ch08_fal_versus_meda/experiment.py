"""Chapter 8: the remedies in the default setting, and the leak without any training."""

import math

import pandas as pd
import torch

from multiepoch_lab.data import Log
from multiepoch_lab.train.metrics import auc
from reproduction import measure
from reproduction.dose_response import production
from reproduction.runs import Profile, over_seeds, run_all

GROUPS = {"1": (1, 1), "2–3": (2, 3), "4–9": (4, 9), "10–29": (10, 29), "30 up": (30, math.inf)}


def run(profile: Profile, device: str, seeds) -> pd.DataFrame:
    """Trains each method for up to three epochs in the default setting, at the best rate."""
    how = {"rates": (production.BEST,), "epochs": min(3, profile.epochs)}
    todo = production.stratum("AdsWorld", data=production.SOURCES["AdsWorld"], **how)
    return run_all(over_seeds(seeds, todo), profile, device)


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

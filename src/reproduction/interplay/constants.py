"""What AdsWorld assumes beside what real logs measure: exposure, repetition, new ids, label rates.

None of the constants is fitted to a remedy's result.
"""

import numpy as np
import pandas as pd
import torch

from multiepoch_lab.data import Log
from reproduction import tables
from reproduction.interplay.experiment import REAL
from reproduction.runs import Profile, window
from reproduction.runs.sources import SOURCES, has_new_id

NAME = "constants"
NAMES = {"world": "AdsWorld"} | REAL
COLUMNS = {"world": ("user", "product"), "kuairand": ("user", "video")}
ITEMS = ("user", "item")  # of the other logs
HEAD = 0.1  # the share of the ids, the most exposed, on which the exponent is fitted


def exponent(counts: np.ndarray) -> float:
    """Returns the exponent by which exposure falls with rank, over the HEAD of the ids seen."""
    counts = np.sort(counts[counts > 0])[::-1]
    head = counts[: max(3, round(HEAD * len(counts)))]
    return -float(np.polyfit(np.log(np.arange(1, len(head) + 1)), np.log(head), 1)[0])


def of_log(data: str, train: Log, held_out: Log) -> list[tuple[str, str, str, float]]:
    """Returns (data, column or objective, metric, value) of one log's training window."""
    found = []
    for name in COLUMNS.get(data, ITEMS):
        counts = torch.bincount(train.ids[name], minlength=train.schema.cardinality[name]).numpy()
        seen = counts[counts > 0]
        once = seen[seen < 5].sum() / seen.sum()
        found.append((data, name, "exponent", exponent(counts)))
        found.append((data, name, "lookups", float(seen.mean())))
        found.append((data, name, "rare", 100 * float(once)))
    new = has_new_id(train, held_out, SOURCES[data].new_ids).double().mean()
    found.append((data, "", "new", 100 * float(new)))
    rates = 100 * train.labels.double().mean(dim=0)
    found += [(data, o, "rate", float(r)) for o, r in zip(train.objectives, rates)]
    return found


def run(profile: Profile, device: str = "auto", seeds=None) -> pd.DataFrame:
    """Measures each log; AdsWorld for each seed. A real log is the same for all."""
    rows = []
    for data in NAMES:
        for seed in seeds or profile.seeds:
            train, validation, _ = window(profile, data, seed)
            rows += [(seed, *one) for one in of_log(data, train, validation)]
            if data != "world":
                break
    return pd.DataFrame(rows, columns=["seed", "data", "column", "metric", "value"])


def show(rows: pd.DataFrame) -> None:
    """Displays a table with a line a log."""
    mean = rows.groupby(["data", "metric", "column"], sort=False)["value"].mean()
    cells = {}
    for data, name in NAMES.items():
        user, item = COLUMNS.get(data, ITEMS)
        of = mean[data]
        rates = ", ".join(f"{o.replace('_', ' ')} {v:.2g}" for o, v in of["rate"].items())
        cells[name] = {
            "exponent, users": f"{of['exponent'][user]:.2f}",
            "items": f"{of['exponent'][item]:.2f}",
            "lookups a user": f"{of['lookups'][user]:.1f}",
            "an item": f"{of['lookups'][item]:.1f}",
            "lookups of items seen < 5 times, %": f"{of['rare'][item]:.0f}",
            "new id on the next day, %": f"{of['new']['']:.0f}",
            "label rates, %": rates,
        }
    tables.show(cells, "log", "One training window each:")

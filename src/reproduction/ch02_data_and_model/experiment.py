"""Chapter 2: the model trained for one epoch on both sources, against the best possible loss."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from reproduction.findings import by_name
from reproduction.measure import losses, pick, share_of_gap_closed
from reproduction.records import Record
from reproduction.runs import Profile, Run, over_seeds, run_all

NAME = "ch02_model"
# Fixed, not tuned: the chapter compares the model with a constant and the optimum, nothing else.
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
    """Returns rows of runs.COLUMNS; `setting` is a key of SOURCES.

    A seed draws the first weights, the order of the impressions and, in AdsWorld, the world.
    """
    todo = [
        Run("plain", 0, DENSE_LR, EMBEDDING_LR, setting=name, data=data, evaluate_at=POINTS)
        for name, data in SOURCES.items()
    ]
    return run_all(over_seeds(seeds or profile.seeds, todo), profile, device, store, log)


def objectives(rows: pd.DataFrame, source: str) -> list[str]:
    """Returns the objectives of a source, the most frequent first."""
    named = pick(rows, "plain", source)["objective"]
    return [name for name in named.unique() if name]


def final(rows: pd.DataFrame, source: str, metric: str, objective: str) -> np.ndarray:
    """Returns a metric at the end of the epoch, one value per seed."""
    return losses(rows, metric, setting=source, objective=objective, epoch=1.0).to_numpy()


def gap_closed(rows: pd.DataFrame) -> dict[str, np.ndarray]:
    """Returns by objective the % of the gap from constant to optimum that the epoch closes."""
    gap = share_of_gap_closed(pick(rows, "plain", "AdsWorld"))
    gap = gap[gap["epoch"] == 1.0]
    return {name: part["value"].to_numpy() for name, part in gap.groupby("objective", sort=False)}


def auc_below_optimum(rows: pd.DataFrame) -> dict[str, np.ndarray]:
    """Returns by objective how far the model's AUC on AdsWorld is below the Bayes optimum's."""
    return {
        name: final(rows, "AdsWorld", "bayes_auc", name) - final(rows, "AdsWorld", "auc", name)
        for name in objectives(rows, "AdsWorld")
    }


def facts(record: Record) -> dict:
    """Returns the values that the findings speak of, by name."""
    rows = record.rows
    entropy = {
        name: final(rows, "KuaiRand", "normalized_entropy", name)
        for name in objectives(rows, "KuaiRand")
    }
    lacks = [values.mean() for values in auc_below_optimum(rows).values()]
    gain = {name: 100 - 100 * values for name, values in entropy.items()}
    return by_name(gap=gap_closed(rows), gain=gain, least=min(lacks), most=max(lacks))

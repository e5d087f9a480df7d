"""From result rows to the numbers that the chapters show: jumps, differences, samples to a loss.

Every function takes rows of `runs.COLUMNS` and pairs by seed.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from multiepoch.stats import interval
from multiepoch.train.metrics import boundary_jump, share_of_gap

KEYS = ["method", "setting", "seed", "objective"]


def curve(rows: pd.DataFrame, metric: str = "logloss", group: str = "all") -> pd.DataFrame:
    """The points of one metric and group: columns method, setting, seed, objective, epoch, ..."""
    return rows[(rows["metric"] == metric) & (rows["group"] == group)]


def at(rows: pd.DataFrame, epoch: float, metric: str = "logloss", group: str = "all") -> pd.Series:
    """The metric when `epoch` epochs are done (1.25: a quarter into the second), by KEYS."""
    points = curve(rows, metric, group)
    found = points[np.isclose(points["epoch"], epoch)].set_index(KEYS)["value"]
    if found.empty:
        there = sorted(points["epoch"].unique())
        raise ValueError(f"no {metric} at epoch {epoch}; the rows have {there}.")
    return found


def jump(rows: pd.DataFrame, boundary: int = 1, group: str = "all") -> pd.Series:
    """Boundary jump in %: logloss a quarter into the next epoch against that at the boundary."""
    before, after = at(rows, boundary, group=group), at(rows, boundary + 0.25, group=group)
    before, after = before.align(after, join="inner")
    return 100 * boundary_jump(before, after)


def percent_change(ours: pd.Series, theirs: pd.Series) -> pd.Series:
    """How much larger ours is, in %, by seed and objective; negative where ours is the lower."""
    ours, theirs = (one.droplevel(["method", "setting"]) for one in (ours, theirs))
    ours, theirs = ours.align(theirs, join="inner")
    return 100 * (ours / theirs - 1)


def against(rows: pd.DataFrame, setting: str, method: str, other: str) -> pd.DataFrame:
    """Logloss of one method against another's in % in one setting: seed and objective by epoch."""
    mine, theirs = (
        curve(pick(rows, name, setting)).set_index(["seed", "objective", "epoch"])["value"]
        for name in (method, other)
    )
    return (100 * (mine / theirs - 1)).unstack("epoch")


def pick(rows: pd.DataFrame, method: str, setting: str | None = None) -> pd.DataFrame:
    """The rows of one method, and of one of its settings if given."""
    rows = rows[rows["method"] == method]
    return rows if setting is None else rows[rows["setting"] == setting]


def by_seed(values: pd.Series) -> pd.Series:
    """Mean over everything but the seed."""
    return values.groupby("seed").mean()


def evidence(claim: str, **measures: pd.Series) -> pd.DataFrame:
    """Rows for the ledger from one series over seeds for each measure."""
    return pd.DataFrame(
        [
            {"claim": claim, "measure": name, "seed": int(seed), "value": float(value)}
            for name, values in measures.items()
            for seed, value in values.items()
        ],
        columns=["claim", "measure", "seed", "value"],
    )


def intervals(
    values: pd.DataFrame | pd.Series, by: list[str], column: str = "value"
) -> pd.DataFrame:
    """Mean and 95 % interval over seeds for each group of `by`: columns mean, low, high."""
    frame = values.reset_index() if isinstance(values, pd.Series) else values
    summary = frame.groupby(by, sort=False)[column].apply(
        lambda v: pd.Series(interval(v), index=["mean", "low", "high"])
    )
    return summary.unstack()


def samples_to(points: pd.DataFrame, loss: float) -> float:
    """Samples after which a falling curve first reaches `loss`, linear between its points.

    points: one seed, one objective; columns samples, value. Infinity where it never does.
    """
    points = points.sort_values("samples")
    samples, best = points["samples"].to_numpy(float), points["value"].cummin().to_numpy()
    reached = np.flatnonzero(best <= loss)
    if not len(reached):
        return float("inf")
    k = reached[0]
    if k == 0 or best[k - 1] == best[k]:
        return float(samples[k])
    part = (best[k - 1] - loss) / (best[k - 1] - best[k])
    return float(samples[k - 1] + part * (samples[k] - samples[k - 1]))


def share_of_gap_closed(rows: pd.DataFrame) -> pd.DataFrame:
    """Each logloss point as the % closed of the gap from the best constant to the Bayes optimum."""
    ends = rows[rows["metric"].isin(["constant_logloss", "bayes_logloss"])]
    ends = ends.pivot_table(index=KEYS, columns="metric", values="value").reset_index()
    points = curve(rows).merge(ends, on=KEYS)
    ends = points["constant_logloss"], points["bayes_logloss"]
    return points.assign(value=100 * share_of_gap(points["value"], *ends))

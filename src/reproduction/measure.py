"""Computes the numbers of the chapters from result rows: jumps, differences, samples to a loss.

Every function takes rows of `runs.COLUMNS` and pairs by seed.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from multiepoch.stats import interval
from multiepoch.train.metrics import boundary_jump, share_of_gap

KEYS = ["method", "setting", "seed", "objective"]


def curve(rows: pd.DataFrame, metric: str = "logloss", group: str = "all") -> pd.DataFrame:
    """Returns the points of one metric and group."""
    return rows[(rows["metric"] == metric) & (rows["group"] == group)]


def as_losses(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns loss, AUC, CPU time and memory of rows of `runs.COLUMNS`, by `remedy`.

    The loss is the one expected under the true probabilities if they are known.
    """
    known = rows["metric"] == "expected_logloss"
    data = rows["data"] if "data" in rows else pd.Series("", rows.index)
    loss = known | ((rows["metric"] == "logloss") & ~data.isin(data[known]))
    auc = (rows["metric"] == "auc") & (rows["group"] == "all")
    about = rows["metric"].isin(["cpu_seconds", "table_bytes", "state_bytes", "rewind_bytes"])
    names = dict.fromkeys(("expected_logloss", "logloss"), "loss") | {
        "rewind_bytes": "remedy_bytes"
    }
    rows = rows[loss | auc | about].rename(columns={"method": "remedy"})
    rows = rows.drop(columns=["profile", "device", "setting", "samples"])
    return rows.assign(metric=rows["metric"].replace(names)).reset_index(drop=True)


def at(rows: pd.DataFrame, epoch: float, metric: str = "logloss", group: str = "all") -> pd.Series:
    """Returns a metric after `epoch` epochs (1.25: a quarter into the second), indexed by KEYS.

    Raises:
        ValueError: If there is no point there. The message lists those that exist.
    """
    points = curve(rows, metric, group)
    found = points[np.isclose(points["epoch"], epoch)].set_index(KEYS)["value"]
    if found.empty:
        there = sorted(points["epoch"].unique())
        raise ValueError(f"no {metric} at epoch {epoch}; the rows have {there}.")
    return found


def jump(rows: pd.DataFrame, boundary: int = 1, group: str = "all") -> pd.Series:
    """Returns the boundary jump in %: logloss a quarter past the boundary against that at it."""
    before, after = at(rows, boundary, group=group), at(rows, boundary + 0.25, group=group)
    before, after = before.align(after, join="inner")
    return 100 * boundary_jump(before, after)


def percent_change(ours: pd.Series, theirs: pd.Series) -> pd.Series:
    """Returns ours against theirs in %, by seed and objective; negative if ours is lower."""
    ours, theirs = (one.droplevel(["method", "setting"]) for one in (ours, theirs))
    ours, theirs = ours.align(theirs, join="inner")
    return 100 * (ours / theirs - 1)


def against(rows: pd.DataFrame, setting: str, method: str, other: str) -> pd.DataFrame:
    """Returns the logloss of one method against another's in %, a column per epoch.

    The index is (seed, objective). Both methods are taken in the same setting.
    """
    mine, theirs = (
        curve(pick(rows, name, setting)).set_index(["seed", "objective", "epoch"])["value"]
        for name in (method, other)
    )
    return (100 * (mine / theirs - 1)).unstack("epoch")


def relative(rows: pd.DataFrame, base: pd.Series) -> pd.DataFrame:
    """Returns the logloss points of `rows` in % above `base`, paired on the levels of its index."""
    points = curve(rows).merge(base.rename("base").reset_index(), on=base.index.names)
    return points.assign(value=100 * (points["value"] / points["base"] - 1)).drop(columns="base")


def pick(rows: pd.DataFrame, method: str, setting: str | None = None) -> pd.DataFrame:
    """Returns the rows of one method and, if given, of one of its settings."""
    rows = rows[rows["method"] == method]
    return rows if setting is None else rows[rows["setting"] == setting]


def by_seed(values: pd.Series) -> pd.Series:
    """Returns the mean over everything but the seed."""
    return values.groupby("seed").mean()


def evidence(**claims: dict[str, pd.Series]) -> pd.DataFrame:
    """Returns rows for the ledger from one series over seeds for each measure of each claim."""
    found = [
        {"claim": claim, "measure": name, "seed": int(seed), "value": float(value)}
        for claim, measures in claims.items()
        for name, values in measures.items()
        for seed, value in values.items()
    ]
    return pd.DataFrame(found, columns=["claim", "measure", "seed", "value"])


def intervals(
    values: pd.DataFrame | pd.Series, by: list[str], column: str = "value"
) -> pd.DataFrame:
    """Returns columns mean, low and high: the 95 % interval over seeds for each group of `by`."""
    frame = values.reset_index() if isinstance(values, pd.Series) else values
    summary = frame.groupby(by, sort=False)[column].apply(
        lambda v: pd.Series(interval(v), index=["mean", "low", "high"])
    )
    return summary.unstack()


def samples_to(points: pd.DataFrame, loss: float) -> float:
    """Returns after how many samples a falling curve, linear in between, first reaches `loss`.

    The points are of one seed and objective. If none of them reaches it, the result is infinite.
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
    """Returns each logloss as the % closed of the gap from the best constant to the optimum."""
    ends = rows[rows["metric"].isin(["constant_logloss", "bayes_logloss"])]
    ends = ends.pivot_table(index=KEYS, columns="metric", values="value").reset_index()
    points = curve(rows).merge(ends, on=KEYS)
    ends = points["constant_logloss"], points["bayes_logloss"]
    return points.assign(value=100 * share_of_gap(points["value"], *ends))


def tally(ids: torch.Tensor, labels: torch.Tensor, n_rows: int) -> torch.Tensor:
    """Returns the lookups and the sum of labels of each row of a table, (2, n_rows)."""
    ones = torch.ones_like(labels)
    return torch.stack([torch.bincount(ids, part, minlength=n_rows) for part in (ones, labels)])


def mean_labels(counts: torch.Tensor) -> torch.Tensor:
    """Returns each row's mean label from its `tally`, with one average impression added.

    The addition gives a row without lookups a mean, too.
    """
    lookups, total = counts
    return (total + total.sum() / lookups.sum()) / (lookups + 1)

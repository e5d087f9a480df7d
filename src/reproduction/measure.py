"""Computes the numbers of the chapters from result rows: losses, differences, jumps, means.

A measure is a series of values, indexed by what tells them apart: those of KEYS that the rows have,
save the ones that were chosen. So two measures are paired by rate, objective, seed and epoch.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
import torch

from multiepoch_lab.stats import interval
from multiepoch_lab.train.metrics import share_of_gap

KEYS = ["setting", "stratum", "rates", "rate", "data", "size", "taste", "kind", "remedy", "unique"]
KEYS += ["method", "objective", "seed", "epoch"]
POINT = KEYS[-3:]  # of a run
EXPECTED, DRAWN = "expected_logloss", "logloss"  # under the true probabilities; of the labels


def curve(rows: pd.DataFrame, metric: str = DRAWN, group: str = "all") -> pd.DataFrame:
    """Returns the points of one metric and group."""
    return rows[(rows["metric"] == metric) & (rows["group"] == group)]


def as_losses(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns loss, AUC, CPU time and memory of rows of `runs.COLUMNS`, by `remedy`.

    The loss is the one expected under the true probabilities if they are known.
    """
    loss = _best_known(rows)
    auc = (rows["metric"] == "auc") & (rows["group"] == "all")
    about = rows["metric"].isin(["cpu_seconds", "table_bytes", "state_bytes", "rewind_bytes"])
    names = dict.fromkeys(("expected_logloss", "logloss"), "loss") | {
        "rewind_bytes": "remedy_bytes"
    }
    rows = rows[loss | auc | about].rename(columns={"method": "remedy"})
    rows = rows.drop(columns=["profile", "device", "setting", "samples"])
    return rows.assign(metric=rows["metric"].replace(names)).reset_index(drop=True)


def _best_known(rows: pd.DataFrame) -> pd.Series:
    """Says of each row whether it is a loss, the one expected if its source's truth is known."""
    known = rows["metric"] == EXPECTED
    data = rows["data"] if "data" in rows else pd.Series("", rows.index)
    return known | ((rows["metric"] == DRAWN) & ~data.isin(data[known]))


def losses(
    rows: pd.DataFrame,
    metric: str | None = DRAWN,
    group: str = "all",
    by: Sequence[str] = KEYS,
    **where,
) -> pd.Series:
    """Returns losses, or the values of another metric, by those of KEYS that the rows have.

    Args:
        rows: The columns of `runs.COLUMNS`, or those with others of KEYS in place of `setting`.
        metric: None takes the loss expected under the true probabilities where these are known, of
            each source by itself if the rows have several, by their column `data`.
        group: Of test impressions, by the frequency of a row.
        by: What tells the losses apart, if not all of KEYS does.
        **where: The value of a column, such as method="plain" or epoch=1.25 (a quarter into the
            second); None for all of them.

    Raises:
        ValueError: If there is no point there. The message lists the epochs that exist.
    """
    where = {column: value for column, value in where.items() if value is not None}
    epoch = where.pop("epoch", None)
    for column, value in where.items():
        rows = rows[rows[column] == value]
    if metric is None:
        points = rows[_best_known(rows) & (rows["group"] == group)]
    else:
        points = curve(rows, metric, group)
    if epoch is not None:
        there = sorted(points["epoch"].unique())
        points = points[np.isclose(points["epoch"], epoch)]
        if points.empty:
            raise ValueError(f"no {metric or 'loss'} at epoch {epoch}; the rows have {there}.")
        where["epoch"] = epoch
    named = "setting" in points and points["setting"].any()  # or by other columns, with it empty
    keys = [key for key in by if key in points and key not in where]
    keys = [key for key in keys if key != "setting" or named]
    return points.set_index(keys)["value"]


def relative(ours: pd.Series, base: pd.Series) -> pd.Series:
    """Returns `ours` against `base` in %, paired on the levels of base; negative if ours is lower.

    What has no partner is left out.
    """
    pairs = ours.rename("value").to_frame().join(base.rename("base"), base.index.names, "inner")
    return (100 * (pairs["value"] / pairs["base"] - 1)).rename("value")


def to_start(rows: pd.DataFrame, **where) -> pd.DataFrame:
    """Returns points with their loss in % of that at the end of their own first epoch."""
    loss = losses(rows, **where)
    start = loss.xs(1.0, level="epoch")
    return relative(loss, start).reset_index()


def jump(rows: pd.DataFrame, **where) -> pd.Series:
    """Returns the boundary jump in %: a quarter into epoch 2 against the end of epoch 1."""
    return relative(*(losses(rows, epoch=epoch, **where) for epoch in (1.25, 1.0)))


def against(rows: pd.DataFrame, method: str, other: str, **where) -> pd.DataFrame:
    """Returns one method's loss against another's in %, mean over objectives: a column an epoch."""
    change = relative(*(losses(rows, method=name, **where) for name in (method, other)))
    return over_objectives(change).unstack("epoch")


def over_objectives(values: pd.Series) -> pd.Series:
    """Returns the mean over objectives."""
    return values.groupby([name for name in values.index.names if name != "objective"]).mean()


def at_best_rate(loss: pd.Series) -> pd.Series:
    """Returns the losses at the rate at which their mean is lowest."""
    return loss.xs(loss.groupby("rate").mean().idxmin(), level="rate")


def pick(rows: pd.DataFrame, method: str, setting: str | None = None) -> pd.DataFrame:
    """Returns the rows of one method and, if given, of one of its settings."""
    rows = rows[rows["method"] == method]
    return rows if setting is None else rows[rows["setting"] == setting]


def ran(rows: pd.DataFrame, names: Iterable[str], column: str = "setting") -> list[str]:
    """Returns those of the names that a column of the rows has, in their order."""
    found = set(rows[column])
    return [name for name in names if name in found]


def by_seed(values: pd.Series) -> pd.Series:
    """Returns the mean over everything but the seed."""
    return values.groupby("seed").mean()


def intervals(values: pd.DataFrame | pd.Series, by: list[str]) -> pd.DataFrame:
    """Returns columns mean, low and high: the 95 % interval over seeds for each group of `by`."""
    frame = values.rename("value").reset_index() if isinstance(values, pd.Series) else values
    summary = frame.groupby(by, sort=False)["value"].apply(
        lambda v: pd.Series(interval(v), index=["mean", "low", "high"])
    )
    return summary.unstack()


def share_of_gap_closed(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns each logloss as the % closed of the gap from the best constant to the optimum."""
    ends = rows[rows["metric"].isin(["constant_logloss", "bayes_logloss"])]
    keys = [key for key in KEYS if key in rows and key != "epoch"]
    ends = ends.pivot_table(index=keys, columns="metric", values="value").reset_index()
    points = curve(rows).merge(ends, on=keys)
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

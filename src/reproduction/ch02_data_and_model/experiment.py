"""Chapter 3: what can be counted in the two logs without any model, and one epoch of the model."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from multiepoch_lab.data import PACKAGED_SPLIT, AdsWorld, Log
from reproduction.findings import by_name
from reproduction.measure import losses, pick, share_of_gap_closed
from reproduction.records import Record
from reproduction.runs import Profile, Run, over_seeds, run_all

NAME = "ch02_model"
# Fixed, not tuned: the chapter compares the model with a constant and the optimum, nothing else.
DENSE_LR, EMBEDDING_LR = 1e-3, 1e-2
POINTS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
SOURCES = {"AdsWorld": "world", "KuaiRand": "kuairand"}
AHEAD = (1, 2, 4, 7, 10)  # days after the training window
APART = (1, 30)  # days between two logs
CROSS = {"AdsWorld": "user_x_advertiser", "KuaiRand": "user_x_author"}
ITEM = {"AdsWorld": "product", "KuaiRand": "video"}


def positives(log: Log) -> dict[str, int]:
    """Returns the number of impressions and of positive labels by objective."""
    counts = log.labels.sum(0).int().tolist()
    return {"impression": len(log)} | dict(zip(log.objectives, counts))


def first_impressions(log: Log, n: int) -> pd.DataFrame:
    """Returns ids, features, labels and true probabilities, a column per impression."""
    one = log[:n]
    columns = {name: ids.numpy() for name, ids in one.ids.items()}
    columns |= {name: one.dense[:, k].numpy().round(2) for k, name in enumerate(one.schema.dense)}
    for k, name in enumerate(one.objectives):
        columns |= {name: one.labels[:, k].int().numpy()}
        columns |= {f"p({name})": one.p_true[:, k].numpy().round(4)}
    table = pd.DataFrame(columns).T.rename_axis("column")
    return table.rename(columns="impression {}".format).map("{:g}".format)


def frequencies(ids: Tensor) -> np.ndarray:
    """Returns how often each id that occurs at all occurs, the most frequent first."""
    return np.sort(np.unique(ids.numpy(), return_counts=True)[1])[::-1]


def seen_once(ids: Tensor) -> float:
    """Returns the % of the ids that occur exactly once, of those that occur at all."""
    return 100 * np.mean(frequencies(ids) == 1)


def never_seen(log: Log, train: Log, column: str) -> float:
    """Returns the % of a log's impressions whose id is not in the training log."""
    known = torch.isin(log.ids[column], train.ids[column].unique())
    return 100 * (1 - known.double().mean().item())


def churn(
    profile: Profile, world: AdsWorld, window: Log, kuairand: Log, kuairand_window: Log
) -> dict[str, pd.DataFrame]:
    """Returns by source the % of impressions with an id that the training window never shows.

    One row per day after the window, columns the item (product or video) and user.
    """
    last, split = profile.train_days - 1, PACKAGED_SPLIT["train"]
    ahead = range(1, int(kuairand.day.max()) - split + 1)
    later = {
        "AdsWorld": (window, {k: world.day(last + k) for k in AHEAD}),
        "KuaiRand": (kuairand_window, {k: kuairand.days(split + k) for k in ahead}),
    }
    found = {}
    for source, (train, days) in later.items():
        columns = (ITEM[source], "user")
        shares = {k: [never_seen(log, train, name) for name in columns] for k, log in days.items()}
        found[source] = pd.DataFrame.from_dict(shares, orient="index", columns=columns)
    return found


def click_correlation(one: Log, other: Log) -> float:
    """Returns the correlation of the true click logits of the pairs that are in both logs.

    A pair is a user and a product.
    """
    n = one.schema.cardinality["product"]
    pairs = ((log.ids["user"] * n + log.ids["product"]).numpy() for log in (one, other))
    _, first, later = np.intersect1d(*pairs, return_indices=True)
    logits = [torch.logit(log.p_true[:, 0].double()).numpy() for log in (one, other)]
    return np.corrcoef(logits[0][first], logits[1][later])[0, 1]


def drift(profile: Profile, seeds: Sequence[int]) -> dict[float, pd.DataFrame]:
    """Returns the correlation of click logits by days apart (rows) and seed (columns).

    By drift in radians per day: the default, and none. Churn is off, to keep the products.
    """

    def of_world(world: AdsWorld) -> list[float]:
        return [click_correlation(world.day(0), world.day(k)) for k in APART]

    found = {}
    for turn in (AdsWorld.drift, 0.0):
        worlds = {seed: profile.world(seed, churn=0.0, drift=turn) for seed in seeds}
        found[turn] = pd.DataFrame({s: of_world(one) for s, one in worlds.items()}, index=APART)
    return found


def calibration(log: Log, groups: int = 12) -> pd.DataFrame:
    """Groups impressions by `p_true` and compares it with the share that has the label.

    The columns are objective, expected, observed and error, the standard error of `observed`.
    Groups with fewer than 20 expected positives are left out.
    """
    found = []
    for k, objective in enumerate(log.objectives):
        p, y = log.p_true[:, k].double(), log.labels[:, k].double()
        for rows in p.argsort().chunk(groups):
            if p[rows].sum() >= 20:
                error = (p[rows] * (1 - p[rows])).sum().sqrt() / len(rows)
                point = p[rows].mean().item(), y[rows].mean().item(), error.item()
                found.append((objective, *point))
    return pd.DataFrame(found, columns=["objective", "expected", "observed", "error"])


# The model against the best possible loss --------------------------------------------------------


def run(profile: Profile, device: str = "auto", seeds=None) -> pd.DataFrame:
    """Returns rows of runs.COLUMNS; `setting` is a key of SOURCES.

    A seed draws the first weights, the order of the impressions and, in AdsWorld, the world.
    """
    todo = [
        Run("plain", 0, DENSE_LR, EMBEDDING_LR, setting=name, data=data, evaluate_at=POINTS)
        for name, data in SOURCES.items()
    ]
    return run_all(over_seeds(seeds or profile.seeds, todo), profile, device)


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


def facts(record: Record) -> dict:
    """Returns the values that the findings speak of, by name."""
    rows, end = record.rows, {"method": "plain", "epoch": 1.0}
    gain = 100 - 100 * losses(rows, "normalized_entropy", setting="KuaiRand", **end)
    best, ours = (losses(rows, m, setting="AdsWorld", **end) for m in ("bayes_auc", "auc"))
    lacks = (best - ours).groupby("objective").mean()  # of AUC
    return by_name(gap=gap_closed(rows), gain=gain, least=lacks.min(), most=lacks.max())

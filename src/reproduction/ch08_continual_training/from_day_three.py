"""Chapter 8, second round of claim C8: do the gains fade from day 3 on, and at which rates?

The first days say how fast a model learns from nothing; fading is what comes after. It is measured
at the rates tuned for two epochs a day, where plain training remembers little, and at the rates
tuned for one, where plain training collapses first and has something to recover from.
"""

from __future__ import annotations

import pandas as pd

from reproduction.ch08_continual_training.experiment import mean_by_day, slope
from reproduction.measure import curve
from reproduction.runs import Profile, Run, over_seeds, run_all
from reproduction.tuning import TUNING_DAYS, tuned

CHAPTER = "from_day_three"
NAME = "from_day_three"
SEEDS = tuple(range(20, 28))

FIRST_DAY = 3
DAYS, LONGER = 10, 20
FEWER_SEEDS = 3  # of the longer stream
TWO, ONE = "tuned for two epochs", "tuned for one epoch"
METHODS = ("plain", "fal", "meda_groups")


def runs(days: int) -> list[Run]:
    """Returns the runs of one seed: three methods at both sets of rates, and one epoch a day."""
    one = tuned("plain", 1, days=TUNING_DAYS)
    found = [_run("plain", 1, one, days, ONE)]
    for method in METHODS:
        two = tuned(method, 2, days=TUNING_DAYS)
        found.append(_run(method, 2, two, days, TWO))
        rates = dict(dense_lr=one.dense_lr, embedding_lr=one.embedding_lr)
        found.append(
            _run(method, 2, type(two)(**rates, hyperparameter=two.hyperparameter), days, ONE)
        )
    return found


def _run(method: str, epochs: int, best, days: int, rates: str) -> Run:
    setting = f"{epochs} epochs@{rates}@{days} days"
    lrs = best.dense_lr, best.embedding_lr
    return Run(method, 0, *lrs, best.hyperparameter, setting=setting, epochs=epochs, days=days)


def run(profile: Profile, device: str = "auto", seeds=None, store=None, log=print) -> pd.DataFrame:
    """Returns rows of runs.COLUMNS, with `epochs`, `rates` and `days` in place of `setting`."""
    seeds = seeds or SEEDS
    todo = over_seeds(seeds, runs(DAYS)) + over_seeds(seeds[:FEWER_SEEDS], runs(LONGER))
    rows = run_all(todo, profile, device, store, log)
    rows = rows[rows["metric"].isin(["logloss", "expected_logloss"])]
    parts = rows["setting"].str.split("@", expand=True)
    numbers = {"epochs": parts[0].str[0].astype(int), "days": parts[2].str[:2].astype(int)}
    return rows.drop(columns="setting").assign(rates=parts[1], **numbers)


def against(
    rows: pd.DataFrame, method: str, rates: str, days: int = DAYS, base_epochs: int = 2
) -> pd.Series:
    """Returns a method's next-day loss against plain training's in %, by day, seed and objective.

    Plain training has the same rates, except that its one epoch a day has those tuned for one.
    """
    mine = curve(rows[rows["days"] == days], "expected_logloss")
    keys = ["epoch", "seed", "objective"]
    ours = mine[(mine["method"] == method) & (mine["rates"] == rates) & (mine["epochs"] == 2)]
    theirs = mine[(mine["method"] == "plain") & (mine["epochs"] == base_epochs)]
    theirs = theirs[theirs["rates"] == (rates if base_epochs == 2 else ONE)]
    ours, theirs = (one.set_index(keys)["value"] for one in (ours, theirs))
    return (100 * (ours / theirs - 1)).rename_axis(["day", "seed", "objective"])


def by_day(rows: pd.DataFrame, method: str, rates: str, **which) -> pd.DataFrame:
    """Returns `against` averaged over objectives: a row a day, a column a seed."""
    return mean_by_day(against(rows, method, rates, **which))


def judge(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the evidence of C8's second round."""
    found = []
    for days in sorted(set(rows["days"])):
        point = f"{days} days"
        for name, method in (("fal_tuned", "fal"), ("meda_tuned", "meda_groups")):
            found.append((name, point, slope(against(rows, method, TWO, days), FIRST_DAY)))
        plain = against(rows, "plain", ONE, days, base_epochs=1)
        found.append(("plain_recovers", point, slope(plain, FIRST_DAY)))
    return pd.DataFrame(
        [
            {"claim": "C8", "measure": name, "point": point, "seed": int(seed), "value": value}
            for name, point, values in found
            for seed, value in values.items()
        ]
    )

"""Chapter 8, claims C8 and C11: day after day, judged on the next day, each method tuned."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from multiepoch.stats import interval
from reproduction.measure import curve, evidence
from reproduction.runs import Profile, Run, over_seeds, run_all
from reproduction.tuning import TUNING_DAYS, tuned

CHAPTER = "08"
NAME = "ch08_continual_training"
DEFAULT = "default drift and churn"
ONE_EPOCH, MORE_DATA = "plain, 1 epoch", "plain, 1 epoch over twice the data"
SAME_RATES = "plain, 2 epochs at the rates for one"
# Constants of the world: none, the default, strong (three times the default's).
CHANGES = {
    "no drift, no churn": {"drift": 0.0, "churn": 0.0},
    DEFAULT: {},
    "strong drift and churn": {"drift": 0.12, "churn": 0.15},
}
MEDA = ("meda", "meda_restored", "meda_groups")
TWO_EPOCHS = ("plain", "fal", *MEDA, "adamar", "day_tail_rewind")
SPAN = 3  # days at the start and at the end over which a method is summed up


def label(method: str, epochs: int) -> str:
    """How rows name a method and its epochs a day, in their setting."""
    return f"{method}, {epochs} epoch{'s' if epochs > 1 else ''}"


def n_days(profile: Profile) -> int:
    return {"quick": 4, "gpu": 30}.get(profile.name, 10)


def runs(days: int, changes: str = DEFAULT, methods=TWO_EPOCHS, three=()) -> list[Run]:
    """One epoch a day, each method with two, some with three, and the controls.

    Three epochs take the rates of two. The controls are one epoch over twice the data, and two at
    the rates for one: plain training's best rates for two epochs are low, to remember little.
    """

    def run(method: str, epochs: int, tuned_epochs: int, **more) -> Run:
        t = tuned(method, tuned_epochs, days=TUNING_DAYS)
        setting = more.pop("setting", label(method, epochs))
        return Run(method, 0, t.dense_lr, t.embedding_lr, t.hyperparameter, epochs=epochs, days=days,
                   world=CHANGES[changes], setting=f"{setting}; {changes}", **more)  # fmt: skip

    return [
        *(run(method, 3, 2) for method in three),  # the longest first: at the end, none waits
        *(run(method, 2, 2) for method in methods),
        run("plain", 2, 1, setting=SAME_RATES),
        run("plain", 1, 1, setting=MORE_DATA, times_data=2.0),
        run("plain", 1, 1),
    ]


def run(profile: Profile, device: str = "auto", seeds=None, store=None, log=print) -> pd.DataFrame:
    """The profiles long and gpu have more of three epochs, long the other drift and churn too."""
    three = ("plain", "day_tail_rewind") if profile.name in ("long", "gpu") else ("plain",)
    todo = runs(n_days(profile), three=three)
    if profile.name == "long":
        few = ("plain", "fal", "meda_groups", "day_tail_rewind")
        todo += [one for changes in CHANGES if changes != DEFAULT
                 for one in runs(n_days(profile), changes, few)]  # fmt: skip
    return run_all(over_seeds(seeds or profile.seeds, todo), profile, device, store, log)


def gain(rows: pd.DataFrame, setting: str, base: str = ONE_EPOCH, changes: str = DEFAULT):
    """Next-day logloss of a setting against that of `base` in %, by day, seed and objective.

    Negative where the setting is better. A Series with those three as its index.
    """
    ours, theirs = (
        curve(rows[rows["setting"] == f"{name}; {changes}"]).set_index(
            ["epoch", "seed", "objective"]
        )["value"]
        for name in (setting, base)
    )
    return (100 * (ours / theirs - 1)).rename_axis(["day", "seed", "objective"])


def mean_by_day(by_day: pd.Series) -> pd.DataFrame:
    """Mean over objectives of what `gain` gives: a row a day, a column a seed."""
    return by_day.groupby(["day", "seed"]).mean().unstack("seed")


def slope(by_day: pd.Series, first: int = 1) -> pd.Series:
    """Least-squares rise by day from day `first` on, mean over objectives, by seed."""
    table = mean_by_day(by_day).loc[first:]
    return pd.Series(np.polyfit(table.index, table.to_numpy(), 1)[0], index=table.columns)


def first_days(by_day: pd.Series) -> pd.Series:
    """Mean over objectives and the first days, by seed."""
    return mean_by_day(by_day).iloc[:SPAN].mean()


def last_days(by_day: pd.Series) -> pd.Series:
    """Mean over objectives and the last days, by seed."""
    return mean_by_day(by_day).iloc[-SPAN:].mean()


def course(by_day: pd.Series) -> str:
    """What becomes of a gain or a lag from day to day, as far as the intervals over seeds tell."""
    if len(by_day.index.unique("seed")) < 2:
        return "from one seed, which settles nothing"
    rise, early, late = map(_sign, (slope(by_day), first_days(by_day), last_days(by_day)))
    if rise == 0:
        return "no rise or fall that these seeds can tell"
    it, other, moves = ("gain", "lag", "loses") if rise > 0 else ("lag", "gain", "gains")
    if early == 0:
        return f"it {moves} ground, from no gain or lag that these seeds can tell"
    if early == rise:
        return f"its {other} grows"
    ends = {-rise: "", 0: " to none that these seeds can tell"}
    return f"its {it} turns into a {other}" if late == rise else f"its {it} shrinks{ends[late]}"


def _sign(values: pd.Series) -> int:
    """1 or -1 where the interval lies above or below zero, 0 where it lies across."""
    _, low, high = interval(values)
    return int(low > 0) - int(high < 0)


def best_meda(rows: pd.DataFrame) -> str:
    """The meaning of MEDA that does best over the last days."""
    return min(MEDA, key=lambda name: last_days(gain(rows, label(name, 2))).mean())


def judge(rows: pd.DataFrame) -> pd.DataFrame:
    """The evidence for C8 and for the continual half of C11."""
    plain, ours = label("plain", 2), label("day_tail_rewind", 2)
    return pd.concat(
        [
            evidence(
                "C8",
                fal_slope=slope(gain(rows, label("fal", 2), plain)),
                meda_slope=slope(gain(rows, label("meda_groups", 2), plain)),
            ),
            evidence(
                "C11",
                days_fal=last_days(gain(rows, ours, label("fal", 2))),
                days_meda=last_days(gain(rows, ours, label(best_meda(rows), 2))),
            ),
        ],
        ignore_index=True,
    )


def growth(profile: Profile, seed: int, below: float) -> pd.DataFrame:
    """Rows of each table by day: seen so far, touched on the day, touched fewer than `below` times.

    Columns day (from 1 on, as in result rows), table, rows, touched, infrequent.
    """
    world, days, found = profile.world(seed), n_days(profile), []
    tables = world.schema(days).cardinality
    seen = {name: torch.zeros(n, dtype=torch.bool) for name, n in tables.items()}
    for day in range(days):
        for table, ids in world.day(day).ids.items():
            counts = torch.bincount(ids, minlength=tables[table])
            seen[table] |= counts > 0
            found.append({"day": day + 1, "table": table, "rows": int(seen[table].sum()),
                          "touched": int((counts > 0).sum()),
                          "infrequent": int(((counts > 0) & (counts < below)).sum())})  # fmt: skip
    return pd.DataFrame(found)


def memory(grown: pd.DataFrame, dim: int) -> pd.DataFrame:
    """Bytes by day that follow from `growth`, for rows of `dim` floats under Adam.

    Columns tables, moments: of the rows seen so far; first_epoch, later_epochs: of tail rewind's
    undo log. It has an id and a count (8 and 4 bytes) for each row touched and, for each row that
    may go back, its id, weights and moments: at first every row touched, then the infrequent ones.
    """
    by_day = grown.groupby("day")[["rows", "touched", "infrequent"]].sum()
    weights = 4 * dim
    counted, kept = 8 + 4, 8 + 3 * weights
    return pd.DataFrame(
        {
            "tables": by_day["rows"] * weights,
            "moments": by_day["rows"] * 2 * weights,
            "first_epoch": by_day["touched"] * (counted + kept),
            "later_epochs": by_day["touched"] * counted + by_day["infrequent"] * kept,
        }
    )

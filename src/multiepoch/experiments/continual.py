"""Chapter 8, claims C8 and C11: day after day, judged on the next day, each method tuned."""

from __future__ import annotations

import numpy as np
import pandas as pd

from multiepoch.experiments.measure import curve, evidence
from multiepoch.experiments.profiles import Profile
from multiepoch.experiments.runs import Run, over_seeds, run_all
from multiepoch.experiments.tuning import TUNING_DAYS, tuned

DEFAULT = "default drift and churn"
ONE_PASS, MORE_DATA = "plain, 1 pass", "plain, 1 pass over twice the data"
# Constants of the world: none, the default, strong (three times the default's).
CHANGES = {
    "no drift, no churn": {"drift": 0.0, "churn": 0.0},
    DEFAULT: {},
    "strong drift and churn": {"drift": 0.12, "churn": 0.15},
}
MEDA = ("meda", "meda_restored", "meda_groups")
TWO_PASSES = ("plain", "fal", *MEDA, "adamar", "day_tail_rewind")
LAST = 3  # days at the end over which a method is summed up


def label(method: str, passes: int) -> str:
    """How rows name a method and its passes a day, in their setting."""
    return f"{method}, {passes} pass{'es' if passes > 1 else ''}"


def n_days(profile: Profile) -> int:
    return {"quick": 4, "gpu": 30}.get(profile.name, 10)


def runs(days: int, changes: str = DEFAULT, methods=TWO_PASSES, three=("plain", "day_tail_rewind")):
    """One pass a day, the same over twice the data, then each method with two and some with three.

    Three passes take the rates of two.
    """

    def run(method: str, passes: int, tuned_passes: int, **more) -> Run:
        t = tuned(method, tuned_passes, days=TUNING_DAYS)
        setting = more.pop("setting", label(method, passes))
        return Run(method, 0, t.dense_lr, t.embedding_lr, t.knob, passes=passes, days=days,
                   world=CHANGES[changes], setting=f"{setting}; {changes}", **more)  # fmt: skip

    return [
        run("plain", 1, 1),
        run("plain", 1, 1, setting=MORE_DATA, times_data=2.0),
        *(run(method, 2, 2) for method in methods),
        *(run(method, 3, 2) for method in three),
    ]


def run(profile: Profile, device: str = "auto", seeds=None, store=None, log=print) -> pd.DataFrame:
    """The long profile has the other drift and churn rates too."""
    todo = runs(n_days(profile))
    if profile.name == "long":
        few = ("plain", "fal", "meda_groups", "day_tail_rewind")
        todo += [one for changes in CHANGES if changes != DEFAULT
                 for one in runs(n_days(profile), changes, few, three=())]  # fmt: skip
    return run_all(over_seeds(seeds or profile.seeds, todo), profile, device, store, log)


def gain(rows: pd.DataFrame, setting: str, base: str = ONE_PASS, changes: str = DEFAULT):
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


def slope(by_day: pd.Series) -> pd.Series:
    """Least-squares rise by day, mean over objectives, by seed."""
    table = by_day.groupby(["day", "seed"]).mean().unstack("seed")
    return pd.Series(np.polyfit(table.index, table.to_numpy(), 1)[0], index=table.columns)


def last_days(by_day: pd.Series) -> pd.Series:
    """Mean over objectives and the last days, by seed."""
    days = by_day.index.get_level_values("day")
    return by_day[days > days.max() - LAST].groupby("seed").mean()


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


def growth(profile: Profile, seed: int) -> pd.DataFrame:
    """By day: rows seen so far in each table, and rows that the day touches at all.

    Columns day, table, rows (seen so far), touched (on that day).
    """
    world, seen, found = profile.world(seed), {}, []
    for day in range(n_days(profile)):
        for table, ids in world.day(day).ids.items():
            today = ids.unique()
            seen[table] = np.union1d(seen.get(table, today), today)
            found.append({"day": day, "table": table, "rows": len(seen[table]),
                          "touched": len(today)})  # fmt: skip
    return pd.DataFrame(found)

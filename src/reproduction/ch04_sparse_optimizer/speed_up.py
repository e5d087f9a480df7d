"""Chapter 4, second round of claim C2: the gain of a rate of the tables' own, rule by rule."""

from __future__ import annotations

import pandas as pd

from reproduction.measure import curve, samples_to
from reproduction.runs import Profile, Run, over_seeds, run_all
from reproduction.tuning import DEEP, tuned

CHAPTER = "speed_up"
NAME = "speed_up"
SEEDS = tuple(range(20, 28))  # no pilot and no tuning has seen them

POINTS = (0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.14, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
READ = (0.2, 0.5, 1.0)  # of the epoch, at which the shared rate's loss is read
SHARED, OWN = "shared", "own"
# The conditions, as fields of a Run. One rule trains the whole network.
CONDITIONS: dict[str, dict] = {
    "Adam": {},
    "Adagrad": {"rule": "adagrad", "dense_rule": "adagrad"},
    "SGD": {"rule": "sgd", "dense_rule": "sgd"},
    "Adam, deep": {"hidden": DEEP},
}


def runs() -> list[Run]:
    """Returns the runs of one seed: the tuned shared rate and the tuned pair, by condition."""
    found = []
    for name, condition in CONDITIONS.items():
        for which in (SHARED, OWN):
            best = tuned("plain", 1, shared=which == SHARED, **condition)
            rates = best.dense_lr, best.embedding_lr
            setting = f"{name}@{which}"
            found.append(Run("plain", 0, *rates, setting=setting, evaluate_at=POINTS, **condition))
    return found


def run(profile: Profile, device: str = "auto", seeds=None, store=None, log=print) -> pd.DataFrame:
    """Returns rows of runs.COLUMNS, with `condition` and `rates` in place of `setting`."""
    rows = run_all(over_seeds(seeds or SEEDS, runs()), profile, device, store, log)
    rows = rows[rows["metric"].isin(["logloss", "expected_logloss"])]
    parts = rows["setting"].str.split("@", expand=True)
    return rows.drop(columns="setting").assign(condition=parts[0], rates=parts[1])


def speed_up(rows: pd.DataFrame) -> pd.Series:
    """Returns how many times fewer samples the tables' own rate needs for the shared rate's loss.

    By condition, point of the epoch, objective and seed. It is 0 if the loss is never reached.
    """
    found = {}
    points = curve(rows, "expected_logloss")
    for key, mine in points.groupby(["condition", "objective", "seed"]):
        shared, own = (mine[mine["rates"] == which] for which in (SHARED, OWN))
        shared = shared.set_index(shared["epoch"].round(2))
        for point in READ:
            there = shared.loc[point]
            needed = samples_to(own, there["value"])
            found[key[0], point, *key[1:]] = there["samples"] / needed
    return pd.Series(found).rename_axis(["condition", "point", "objective", "seed"]).sort_index()


def judge(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the evidence of C2's second round."""
    early = speed_up(rows).xs(READ[0], level="point").unstack("condition")
    early = {name: early.xs(name, level="objective") for name in ("click", "checkout")}
    found = [
        ("adam", f"{name}, {READ[0]} of the epoch", values["Adam"])
        for name, values in early.items()
    ]
    click = early["click"]
    found.append(("sgd", "click", click["SGD"] - click[["Adam", "Adagrad"]].max(axis=1)))
    found.append(("deep", "click", click["Adam, deep"] - click["Adam"]))
    return pd.DataFrame(
        [
            {"claim": "C2", "measure": measure, "point": point, "seed": int(seed), "value": value}
            for measure, point, values in found
            for seed, value in values.items()
        ]
    )

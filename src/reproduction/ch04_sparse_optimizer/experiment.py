"""Chapter 4, claim C2: what a learning rate of the tables' own is worth in one epoch."""

from __future__ import annotations

import numpy as np
import pandas as pd

from reproduction.measure import at, by_seed, curve, evidence, percent_change, pick, samples_to
from reproduction.runs import Profile, Run, over_seeds, run_all
from reproduction.tuning import tuned

CHAPTER = "04"
NAME = "ch04_sparse_optimizer"
SHARED = "one shared rate, tuned"
OWN = "tables' own rate, tuned"
WHOLE = "whole network at the tables' rate"
MULTIPLES = (1, 3, 10, 30, 100)
POINTS = tuple(np.round(np.arange(0.1, 1.01, 0.1), 1).tolist())


def multiple(times: float) -> str:
    """The setting of the sweep in which the tables learn at `times` the dense rate."""
    return f"{times:g}x"


def runs() -> list[Run]:
    shared, own = tuned("plain", 1, shared=True), tuned("plain", 1)

    def run(setting: str, dense_lr: float, embedding_lr: float, **changes) -> Run:
        return Run("plain", 0, dense_lr, embedding_lr, setting=setting, evaluate_at=POINTS,
                   group_by="product", **changes)  # fmt: skip

    headline = [
        run(SHARED, shared.dense_lr, shared.embedding_lr),
        run(OWN, own.dense_lr, own.embedding_lr),
        run(WHOLE, own.embedding_lr, own.embedding_lr),
    ]
    sweep = [run(multiple(m), own.dense_lr, m * own.dense_lr) for m in MULTIPLES]
    rules = [
        run(f"{rule}, tuned", chosen.dense_lr, chosen.embedding_lr, rule=rule)
        for rule in ("adagrad", "rowwise_adagrad")
        for chosen in [tuned("plain", 1, rule=rule)]
    ]
    return headline + sweep + rules


def run(profile: Profile, device: str = "auto", seeds=None, store=None, log=print) -> pd.DataFrame:
    return run_all(over_seeds(seeds or profile.seeds, runs()), profile, device, store, log)


def speed_up(rows: pd.DataFrame, setting: str = OWN) -> pd.Series:
    """Samples of one epoch over the samples `setting` needs to the shared rate's loss there.

    By seed and objective; 0 where it never gets there.
    """
    target = at(pick(rows, "plain", SHARED), 1.0).droplevel(["method", "setting"])
    found = {}
    for key, points in curve(pick(rows, "plain", setting)).groupby(["seed", "objective"]):
        found[key] = points["samples"].max() / samples_to(points, target[key])
    return pd.Series(found).rename_axis(["seed", "objective"])


def judge(rows: pd.DataFrame) -> pd.DataFrame:
    """The evidence for C2."""
    end = {name: at(pick(rows, "plain", name), 1.0) for name in (SHARED, OWN, WHOLE)}
    speed = speed_up(rows)
    return evidence(
        "C2",
        speedup_click=speed.xs("click", level="objective"),
        speedup_checkout=speed.xs("checkout", level="objective"),
        one_epoch=by_seed(percent_change(end[OWN], end[SHARED])),
        control=by_seed(percent_change(end[WHOLE], end[OWN])),
    )

"""Chapter 6, claim C6: FAL's scales against the plain optimizer, at one and the same rates."""

from __future__ import annotations

import pandas as pd

from multiepoch.methods import FAL_SCALES
from reproduction.measure import KEYS, by_seed, curve, evidence, jump, percent_change, pick
from reproduction.runs import Profile, Run, over_seeds, run_all
from reproduction.tuning import tuned

CHAPTER = "06"
NAME = "ch06_frequency_adaptive_rate"
PLAIN = "no FAL"


def runs(epochs: int) -> list[Run]:
    """Plain and every scale at the plain optimizer's own best rates for one epoch."""
    rates = tuned("plain", 1)
    base = dict(seed=0, dense_lr=rates.dense_lr, embedding_lr=rates.embedding_lr, epochs=epochs)
    points = (0.1, 0.25, 0.5, 0.75, 1.0)
    return [
        Run("plain", **base, setting=PLAIN, evaluate_at=points),
        *(
            Run("fal", **base, hyperparameter=name, setting=name, evaluate_at=points)
            for name in FAL_SCALES
        ),
    ]


def run(profile: Profile, device: str = "auto", seeds=None, store=None, log=print) -> pd.DataFrame:
    epochs = min(3, profile.epochs)
    return run_all(over_seeds(seeds or profile.seeds, runs(epochs)), profile, device, store, log)


def jump_left(rows: pd.DataFrame) -> pd.DataFrame:
    """Each scale's jump as % of the plain one, both averaged over objectives: seed by setting."""
    plain = by_seed(jump(pick(rows, "plain")))
    left = jump(pick(rows, "fal")).groupby(["setting", "seed"]).mean().unstack("setting")
    return left.div(plain, axis=0) * 100


def best(rows: pd.DataFrame) -> pd.Series:
    """The lowest logloss of each run, by KEYS."""
    return curve(rows).groupby(KEYS, sort=False)["value"].min()


def judge(rows: pd.DataFrame) -> pd.DataFrame:
    """The evidence for C6."""
    log, linear = (best(pick(rows, "fal", name)) for name in ("log", "linear"))
    return evidence(
        "C6", jump_left=jump_left(rows)["log"], log_linear=by_seed(percent_change(log, linear))
    )

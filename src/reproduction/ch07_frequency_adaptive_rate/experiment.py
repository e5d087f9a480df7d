"""Chapter 7, claim C6: FAL's scales against the plain optimizer, at one and the same rates."""

from collections.abc import Sequence

import pandas as pd

from multiepoch.methods import FAL_SCALES
from reproduction.measure import by_seed, curve, jump, losses, pick, relative
from reproduction.runs import Profile, Run, over_seeds, run_all
from reproduction.tuning import tuned

NAME = "ch07_frequency_adaptive_rate"
PLAIN = "no FAL"
LIVE = ("log", "linear", "square root", "threshold 20")  # the others only in long and gpu


def runs(epochs: int, scales: Sequence[str] = tuple(FAL_SCALES)) -> list[Run]:
    """Returns plain and the scales at the plain optimizer's own best rates for one epoch."""
    rates = tuned("plain", 1)
    base = dict(seed=0, dense_lr=rates.dense_lr, embedding_lr=rates.embedding_lr, epochs=epochs)
    base["evaluate_at"] = (0.1, 0.25, 0.5, 0.75, 1.0)
    fal = [Run("fal", **base, hyperparameter=name, setting=name) for name in scales]
    return [Run("plain", **base, setting=PLAIN), *fal]


def run(profile: Profile, device: str = "auto", seeds=None, store=None, log=print) -> pd.DataFrame:
    """Trains the scales for up to three epochs and returns rows of `runs.COLUMNS`."""
    scales = tuple(FAL_SCALES) if profile.name in ("long", "gpu") else LIVE
    todo = over_seeds(seeds or profile.seeds, runs(min(3, profile.epochs), scales))
    return run_all(todo, profile, device, store, log)


def ran(rows: pd.DataFrame) -> list[str]:
    """Returns the scales that the rows have, in the order of FAL_SCALES."""
    found = set(rows["setting"])
    return [name for name in FAL_SCALES if name in found]


def jump_left(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns each scale's jump as % of the plain one, over objectives: seed by setting."""
    plain = by_seed(jump(pick(rows, "plain")))
    left = jump(pick(rows, "fal")).groupby(["setting", "seed"]).mean().unstack("setting")
    return left.div(plain, axis=0) * 100


def best_against(rows: pd.DataFrame, other: str) -> pd.DataFrame:
    """Returns each run's lowest logloss against another setting's in %: seed by setting."""
    best = curve(rows).groupby(["setting", "seed", "objective"], sort=False)["value"].min()
    best = best.unstack("setting")
    return 100 * (best.div(best[other], axis=0) - 1).groupby("seed").mean()


def against_plain(rows: pd.DataFrame, scale: str, epoch: float) -> pd.Series:
    """Returns a scale's logloss against the plain one at a point of training, in % by seed."""
    ours = losses(rows, method="fal", setting=scale, epoch=epoch)
    return by_seed(relative(ours, losses(rows, method="plain", setting=PLAIN, epoch=epoch)))

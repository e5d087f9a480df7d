"""Chapter 7, claims C7 and C11: every remedy tuned, and the map of who wins where."""

from __future__ import annotations

import pandas as pd

from multiepoch.experiments.measure import KEYS, at, by_seed, curve, evidence, pick, worse
from multiepoch.experiments.methods import METHODS
from multiepoch.experiments.profiles import Profile
from multiepoch.experiments.runs import Run, over_seeds, run_all
from multiepoch.experiments.tuning import tuned

TUNED = "tuned"
TAUS = (10, 20, 50, 100, 200, 500, 2_000, "all")
POINTS = (1.25, 1.5, 2.0, 2.25, 2.5, 3.0, 3.25, 3.5, 4.0)
MAP_METHODS = ("plain", "fal", "meda", "tail_rewind")
MAP_RATES = (10**-0.5, 1.0, 10**0.5)  # of the tables' best rate for one pass
MAP_SCALES = (0.5, 1.0, 2.0)  # of users and products; impressions stay the same


def headline(passes: int) -> list[Run]:
    """Each method at its own best rates and knob for three passes."""
    return [
        Run(name, 0, t.dense_lr, t.embedding_lr, t.knob, setting=TUNED, passes=passes)
        for name in METHODS
        for t in [tuned(name, 3)]
    ]


def threshold_sweep(passes: int) -> list[Run]:
    """Tail rewind from few rows to all of them, at its own best rates."""
    t = tuned("tail_rewind", 3)
    return [Run("tail_rewind", 0, t.dense_lr, t.embedding_lr, tau, setting=f"tau {tau}",
                passes=passes) for tau in TAUS]  # fmt: skip


def map_runs(methods=MAP_METHODS, rates=MAP_RATES, scales=MAP_SCALES) -> list[Run]:
    """Methods over the tables' rate and the cardinality, at the plain dense rate for one pass."""
    one_pass = tuned("plain", 1)
    return [
        Run(name, 0, one_pass.dense_lr, rate * one_pass.embedding_lr, tuned(name, 3).knob,
            setting=cell(rate, scale), passes=3, scale=scale)
        for scale in scales
        for rate in rates
        for name in methods
    ]  # fmt: skip


def cell(rate: float, scale: float) -> str:
    """How the map names a cell."""
    return f"rate x{rate:.2g}, cardinality x{scale:g}"


def run(profile: Profile, device: str = "auto", seeds=None, store=None, log=print) -> pd.DataFrame:
    """The long profile has the whole map and the sweep of tau, others the corners of the map."""
    passes = profile.passes
    if profile.name == "long":
        todo = headline(passes) + map_runs() + threshold_sweep(passes)
    else:
        corners = map_runs(("fal", "meda"), MAP_RATES[::2], MAP_SCALES[::2])
        todo = headline(passes) + corners
    return run_all(over_seeds(seeds or profile.seeds, todo), profile, device, store, log)


def wins(rows: pd.DataFrame) -> pd.DataFrame:
    """FAL against MEDA in each case of the map: setting, objective, epoch, seed, value in %."""
    points = curve(rows[rows["setting"].str.startswith("rate")])
    points = points[points["epoch"] > 1]
    keys = ["setting", "objective", "epoch", "seed"]
    fal, meda = (pick(points, name).set_index(keys)["value"] for name in ("fal", "meda"))
    return (100 * (fal / meda - 1)).rename("value").reset_index()


def against(rows: pd.DataFrame, method: str, other: str) -> pd.DataFrame:
    """Logloss of one tuned method against another's in %, mean over objectives: seed by epoch."""
    mine, theirs = (
        curve(pick(rows, name, TUNED)).groupby(["seed", "epoch", "objective"])["value"].mean()
        for name in (method, other)
    )
    return (100 * (mine / theirs - 1)).groupby(["seed", "epoch"]).mean().unstack("epoch")


def judge(rows: pd.DataFrame) -> pd.DataFrame:
    """The evidence for C7 and for the fixed-window half of C11."""
    fal_wins = wins(rows).assign(value=lambda w: 100.0 * (w["value"] < 0))
    end = {name: at(pick(rows, name, TUNED), 3.0) for name in ("fal", "meda")}
    after_first = [epoch for epoch in POINTS if epoch <= rows["epoch"].max()]
    worst = {f"worst_{other}": against(rows, "tail_rewind", other)[after_first].max(axis=1)
             for other in ("fal", "meda")}  # fmt: skip
    return pd.concat(
        [
            evidence("C7", cases=fal_wins.groupby("seed")["value"].mean(),
                     tuned=by_seed(worse(end["fal"], end["meda"]))),
            evidence("C11", **worst),
        ],
        ignore_index=True,
    )  # fmt: skip


def best_by_run(rows: pd.DataFrame) -> pd.Series:
    """The lowest logloss of each run, by KEYS."""
    return curve(rows).groupby(KEYS, sort=False)["value"].min()

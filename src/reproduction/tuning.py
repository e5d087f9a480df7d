"""Rates and grid: each candidate gets the same kind of search, on days and seeds of their own.

Tuned: the dense rate, the tables' rate, and the method's hyperparameter. Fixed: model, batch size, Adam's
betas, window. Nuisance: the seed, averaged over. Trials train on the tuning seeds' worlds and are
scored on the validation day; reported runs use other seeds and the test day. KuaiRand is one log
for all seeds. A best trial on an edge widens the grid, so the number of trials differs.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pandas as pd

from multiepoch.methods import ALL_METHODS, METHODS, Hyperparameter
from reproduction.measure import KEYS, curve
from reproduction.runs import Profile, Run, run_all

CHAPTER = NAME = "tuning"
STEP = 10**0.5  # neighbours in the grid of rates
DENSE_LR = (10**-3.5, 1e-3, 10**-2.5)
EMBEDDING_LR = (1e-3, 10**-2.5, 1e-2, 10**-1.5)
SHARED_LR = (10**-3.5, 1e-3, 10**-2.5, 1e-2)
ADAGRAD_LR = (10**-2.5, 1e-2, 10**-1.5, 1e-1)
FINER = 10**0.25  # half a step, for methods without a hyperparameter


@dataclass(frozen=True)
class Candidate:
    """What is tuned, and on what it is scored.

    A window is scored at the end of the last epoch; days are scored on their mean, the first two
    left out, since a model starts from nothing only once.
    """

    method: str
    epochs: int
    rule: str = "adam"
    shared: bool = False  # one rate for the whole network
    data: str = "world"
    days: int = 0

    @property
    def name(self) -> str:
        what = "shared" if self.shared else self.method
        what = what if self.rule == "adam" else f"{what} {self.rule}"
        where = ", days" if self.days else "" if self.data == "world" else f", {self.data}"
        return f"{what}, {self.epochs} epoch{'s' if self.epochs > 1 else ''}{where}"


ONE_EPOCH = [
    Candidate("plain", 1, shared=True),
    Candidate("plain", 1),
    Candidate("plain", 1, rule="adagrad"),
    Candidate("plain", 1, rule="rowwise_adagrad"),
]
THREE_EPOCHS = [Candidate(name, 3) for name in METHODS]
ON_KUAIRAND = [Candidate("plain", 1, data="kuairand"),
               *(Candidate(name, 3, data="kuairand") for name in METHODS)]  # fmt: skip
TUNING_DAYS = 5
DAY_BY_DAY = [Candidate(name, epochs, days=TUNING_DAYS) for name, epochs in (
    ("plain", 1), ("plain", 2), ("fal", 2), ("meda", 2), ("meda_restored", 2), ("meda_groups", 2),
    ("adamar", 2), ("day_tail_rewind", 2))]  # fmt: skip
CANDIDATES = {one.name: one for one in [*ONE_EPOCH, *THREE_EPOCHS, *ON_KUAIRAND, *DAY_BY_DAY]}


@dataclass(frozen=True)
class Tuned:
    """The best trial of a candidate."""

    dense_lr: float
    embedding_lr: float
    hyperparameter: Hyperparameter


def score(rows: pd.DataFrame, candidate: Candidate) -> pd.Series:
    """Normalized entropy, mean over objectives, by (setting, seed). Lower is better."""
    points = curve(rows)
    at_end = points["epoch"] == candidate.epochs
    points = points[points["epoch"] > 2 if candidate.days else at_end]
    losses = points.groupby(KEYS)["value"].mean()
    constant = rows[rows["metric"] == "constant_logloss"].set_index(KEYS)["value"]
    return (losses / constant).groupby(["setting", "seed"]).mean()


def tune(
    candidate: Candidate, profile: Profile, device: str, store=None, log=print
) -> pd.DataFrame:
    """Every trial of a candidate: columns candidate, stage, dense_lr, embedding_lr, hyperparameter, score.

    Stage "rates" searches the grid at the default hyperparameter and widens it where the best is on an
    edge; stage "hyperparameter" tries the other hyperparameters at the best rates, or, for a method without one,
    rates half a step away.
    """
    method = ALL_METHODS[candidate.method]
    # A day-by-day trial costs as much as several windows, so it has one tuning world.
    seeds = profile.tuning_seeds[:1] if candidate.days else profile.tuning_seeds
    trials: dict[tuple, tuple[str, float]] = {}

    def evaluate(stage: str, points: list[tuple[float, float, Hyperparameter]]) -> None:
        points = [p for p in points if p not in trials]
        runs = [
            Run(candidate.method, seed, dense, embedding, hyperparameter, epochs=candidate.epochs,
                rule=candidate.rule, data=candidate.data, days=candidate.days,
                evaluate_at=(1.0,), on="validation", setting=json.dumps([dense, embedding, hyperparameter]))
            for dense, embedding, hyperparameter in points
            for seed in seeds
        ]  # fmt: skip
        if runs:
            scores = score(run_all(runs, profile, device, store, log), candidate)
            for point in points:
                trials[point] = stage, float(scores[json.dumps(list(point))].mean())

    def best() -> tuple[float, float, Hyperparameter]:
        return min(trials, key=lambda point: trials[point][1])

    default = method.grid[0]
    if candidate.shared:
        grid = {lr: lr for lr in SHARED_LR}
        evaluate("rates", [(lr, lr, default) for lr in grid])
        while best()[0] in (min(grid), max(grid)):
            at_low = best()[0] == min(grid)
            lr = min(grid) / STEP if at_low else max(grid) * STEP
            grid[lr] = lr
            evaluate("widened", [(lr, lr, default)])
    else:
        dense_grid = list(DENSE_LR)
        embedding_grid = list(ADAGRAD_LR if "adagrad" in candidate.rule else EMBEDDING_LR)
        evaluate("rates", [(d, e, default) for d in dense_grid for e in embedding_grid])
        while True:
            dense, embedding, _ = best()
            if dense in (min(dense_grid), max(dense_grid)):
                dense_grid.append(_beyond(dense_grid, dense))
                evaluate("widened", [(dense_grid[-1], e, default) for e in embedding_grid])
            elif embedding in (min(embedding_grid), max(embedding_grid)):
                embedding_grid.append(_beyond(embedding_grid, embedding))
                evaluate("widened", [(d, embedding_grid[-1], default) for d in dense_grid])
            else:
                break
    dense, embedding, _ = best()
    if method.hyperparameter:
        evaluate(
            "hyperparameter",
            [(dense, embedding, hyperparameter) for hyperparameter in method.grid[1:]],
        )
    elif candidate.shared:
        evaluate("finer", [(dense * f, dense * f, default) for f in (FINER, 1 / FINER)])
    else:
        evaluate("finer", [(dense * f, embedding * g, default)
                           for f, g in ((FINER, 1), (1 / FINER, 1), (1, FINER), (1, 1 / FINER),
                                        (FINER, FINER))])  # fmt: skip
    return pd.DataFrame(
        [
            {"candidate": candidate.name, "stage": stage, "dense_lr": d, "embedding_lr": e,
             "hyperparameter": json.dumps(hyperparameter), "score": value, "best": (d, e, hyperparameter) == best()}
            for (d, e, hyperparameter), (stage, value) in trials.items()
        ]
    )  # fmt: skip


def _beyond(grid: list[float], edge: float) -> float:
    return edge / STEP if edge == min(grid) else edge * STEP


def run(
    profile: Profile, device: str = "auto", seeds=None, store=None, log=print, only: str = ""
) -> pd.DataFrame:
    """Tunes every candidate, or those whose name has `only` in it. ValueError where none has.

    `seeds` is there for the common signature; tuning has its own.
    """
    chosen = [candidate for name, candidate in CANDIDATES.items() if only in name]
    if not chosen:
        raise ValueError(f"no candidate has {only!r} in its name; there are {list(CANDIDATES)}.")
    return pd.concat([tune(c, profile, device, store, log) for c in chosen], ignore_index=True)


def merge(kept: pd.DataFrame, trials: pd.DataFrame) -> pd.DataFrame:
    """The kept trials with those candidates replaced or added that were tuned again."""
    kept = kept[~kept["candidate"].isin(trials["candidate"])]
    places = {name: place for place, name in enumerate(CANDIDATES)}
    merged = pd.concat([kept, trials], ignore_index=True)
    return merged.sort_values("candidate", key=lambda names: names.map(places), kind="stable",
                              ignore_index=True)  # fmt: skip


_TUNED = Path(__file__).with_name("tuned.json")


def write_tuned(trials: pd.DataFrame, path: Path = _TUNED) -> None:
    """Keeps the best trial of each candidate where every profile finds it, beside those there."""
    chosen = {
        row.candidate: {"dense_lr": row.dense_lr, "embedding_lr": row.embedding_lr,
                        "hyperparameter": json.loads(row.hyperparameter)}
        for row in trials[trials["best"]].itertuples()
    }  # fmt: skip
    kept = json.loads(path.read_text()) if path.exists() else {}
    merged = kept | chosen
    in_order = {name: merged[name] for name in CANDIDATES if name in merged}
    path.write_text(json.dumps(in_order, indent=1) + "\n")


@lru_cache(maxsize=1)
def _read() -> dict[str, dict]:
    return json.loads(_TUNED.read_text())


def tuned(method: str, epochs: int = 3, **candidate) -> Tuned:
    """The rates and hyperparameter chosen for a Candidate. KeyError names those that were tuned."""
    name = Candidate(method, epochs, **candidate).name
    if name not in _read():
        raise KeyError(f"{name!r} was not tuned; tuned.json has {', '.join(_read())}.")
    return Tuned(**_read()[name])

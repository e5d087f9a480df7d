"""Tunes every candidate by the same kind of search, on worlds and a day that no result uses.

Tuned: the dense rate, the tables' rate and the method's hyperparameter. Fixed: model, batch size,
Adam's betas, window. Nuisance: the seed, averaged over. Trials train on the tuning seeds' worlds
and are scored on the validation day; reported runs use other seeds and the test day. KuaiRand is
one log for all seeds. If the best trial lies on an edge, the grid is widened, so the number of
trials differs.
"""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import pandas as pd

from multiepoch.files import write_text
from multiepoch.methods import ALL_METHODS, METHODS, Hyperparameter
from multiepoch.train.loop import NonFiniteLoss
from reproduction.measure import KEYS, curve
from reproduction.runs import Profile, Run, run_all

NAME = "tuning"
STEP = 10**0.5  # neighbours in the grid of rates
DENSE_LR = (10**-3.5, 1e-3, 10**-2.5)
EMBEDDING_LR = (1e-3, 10**-2.5, 1e-2, 10**-1.5)
SHARED_LR = (10**-3.5, 1e-3, 10**-2.5, 1e-2)
ADAGRAD_LR = (10**-2.5, 1e-2, 10**-1.5, 1e-1)
SGD_LR = (0.1, 10**-0.5, 1.0)
SGD_EMBEDDING_LR = (10.0, 10**1.5, 100.0, 10**2.5)
DEEP = (128,) * 6
FINER = 10**0.25  # half a step, for methods without a hyperparameter


@dataclass(frozen=True)
class Candidate:
    """A method to tune, with the data and the number of epochs it is scored on.

    A window is scored at the end of the last epoch. Days are scored on their mean without the
    first two, since a model starts from nothing only once.
    """

    method: str
    epochs: int
    rule: str = "adam"
    shared: bool = False  # one rate for the whole network
    data: str = "world"
    days: int = 0
    dense_rule: str = "adam"
    hidden: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """The name that tuned.json and the record know it by."""
        method = "shared" if self.shared else self.method
        method = method if self.rule == "adam" else f"{method} {self.rule}"
        method += " throughout" if self.dense_rule != "adam" else ""
        method += ", deep" if self.hidden else ""
        data = ", days" if self.days else "" if self.data == "world" else f", {self.data}"
        return f"{method}, {self.epochs} epoch{'s' if self.epochs > 1 else ''}{data}"


TUNING_DAYS = 5
TWO_EPOCHS = ("plain", "fal", "meda", "meda_restored", "meda_groups", "adamar", "day_tail_rewind")
_CANDIDATES = [
    Candidate("plain", 1, shared=True),
    *(Candidate("plain", 1, rule=rule) for rule in ("adam", "adagrad", "rowwise_adagrad")),
    *(Candidate(name, 3) for name in METHODS),
    *(
        Candidate("plain", 1, rule=rule, dense_rule=rule, shared=shared)
        for rule in ("adagrad", "sgd")
        for shared in (True, False)
    ),
    Candidate("plain", 1, hidden=DEEP, shared=True),
    Candidate("plain", 1, hidden=DEEP),
    Candidate("plain", 1, data="kuairand"),
    *(Candidate(name, 3, data="kuairand") for name in METHODS),
    Candidate("plain", 1, days=TUNING_DAYS),
    *(Candidate(name, 2, days=TUNING_DAYS) for name in TWO_EPOCHS),
]
CANDIDATES = {one.name: one for one in _CANDIDATES}


@dataclass(frozen=True)
class Tuned:
    """The best trial of a candidate."""

    dense_lr: float
    embedding_lr: float
    hyperparameter: Hyperparameter


def score(rows: pd.DataFrame, candidate: Candidate) -> pd.Series:
    """Returns the normalized entropy, mean over objectives, by (setting, seed). Lower is better."""
    points = curve(rows)
    at_end = points["epoch"] == candidate.epochs
    points = points[points["epoch"] > 2 if candidate.days else at_end]
    losses = points.groupby(KEYS)["value"].mean()
    constant = rows[rows["metric"] == "constant_logloss"].set_index(KEYS)["value"]
    return (losses / constant).groupby(["setting", "seed"]).mean()


def tune(
    candidate: Candidate, profile: Profile, device: str, store=None, log=print
) -> pd.DataFrame:
    """Runs every trial of a candidate and returns one row per trial.

    Stage "rates" searches the grid at the default hyperparameter, and stage "widened" extends it
    while the best trial lies on an edge. Stage "hyperparameter" then tries the method's other
    hyperparameters at the best rates; a method without one tries rates half a step away ("finer").

    Returns:
        Columns candidate, stage, dense_lr, embedding_lr, hyperparameter (as JSON), score, best.
    """
    method = ALL_METHODS[candidate.method]
    # A day-by-day trial costs as much as several windows, so it has one tuning world.
    seeds = profile.tuning_seeds[:1] if candidate.days else profile.tuning_seeds
    trials: dict[tuple, tuple[str, float]] = {}
    names = ("epochs", "rule", "data", "days", "dense_rule", "hidden")
    fixed = {name: getattr(candidate, name) for name in names}
    fixed |= {"evaluate_at": (1.0,), "on": "validation"}

    def evaluate(stage: str, points: list[tuple[float, float, Hyperparameter]]) -> None:
        points = [p for p in points if p not in trials]
        runs = [
            Run(candidate.method, seed, *point, setting=json.dumps(point), **fixed)
            for point in points
            for seed in seeds
        ]
        try:
            rows = [run_all(runs, profile, device, store, log)] if runs else []
        except NonFiniteLoss:  # finished runs are kept, so asking one by one repeats none
            rows = [
                one
                for run in runs
                if (one := _or_none(run, profile, device, store, log)) is not None
            ]
        scores = score(pd.concat(rows), candidate) if rows else pd.Series()
        for point in points:
            mine = scores.get(json.dumps(point), pd.Series([math.inf]))
            trials[point] = stage, float(mine.mean() if len(mine) == len(seeds) else math.inf)

    def best() -> tuple[float, float, Hyperparameter]:
        return min(trials, key=lambda point: trials[point][1])

    default = method.grid[0]
    dense, tables = DENSE_LR, EMBEDDING_LR
    if "adagrad" in candidate.rule:
        tables = ADAGRAD_LR
    if candidate.dense_rule != "adam":
        dense, tables = (SGD_LR, SGD_EMBEDDING_LR) if candidate.rule == "sgd" else (tables, tables)
    shared = SHARED_LR if candidate.dense_rule == "adam" else dense
    grids = [list(shared)] if candidate.shared else [list(dense), list(tables)]

    def rates() -> list[tuple[float, float, Hyperparameter]]:
        return [(lrs[0], lrs[-1], default) for lrs in itertools.product(*grids)]

    evaluate("rates", rates())
    while True:
        edges = [(g, lr) for g, lr in zip(grids, best()) if lr in (min(g), max(g))]
        if not edges:
            break
        grid, edge = edges[0]
        grid.append(edge / STEP if edge == min(grid) else edge * STEP)
        evaluate("widened", rates())
    dense, embedding, _ = best()
    up, down = FINER, 1 / FINER
    if method.hyperparameter:
        evaluate("hyperparameter", [(dense, embedding, value) for value in method.grid[1:]])
    else:
        both, apart = [(up, up), (down, down)], [(up, 1), (down, 1), (1, up), (1, down), (up, up)]
        steps = both if candidate.shared else apart
        evaluate("finer", [(dense * f, embedding * g, default) for f, g in steps])
    found = pd.DataFrame(list(trials), columns=["dense_lr", "embedding_lr", "hyperparameter"])
    found["best"] = [point == best() for point in trials]
    found["hyperparameter"] = [json.dumps(hyperparameter) for _, _, hyperparameter in trials]
    found[["stage", "score"]] = list(trials.values())
    return found.assign(candidate=candidate.name)


def _or_none(run: Run, *how) -> pd.DataFrame | None:
    """Returns the rows of a trial, or None if it diverged."""
    try:
        return run_all([run], *how)
    except NonFiniteLoss:
        return None


def run(
    profile: Profile, device: str = "auto", seeds=None, store=None, log=print, only: str = ""
) -> pd.DataFrame:
    """Tunes every candidate, or those whose name contains `only`.

    `seeds` belongs to the common signature and is ignored: tuning has seeds of its own.

    Raises:
        ValueError: If no name contains `only`. The message lists the candidates.
    """
    chosen = [candidate for name, candidate in CANDIDATES.items() if only in name]
    if not chosen:
        raise ValueError(f"no candidate's name contains {only!r}; there are {list(CANDIDATES)}.")
    return pd.concat([tune(c, profile, device, store, log) for c in chosen], ignore_index=True)


def merge(kept: pd.DataFrame, trials: pd.DataFrame) -> pd.DataFrame:
    """Returns the kept trials, with the candidates that were tuned again replaced or added."""
    kept = kept[~kept["candidate"].isin(trials["candidate"])]
    places = {name: place for place, name in enumerate(CANDIDATES)}
    merged = pd.concat([kept, trials], ignore_index=True)
    order = merged["candidate"].map(places).argsort(kind="stable")
    return merged.iloc[order].reset_index(drop=True)


_TUNED = Path(__file__).with_name("tuned.json")


def write_tuned(trials: pd.DataFrame, path: Path = _TUNED) -> None:
    """Adds the best trial of each candidate to tuned.json, which every profile reads."""
    chosen = {
        row.candidate: asdict(Tuned(row.dense_lr, row.embedding_lr, json.loads(row.hyperparameter)))
        for row in trials[trials["best"]].itertuples()
    }
    kept = json.loads(path.read_text()) if path.exists() else {}
    merged = kept | chosen
    in_order = {name: merged[name] for name in CANDIDATES if name in merged}
    write_text(path, json.dumps(in_order, indent=1) + "\n")


@lru_cache(maxsize=1)
def _read() -> dict[str, dict]:
    return json.loads(_TUNED.read_text())


def tuned(method: str, epochs: int = 3, **candidate) -> Tuned:
    """Returns the rates and the hyperparameter chosen for a Candidate.

    Raises:
        KeyError: If it was not tuned. The message lists those that were.
    """
    name = Candidate(method, epochs, **candidate).name
    if name not in _read():
        raise KeyError(f"{name!r} was not tuned; tuned.json has {', '.join(_read())}.")
    return Tuned(**_read()[name])

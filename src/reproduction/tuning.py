"""One search for every method's rates, hyperparameter and dense factor, on what no result uses.

Tuned: the dense rate, the tables' rate, the hyperparameter and the factor of the dense rate from
epoch 2 on. Fixed: model, batch size, Adam's betas, window. Nuisance: the seed, averaged over. All
methods have the same number of trials at most: first a balanced design over all that is tuned, then
points beyond the best one while it lies at an edge. Trials train on the tuning seeds' worlds; their
score is that of the validation day at the points where the method will be judged. Reported runs use
other seeds and the test day. KuaiRand is one log for all seeds.

tuned.json has what each search chose.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd

from multiepoch_lab.files import write_text
from multiepoch_lab.methods import Hyperparameter
from multiepoch_lab.model import ConversionModel
from reproduction.measure import curve
from reproduction.remedies.board import BASELINES, BOARD, METHODS
from reproduction.runs import Profile, Run, run_all

NAME = "tuning"
DENSE_LR = (10**-3.5, 1e-3, 10**-2.5)
EMBEDDING_LR = (1e-3, 10**-2.5, 1e-2, 10**-1.5)
BOARD_LR = (10**-2.5, 1e-2, 10**-1.5, 1e-1)  # and by Adagrad off the board
SHARED_LR = (10**-3.5, 1e-3, 10**-2.5, 1e-2)
SGD_LR = (0.1, 10**-0.5, 1.0)
SGD_EMBEDDING_LR = (10.0, 10**1.5, 100.0, 10**2.5)
DENSE_FACTORS = (1.0, 0.1, 0.03, 0.01)
BOARD_EPOCHS = (2, 4)  # at whose ends a remedy of the board is judged
TUNING_DAYS = 5
# Of the tables, as fields of a Run; the dense layers learn by Adam except beside SGD.
RULES: dict[str, dict[str, str]] = {
    "Adam": {"rule": "adam"},
    "row-wise Adagrad": {"rule": "rowwise_adagrad"},
    "Adagrad": {"rule": "adagrad"},
    "SGD": {"rule": "sgd", "dense_rule": "sgd"},
}
DAY_TAIL = "day_tail_rewind"


@dataclass(frozen=True)
class Tuned:
    """What a search chose."""

    dense_lr: float
    embedding_lr: float
    hyperparameter: Hyperparameter
    dense_factor: float = 1.0


@dataclass(frozen=True)
class Candidate:
    """A method to tune, with the conditions and the points that it is scored on.

    The fields that Run has, too, are as there. By default, `at` is the end of the last epoch and,
    of several days, all but the first two, since a model starts from nothing only once.
    """

    method: str
    epochs: int
    rule: str = "adam"
    shared: bool = False  # one rate for the whole network
    data: str = "world"
    days: int = 0
    dense_rule: str = "adam"
    factors: tuple[float, ...] = (1.0,)  # of the dense rate from epoch 2 on
    at: tuple[float, ...] = ()  # the epochs at which the method will be judged
    board: bool = False  # with the sizes, the number of trials and the rates of the board's search

    @property
    def name(self) -> str:
        """The name that tuned.json and the record know it by."""
        method = "shared" if self.shared else self.method
        method = method if self.rule == "adam" else f"{method} {self.rule}"
        method += " throughout" if self.dense_rule != "adam" else ""
        epochs = f"{self.epochs} epoch{'s' if self.epochs > 1 else ''}"
        epochs += f" at {' '.join(f'{point:g}' for point in self.at)}" if self.at else ""
        factor = ", dense factor" if 1.0 in self.factors[:-1] else ""
        data = ", days" if self.days else "" if self.data == "world" else f", {self.data}"
        return f"{method}, {epochs}{factor}{data}{', board' if self.board else ''}"

    @property
    def judged(self) -> tuple[float, ...]:
        """The points that it is scored on."""
        return self.at or tuple(map(float, range(3, self.days + 1))) or (float(self.epochs),)

    @property
    def n_trials(self) -> tuple[int, int]:
        """How many trials the design has, and how many there are at most."""
        return (8, 12) if self.board else (16, 24)

    def axes(self) -> dict[str, tuple]:
        """Returns what to try, by field of Run."""
        dense, tables = DENSE_LR, BOARD_LR if "adagrad" in self.rule else EMBEDDING_LR
        if self.dense_rule != "adam":
            dense, tables = (SGD_LR, SGD_EMBEDDING_LR) if self.rule == "sgd" else (tables, tables)
        if self.board:  # a baseline's few dense weights learn fast
            additive = METHODS[self.method].network is not ConversionModel
            dense = (10**-2.5, 10**-1.5) if additive else (1e-3, 10**-2.5)
            tables = BOARD_LR if self.rule == "adam" else (1e-2, 10**-1.5, 1e-1, 10**-0.5)
        elif self.shared:
            dense = SHARED_LR if self.dense_rule == "adam" else dense
        rates = {"dense_lr": dense} | ({} if self.shared else {"embedding_lr": tables})
        return rates | {"hyperparameter": METHODS[self.method].grid, "dense_factor": self.factors}

    def run(self, seed: int, trial: int, point: Mapping[str, Any]) -> Run:
        """Returns the run of a trial, whose point has a value for each of `axes`."""
        scale = METHODS[self.method].scale(point["hyperparameter"])
        rates = {"embedding_lr": point.get("embedding_lr", point["dense_lr"]) * scale}
        names = ("epochs", "rule", "data", "days", "dense_rule")
        ends = {math.ceil(point) - 1 for point in self.judged}
        if self.board and self.epochs == BOARD_EPOCHS[-1]:  # so that its searches share their runs
            ends |= {epoch - 1 for epoch in BOARD_EPOCHS}
        return Run(
            self.method,
            seed,
            **point | rates,
            **{name: getattr(self, name) for name in names},
            about={"trial": trial},
            evaluate_at=tuple(sorted({1 - (-point % 1) for point in self.judged})),
            evaluate_epochs=None if self.days else tuple(sorted(ends)),
            on="validation",
        )


def on_board(method: str, data: str = "world", epochs: int = 4) -> Candidate:
    """Returns the candidate of the board's search, tuned for the end of that epoch.

    Plain training, which knows of no second epoch, and what trains only once are tuned for the
    first.
    """
    remedy = BOARD[method]
    if remedy.once or method == "plain":
        return Candidate(method, 1, rule=remedy.rule, data=data, at=(1.0,), board=True)
    more = {"rule": remedy.rule, "factors": remedy.dense_factors, "at": (float(epochs),)}
    return Candidate(method, BOARD_EPOCHS[-1], data=data, board=True, **more)


def under_production_rule(method: str, data: str) -> Candidate:
    """Returns a candidate of the law of interplay: one epoch, or four of a remedy.

    A baseline's tables have a column an objective, which row-wise Adagrad would tie together.
    """
    epochs = 1 if method in ("plain", *BASELINES) else 4
    factors = (1.0,) if epochs == 1 else (0.1,)  # .03 and .3 did as well in pilots
    rule = "adagrad" if method in BASELINES else "rowwise_adagrad"
    at = (float(epochs),)
    return Candidate(method, epochs, rule=rule, data=data, factors=factors, at=at, board=True)


def by_day(method: str, epochs: int = 2) -> Candidate:
    """Returns a candidate of continual training in the default setting, so many epochs a day."""
    factors = (1.0,) if epochs == 1 else DENSE_FACTORS
    more = {"days": TUNING_DAYS, "factors": factors, "board": True}
    return Candidate(method, epochs, rule="rowwise_adagrad", **more)


def for_one_epoch(rule: str, data: str, shared: bool) -> Candidate:
    """Returns the candidate of one plain epoch by one of RULES, with one rate for all or two."""
    return Candidate("plain", 1, shared=shared, data=data, at=(1.0,), **RULES[rule])


ON_BOARD = [
    on_board(name, data, epochs)
    for data in ("world", "half of kuairand")
    for name, remedy in BOARD.items()
    for epochs in BOARD_EPOCHS
    if not remedy.held_back
]
_CANDIDATES = [
    *(
        for_one_epoch(rule, data, shared)
        for data in ("world", "kuairand")
        for rule in RULES
        for shared in (True, False)
    ),
    *(
        under_production_rule(name, data)
        for data in ("world", "kuairand", "retailrocket", "tmall")
        for name in (*BASELINES, "plain", "meda", "tail_rewind", "leave_one_out_votes")
    ),
    by_day("plain", 1),
    *(by_day(n) for n in ("plain", "fal", "meda", "meda_restored", "meda_groups", DAY_TAIL)),
    *ON_BOARD,
]
CANDIDATES = {one.name: one for one in _CANDIDATES}


def design(axes: Mapping[str, Sequence], n: int) -> list[tuple]:
    """Returns at most n points such that all values and pairs of values are about as frequent."""
    left = list(itertools.product(*axes.values()))
    found: list[tuple] = []
    seen: Counter = Counter()

    def parts(point: tuple) -> list[tuple]:
        return [*itertools.combinations(enumerate(point), 2), *enumerate(point)]

    while left and len(found) < n:
        found.append(min(left, key=lambda point: sum(seen[part] for part in parts(point))))
        left.remove(found[-1])
        seen.update(parts(found[-1]))
    return found


def beyond(axis: str, values: Sequence, best: Any) -> float | None:
    """Returns the next value past the edge at which the best one lies; None if there is none.

    Factors, and hyperparameters that are shares, end at 1; integers stay integers.
    """
    numbers = sorted(v for v in values if isinstance(v, int | float))
    if best not in (numbers[:1] + numbers[-1:] if len(numbers) > 1 else []) or best == 0:
        return None
    found = best * best / numbers[1 if best == numbers[0] else -2]
    if all(isinstance(v, int) for v in numbers):
        found = round(found)
    ends = not axis.endswith("_lr") and numbers[-1] <= 1 < found
    return None if ends or found in (0, best) else found


def score(rows: pd.DataFrame, judged: Sequence[float]) -> pd.Series:
    """Returns the normalized entropy by trial, mean over objectives, points and seeds.

    Lower is better. The loss is that under the true probabilities if they are known.
    """
    metric = next(m for m in ("expected_logloss", "logloss") if (rows["metric"] == m).any())
    keys = ["trial", "seed", "objective"]
    points = curve(rows, metric)
    loss = points.set_index([*keys, points["epoch"].round(6)])["value"].unstack("epoch")
    constant = rows[rows["metric"] == "constant_logloss"].set_index(keys)["value"]
    # A run that diverged has one point, which may be none of these.
    mean = loss.reindex(columns=list(judged)).mean(axis=1, skipna=False).fillna(math.inf)
    return (mean / constant).groupby("trial").mean()


def tune(candidate: Candidate, profile: Profile, device: str) -> pd.DataFrame:
    """Runs every trial of a candidate and returns one row per trial.

    Returns:
        Columns candidate, stage ("design" or "widened"), dense_lr, embedding_lr, hyperparameter (as
        JSON), dense_factor, score, best, and edge: the axes at whose end the best trial lies still.
    """
    sizes = profile.board() if candidate.board else profile
    one_log = candidate.data == "half of kuairand"  # the same for each seed
    seeds = profile.tuning_seeds[:1] if one_log else profile.tuning_seeds
    axes = {name: list(values) for name, values in candidate.axes().items()}
    first, most = profile.trials or candidate.n_trials
    found: list[dict] = []
    todo, stage = [dict(zip(axes, point)) for point in design(axes, first)], "design"
    while todo:
        start = len(found)
        points = list(enumerate(todo[: most - start], start))
        runs = [candidate.run(seed, k, point) for k, point in points for seed in seeds]
        scores = score(run_all(runs, sizes, device), candidate.judged)
        found += [{"point": p, "stage": stage, "score": float(scores[k])} for k, p in points]
        best = min(found, key=lambda trial: trial["score"])["point"]
        past = {name: beyond(name, values, best[name]) for name, values in axes.items()}
        past = {name: value for name, value in past.items() if value is not None}
        stage, todo = "widened", [best | {name: value} for name, value in past.items()]
        if len(found) == most:
            break
        for name, value in past.items():
            axes[name].append(value)
    rows = [_row(candidate, trial, trial["point"] == best) for trial in found]
    return pd.DataFrame(rows).assign(edge=", ".join(past))


def _row(candidate: Candidate, trial: Mapping[str, Any], best: bool) -> dict[str, Any]:
    run = candidate.run(0, 0, trial["point"])
    return {
        "candidate": candidate.name,
        "stage": trial["stage"],
        "dense_lr": run.dense_lr,
        "embedding_lr": run.embedding_lr,
        "hyperparameter": json.dumps(run.hyperparameter),
        "dense_factor": run.dense_factor,
        "score": trial["score"],
        "best": best,
    }


def run(profile: Profile, device: str = "auto", seeds=None, only: str = "") -> pd.DataFrame:
    """Tunes the candidates in whose name the regular expression `only` is found.

    By default, those that are not of the board, which alone has 130.
    `seeds` belongs to the common signature and is ignored: tuning has seeds of its own.

    Raises:
        ValueError: If it is found in none. The message lists the candidates.
    """
    chosen = [c for name, c in CANDIDATES.items() if re.search(only, name)]
    if not only:
        chosen = [c for c in chosen if not c.board]
    if not chosen:
        raise ValueError(f"no candidate's name has {only!r}; there are {list(CANDIDATES)}.")
    return pd.concat([tune(c, profile, device) for c in chosen], ignore_index=True)


def merge(kept: pd.DataFrame, trials: pd.DataFrame) -> pd.DataFrame:
    """Returns the kept trials, with the candidates that were tuned again replaced or added."""
    kept = kept[kept["candidate"].isin(set(CANDIDATES) - set(trials["candidate"]))]
    places = {name: place for place, name in enumerate(CANDIDATES)}
    merged = pd.concat([kept, trials], ignore_index=True)
    order = merged["candidate"].map(places).argsort(kind="stable")
    return merged.iloc[order].reset_index(drop=True)


_TUNED = Path(__file__).with_name("tuned.json")


def write_tuned(trials: pd.DataFrame) -> None:
    """Adds the best trial of each candidate to tuned.json, which every profile reads."""
    found = json.loads(_TUNED.read_text(encoding="utf-8")) if _TUNED.exists() else {}
    for row in trials[trials["best"]].itertuples():
        best = Tuned(
            row.dense_lr, row.embedding_lr, json.loads(row.hyperparameter), row.dense_factor
        )
        edge = {"edge": row.edge} if row.edge else {}
        found[row.candidate] = asdict(best) | edge
    in_order = {name: found[name] for name in CANDIDATES if name in found}
    write_text(_TUNED, json.dumps(in_order, indent=1, ensure_ascii=False) + "\n")


@lru_cache(maxsize=1)
def _read() -> dict[str, dict]:
    return json.loads(_TUNED.read_text(encoding="utf-8"))


def chosen(candidate: Candidate) -> Tuned:
    """Returns the rates, the hyperparameter and the dense factor chosen for a candidate.

    Raises:
        KeyError: If it was not tuned. The message lists those that were.
    """
    if candidate.name not in _read():
        raise KeyError(f"{candidate.name!r} was not tuned; tuned.json has {', '.join(_read())}.")
    best = _read()[candidate.name]
    return Tuned(*(best[name] for name in Tuned.__dataclass_fields__))


@dataclass(frozen=True)
class Arm:
    """A way to train on each day: its epochs, and those for which its rates were searched.

    Rates for one epoch are plain training's; the hyperparameter is always the method's own.
    """

    method: str
    epochs: int = 2
    tuned_for: int = 2
    tuned_as: str = ""  # the method that was searched, if it is another one

    @property
    def rates(self) -> Tuned:
        """The learning rates, the hyperparameter and the dense factor, by the search by day."""
        if self.tuned_for == 2:
            return chosen(by_day(self.tuned_as or self.method))
        own = None if self.method == "plain" else chosen(by_day(self.method)).hyperparameter
        return replace(chosen(by_day("plain", 1)), hyperparameter=own)

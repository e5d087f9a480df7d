"""Chapter 11's search, the same for every remedy, on a world and days that no result uses.

On AdsWorld each remedy has at most 8 trials, by the same balanced design over table rate,
hyperparameter and dense factor, for 2 epochs on a tuning world. On KuaiRand it keeps what the
search found, and has 3 trials of its own: the tables' rate, a third of it and three times it.
Scored is the mean loss over ¼, ½ and the end of epoch 2 on the validation day; for plain, the end
of epoch 1.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd

from multiepoch.files import write_text
from reproduction.measure import as_losses
from reproduction.remedies.board import BOARD
from reproduction.runs import NEW_IDS, Profile, Run, run_all

NAME = "ch11_search"
SEEDS = (100,)
RATES = (10**-2.5, 1e-2, 10**-1.5, 1e-1)
N_TRIALS = 8
ON_KUAIRAND = (1.0, 10**-0.5, 10**0.5)  # of the rate that was best on AdsWorld
AFTER = (1.25, 1.5, 2.0)

_TUNED = Path(__file__).with_name("tuned.json")


def board_run(
    name: str,
    data: str,
    seed: int,
    rate: float,
    hyperparameter: Any = None,
    dense_factor: float = 1.0,
    about: dict[str, Any] | None = None,
    **conditions: Any,
) -> Run:
    """Returns a run of a remedy; `rate` is that of the tables before the remedy's own scale."""
    return Run(
        name,
        seed,
        1e-3,
        rate * BOARD[name].scale(hyperparameter),
        hyperparameter,
        dense_factor=dense_factor,
        about={"data": data} | (about or {}),
        data={"kuairand": "half of kuairand"}.get(data, data),
        group_by=NEW_IDS,
        **conditions,
    )


def design(name: str) -> list[tuple]:
    """Returns the trials of a remedy: table rate, hyperparameter and dense factor of each.

    With a hyperparameter of four values there are eight of the 4 x 4 x 2 points, such that each two
    of the three vary independently: every rate meets both factors, and every value does.
    """
    remedy = BOARD[name]
    values, factors = remedy.grid, remedy.dense_factors
    if len(values) == 1 and len(RATES) * len(factors) <= N_TRIALS:
        return list(itertools.product(RATES, values, factors))
    return [
        (
            RATES[k % 4],
            values[(k + 2 * (k // 4)) % len(values)],
            factors[(k + (2 if len(factors) > 2 else 1) * (k // 4)) % len(factors)],
        )
        for k in range(N_TRIALS)
    ]


def on_world(seed: int) -> list[Run]:
    """Returns the search of every remedy on AdsWorld."""
    at = {"epochs": 2, "evaluate_at": (0.25, 0.5, 1.0), "on": "validation"}
    return [
        board_run(name, "world", seed, *point, setting=f"trial {k}", **at)
        for name in BOARD
        for k, point in enumerate(design(name))
    ]


def on_kuairand(best: dict[str, Run]) -> list[Run]:
    """Returns the search of every remedy on KuaiRand, about its best trial on AdsWorld."""
    return [
        replace(
            trial,
            data="half of kuairand",
            about={"data": "kuairand"},
            embedding_lr=trial.embedding_lr * factor,
            setting=f"rate x {factor:.3g}",
        )
        for trial in best.values()
        for factor in ON_KUAIRAND
    ]


def run(profile: Profile, device: str = "auto", seeds=None, store=None, log=print) -> pd.DataFrame:
    """Searches on both sources and returns the rows of all trials."""
    trials = on_world(*(seeds or SEEDS))
    world = as_losses(run_all(trials, profile.board(), device, store, log))
    trials = on_kuairand(chosen(trials, world))
    return pd.concat([world, as_losses(run_all(trials, profile.board(), device, store, log))])


def scores(rows: pd.DataFrame) -> pd.Series:
    """Returns the score of each trial by (remedy, setting): lower is better."""
    loss = rows[(rows["metric"] == "loss") & (rows["group"] == "all")]
    loss = loss.pivot_table(
        index=["remedy", "setting", "objective"], columns="epoch", values="value"
    )
    typical = loss[1.0].groupby("objective").median()
    loss = loss.div(typical, level="objective", axis=0)
    score = loss[list(AFTER)].mean(axis=1)
    plain = score.index.get_level_values("remedy") == "plain"
    return score.where(~plain, loss[1.0]).groupby(["remedy", "setting"]).mean()


def chosen(trials: list[Run], rows: pd.DataFrame) -> dict[str, Run]:
    """Returns the best trial of each remedy."""
    found = scores(rows[rows["data"] == trials[0].about["data"]])
    return {
        name: min(
            (trial for trial in trials if trial.method == name),
            key=lambda trial: found[trial.method, trial.setting],
        )
        for name in dict.fromkeys(trial.method for trial in trials)
    }


def write_tuned(rows: pd.DataFrame, path: Path = _TUNED) -> None:
    """Writes rate, hyperparameter and dense factor of the best trials by source and remedy."""
    world = chosen(on_world(*rows["seed"].unique().tolist()), rows)
    best = {"world": world, "kuairand": chosen(on_kuairand(world), rows)}
    content = {
        data: {
            remedy: {
                "rate": t.embedding_lr / BOARD[remedy].scale(t.hyperparameter),
                "hyperparameter": t.hyperparameter,
                "dense_factor": t.dense_factor,
            }
            for remedy, t in of.items()
        }
        for data, of in best.items()
    }
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


@lru_cache(maxsize=1)
def tuned() -> dict[str, dict[str, dict]]:
    """Returns what the search chose, by source and remedy."""
    return json.loads(_TUNED.read_text(encoding="utf-8"))

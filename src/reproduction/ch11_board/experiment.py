"""Chapter 11: every remedy with the same search, on the same worlds, at the same points.

The search: each remedy has 8 trials on AdsWorld, by the same balanced design over table rate,
hyperparameter and dense factor, for 2 epochs on a tuning world. On KuaiRand it keeps what
the search found, and has 2 trials of its own: the tables' rate and a third of it. Scored is the mean loss over ¼,
½ and the end of epoch 2 on the validation day; for plain, the end of epoch 1.

The board: 4 epochs on the test day, over seeds that no search has seen, all remedies of a seed
before the next seed.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import pandas as pd

from multiepoch.files import write_text
from multiepoch.runner import resolve_device
from reproduction.ch11_board.remedies.execute import Trial, run_trials, small
from reproduction.ch11_board.remedies.registry import BOARD
from reproduction.runs import Profile
from reproduction.runs.run import default_store

CHAPTER = "11"
NAME = "ch11_board"
SEEDS = tuple(range(20, 28))
TUNING_SEED = 100
DATA = {"world": "AdsWorld", "kuairand": "KuaiRand"}
RATES = (10**-2.5, 1e-2, 10**-1.5, 1e-1)
DOSES = RATES[1:]  # where plain's jump is small, medium and large
N_TRIALS = 8
ON_KUAIRAND = (1.0, 10**-0.5)  # of the rate that was best on AdsWorld
AFTER = (1.25, 1.5, 2.0)
QUARTERS, ENDS = (1.25, 3.25), (2.0, 4.0)
LIVE = ("plain", "fal", "meda", "tail_rewind_blend", "whole_l2", "label_smoothing")

_TUNED = Path(__file__).with_name("tuned.json")


def sizes(profile: Profile) -> Profile:
    """Returns the sizes of the board: an eighth of the world of `long`."""
    return small(profile) if profile.name in ("cpu", "long") else profile


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


def trials_of(name: str) -> list[Trial]:
    """Returns the search of a remedy on AdsWorld."""
    return [
        Trial(name, "world", TUNING_SEED, *point, f"trial {k}", 2, None, (0.25, 0.5, 1.0))
        for k, point in enumerate(design(name))
    ]


def on_validation(trials: list[Trial]) -> list[Trial]:
    """Returns trials that are scored on the validation day."""
    return [replace(trial, on="validation") for trial in trials]


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


def tune(profile: Profile, device: str, store: Path, log=print, names=tuple(BOARD)) -> pd.DataFrame:
    """Searches on both sources and returns the rows of all trials."""
    of_world = [trial for name in names for trial in on_validation(trials_of(name))]
    world = run_trials(of_world, profile, device, store, log)
    best = chosen(of_world, world)
    of_kuairand = [
        replace(best[name], data="kuairand", rate=best[name].rate * f, setting=f"rate x {f:.3g}")
        for name in names
        for f in ON_KUAIRAND
    ]
    return pd.concat([world, run_trials(of_kuairand, profile, device, store, log)])


def chosen(trials: list[Trial], rows: pd.DataFrame) -> dict[str, Trial]:
    """Returns the best trial of each remedy."""
    found = scores(rows[rows["data"] == trials[0].data])
    by_name: dict[str, Trial] = {}
    for trial in trials:
        before = by_name.get(trial.remedy)
        if (
            before is None
            or found[trial.remedy, trial.setting] < found[before.remedy, before.setting]
        ):
            by_name[trial.remedy] = trial
    return by_name


def write_tuned(best: dict[str, dict[str, Trial]], path: Path = _TUNED) -> None:
    """Writes rate, hyperparameter and dense factor by source and remedy."""
    content = {
        data: {
            name: {
                "rate": t.rate,
                "hyperparameter": t.hyperparameter,
                "dense_factor": t.dense_factor,
            }
            for name, t in by_name.items()
        }
        for data, by_name in best.items()
    }
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


@lru_cache(maxsize=1)
def tuned() -> dict[str, dict[str, dict]]:
    """Returns what the search chose, by source and remedy."""
    return json.loads(_TUNED.read_text(encoding="utf-8"))


def of_seed(seed: int, data: str, names=tuple(BOARD), epochs: int = 4) -> list[Trial]:
    """Returns the board's runs of one seed; evaluated in epochs 1, 2 and the last."""
    at = tuple(sorted({0, 1, epochs - 1}))
    return [
        Trial(name, data, seed, **tuned()[data][name], epochs=epochs, evaluate_epochs=at)
        for name in names
    ]


def of_doses(seed: int, names=tuple(BOARD)) -> list[Trial]:
    """Returns each remedy at the three rates of the tables, for 2 epochs on AdsWorld."""
    return [
        Trial(
            name,
            "world",
            seed,
            **tuned()["world"][name] | {"rate": rate},
            setting=f"dose {rate:.3g}",
            epochs=2,
            evaluate_at=(0.25, 1.0),
        )
        for name in names
        for rate in DOSES
    ]


def run(
    profile: Profile,
    device: str = "auto",
    seeds=None,
    store=None,
    log=print,
    names=tuple(BOARD),
    data=tuple(DATA),
    epochs: int = 4,
    doses: int = 2,
) -> pd.DataFrame:
    """Runs the board over the seeds, and the doses over the first few; returns losses and sizes.

    The search is a call of its own, since its result is committed: `tune`.
    """
    profile, device = sizes(profile), resolve_device(device)
    store = store or default_store(profile) / NAME
    seeds = seeds or SEEDS
    trials = [t for s in seeds for one in data for t in of_seed(s, one, names, epochs)]
    trials += [t for s in seeds[:doses] for t in of_doses(s, names)]
    return run_trials(trials, profile, device, store, log, profile.workers)

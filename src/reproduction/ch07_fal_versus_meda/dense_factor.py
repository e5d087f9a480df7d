"""Chapter 7, second round of claim C7: tuned against tuned, the dense rate's factor included.

From epoch 2 on, that factor lowers the dense learning rate, so that a method may learn fast in the
first epoch and hold still in the later ones. Every method has the same search: a grid of both rates
and the factor on one tuning world, then its other hyperparameters at the three best points, then
the five best trials on both tuning worlds.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import pandas as pd

from multiepoch.methods import METHODS
from reproduction.findings import by_name
from reproduction.records import Record
from reproduction.runs import Profile, Run, over_seeds, run_all
from reproduction.tuning import DENSE_LR, EMBEDDING_LR, Candidate, score

NAME = "dense_factor"
SEEDS = tuple(range(20, 28))

TUNED = ("plain", "fal", "meda", "adamar", "tail_rewind")
FACTORS = (0.3, 0.1, 0.03)
EPOCHS = 3
EXPECTED = "expected_logloss"


def trials(method: str) -> list[Run]:
    """Returns the grid of a method at its default hyperparameter, scored after the last epoch."""
    return [
        Run(
            method,
            0,
            dense,
            tables,
            METHODS[method].grid[0],
            epochs=EPOCHS,
            evaluate_at=(1.0,),
            on="validation",
            dense_factor=factor,
        )
        for dense, tables, factor in itertools.product(DENSE_LR, EMBEDDING_LR, FACTORS)
    ]


def tune(method: str, profile: Profile, device: str, store=None, log=print) -> pd.DataFrame:
    """Returns the trials with their scores, the best first; column `run` holds the trial."""
    first, both = profile.tuning_seeds[:1], profile.tuning_seeds

    def scored(todo: list[Run], seeds) -> list[tuple[float, Run]]:
        named = [replace(one, setting=str(k)) for k, one in enumerate(todo)]
        rows = run_all(over_seeds(seeds, named), profile, device, store, log)
        scores = score(rows, Candidate(method, EPOCHS)).groupby("setting").mean()
        return sorted(
            ((float(scores[one.setting]), one) for one in named), key=lambda pair: pair[0]
        )

    found = scored(trials(method), first)
    others = METHODS[method].grid[1:]
    if others:
        best = [one for _, one in found[:3]]
        found += scored([replace(b, hyperparameter=h) for b in best for h in others], first)
        found.sort(key=lambda pair: pair[0])
    best = scored([one for _, one in found[:5]], both)
    table = pd.DataFrame(best + found, columns=["score", "run"])
    return table.assign(worlds=[len(both)] * len(best) + [1] * len(found))


def run(profile: Profile, device: str = "auto", seeds=None, store=None, log=print) -> pd.DataFrame:
    """Tunes every method and trains the best trial of each.

    Returns:
        Rows of runs.COLUMNS. `setting` holds the rates, the factor and the hyperparameter as JSON;
        rows with the metric "score" are the trials.
    """
    scores, best = [], []
    for method in TUNED:
        for k, trial in enumerate(tune(method, profile, device, store, log).itertuples()):
            chosen = replace(trial.run, setting=_setting(trial.run))
            best += [chosen] if k == 0 else []
            scores.append((method, chosen.setting, "score", trial.score, trial.worlds))
    todo = [replace(one, evaluate_at=Run.evaluate_at, on="test") for one in best]
    rows = run_all(over_seeds(seeds or SEEDS, todo), profile, device, store, log)
    rows = rows[rows["metric"].isin([EXPECTED, "logloss"])]
    columns = ["method", "setting", "metric", "value", "samples"]
    return pd.concat([rows, pd.DataFrame(scores, columns=columns)], ignore_index=True)


def _setting(run: Run) -> str:
    names = ("dense_lr", "embedding_lr", "dense_factor", "hyperparameter")
    return json.dumps({name: getattr(run, name) for name in names})


def best_trials(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the chosen rates, factor and hyperparameter of each method, and its trials."""
    scores = rows[rows["metric"] == "score"]
    found = {}
    for method, mine in scores.groupby("method", sort=False):
        found[method] = json.loads(mine["setting"].iloc[0]) | {"trials": mine["setting"].nunique()}
    return pd.DataFrame(found).T.rename_axis("method")


def against(rows: pd.DataFrame, method: str, other: str) -> pd.DataFrame:
    """Returns one method's loss against another's in %, mean over objectives, by seed and epoch."""
    mine = rows[rows["metric"] == EXPECTED]
    keys = ["method", "seed", "objective", "epoch"]
    loss = mine.set_index(keys)["value"]
    change = 100 * (loss.xs(method, level="method") / loss.xs(other, level="method") - 1)
    return change.groupby(["seed", "epoch"]).mean().unstack("epoch")


def judge(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the evidence of the tuned half of C7's second round."""
    change = against(rows, "fal", "meda")
    points = [("tuned_quarter", 1.25, "¼ into epoch 2")]
    points += [("tuned_end", float(e), f"end of epoch {e}") for e in range(2, EPOCHS + 1)]
    return pd.DataFrame(
        [
            {"claim": "C7", "measure": name, "point": point, "seed": int(seed), "value": value}
            for name, epoch, point in points
            for seed, value in change[epoch].items()
        ]
    )


def facts(record: Record) -> dict:
    """Returns the values that the findings speak of, by name."""
    rows, chosen = record.rows, best_trials(record.rows).loc["fal"]
    return by_name(
        fal=against(rows, "fal", "meda"),
        fal_plain=against(rows, "fal", "plain"),
        tail=against(rows, "tail_rewind", "meda"),
        held=chosen["dense_lr"] * chosen["dense_factor"],
    )

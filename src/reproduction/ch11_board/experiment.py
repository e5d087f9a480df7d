"""Chapter 11: every remedy with the same search, on the same worlds, at the same points.

The search: each remedy has at most 8 trials on AdsWorld, by the same balanced design over table
rate, hyperparameter and dense factor, for 2 epochs on a tuning world. On KuaiRand it keeps what the
search found, and has 3 trials of its own: the tables' rate, a third of it and three times it.
Scored is the mean loss over ¼, ½ and the end of epoch 2 on the validation day; for plain, the end
of epoch 1.

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
from reproduction.second_round import read

CHAPTER = "11"
NAME = "ch11_board"
SEEDS = tuple(range(20, 28))
TUNING_SEED = 100
DATA = {"world": "AdsWorld", "kuairand": "KuaiRand"}
RATES = (10**-2.5, 1e-2, 10**-1.5, 1e-1)
DOSES = RATES[1:]  # where plain's jump is small, medium and large
N_TRIALS = 8
ON_KUAIRAND = (1.0, 10**-0.5, 10**0.5)  # of the rate that was best on AdsWorld
AFTER = (1.25, 1.5, 2.0)
QUARTERS, ENDS = (1.25, 3.25), (2.0, 4.0)
# Their dense layers do not read rows that hold the own label.
HONEST = (
    "meda",
    "meda_l2",
    "meda_fal",
    "tail_rewind",
    "tail_rewind_blend",
    "blend_l2",
    "blend_fal",
    "two_fold",
    "self_excluding",
)
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


POINTS = (1.25, 2.0, 3.25, 4.0)
PREDICTIONS = read(Path(__file__).with_name("predictions.toml"))


def losses(rows: pd.DataFrame, data: str, group: str = "all") -> pd.DataFrame:
    """Returns the board's losses by (remedy, seed, objective), a column an epoch."""
    mine = rows[(rows["setting"] == "") & (rows["data"] == data) & (rows["group"] == group)]
    mine = mine[mine["metric"] == "loss"]
    return mine.pivot_table(index=["remedy", "seed", "objective"], columns="epoch", values="value")


def against_one_epoch(rows: pd.DataFrame, data: str, group: str = "all") -> pd.DataFrame:
    """Returns the loss in % of plain's after one epoch, mean over objectives, by remedy and seed.

    group: "all", or "0" for impressions whose ids the window has and "1" for those with a new one.
    """
    loss = losses(rows, data, group)
    base = loss.xs("plain", level="remedy")[1.0]
    base = base.reindex(loss.index.droplevel("remedy")).to_numpy()
    return (100 * (loss.div(base, axis=0) - 1)).groupby(["remedy", "seed"], sort=False).mean()


def against(rows: pd.DataFrame, data: str, other: str = "meda") -> pd.DataFrame:
    """Returns the loss in % of another remedy's at the same point, by remedy and seed."""
    loss = losses(rows, data)
    base = loss.xs(other, level="remedy").reindex(loss.index.droplevel("remedy"))
    base.index = loss.index
    return (100 * (loss / base - 1)).groupby(["remedy", "seed"], sort=False).mean()


def jump_left(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the % of plain's jump that a remedy leaves, by remedy and seed, a column a dose.

    The columns are plain's mean jump in %; the seeds share it as the denominator.
    """
    mine = rows[rows["setting"].str.startswith("dose") & (rows["metric"] == "loss")]
    mine = mine[mine["group"] == "all"]
    keys = ["remedy", "setting", "seed", "objective"]
    loss = mine.pivot_table(index=keys, columns="epoch", values="value")
    jump = (100 * (loss[1.25] / loss[1.0] - 1)).groupby(keys[:-1]).mean().unstack("setting")
    jump = jump[[f"dose {rate:.3g}" for rate in DOSES]]
    dose = jump.xs("plain", level="remedy").mean()
    return (100 * jump / dose).set_axis(dose.to_list(), axis=1)


def cost(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns CPU time and memory by remedy, in multiples of plain's; means over the board's runs.

    The time is that of the whole run, evaluation included; the memory is that of the tables, their
    optimizer's state and the remedy.
    """
    mine = rows[(rows["setting"] == "") & (rows["objective"] == "")]
    keys = ["remedy", "data", "seed"]
    values = mine.pivot_table(index=keys, columns="metric", values="value")
    found = pd.DataFrame(
        {
            "time": values["cpu_seconds"],
            "memory": values["table_bytes"] + values["state_bytes"] + values["remedy_bytes"],
        }
    )
    base = found.xs("plain", level="remedy").reindex(found.index.droplevel("remedy"))
    base.index = found.index
    return (found / base).groupby("remedy").mean()


def judge(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the evidence for the predictions of the board, as the second round has it."""
    found = []
    for data, name in DATA.items():
        if data not in set(rows["data"]):
            continue
        one, meda = against_one_epoch(rows, data), against(rows, data)
        blend = against(rows, data, "tail_rewind_blend")

        def add(claim, measure, table, remedy, epochs, name=name):
            for epoch in epochs:
                for seed, value in table.xs(remedy, level="remedy")[epoch].items():
                    point = f"{name}, {BOARD[remedy].label}, {epoch:g} epochs"
                    found.append((claim, measure, point, int(seed), value))

        add("B1", "plain_end", one, "plain", ENDS)
        add("B2", "meda_quarter", one, "meda", QUARTERS)
        add("B2", "meda_last", one, "meda", ENDS[1:])
        add("B3", "blend_quarter", one, "tail_rewind_blend", QUARTERS)
        add("B3", "blend_meda", meda, "tail_rewind_blend", QUARTERS)
        add("B3", "blend_last", one, "tail_rewind_blend", ENDS[1:])
        add("B4", "adamar_end", one, "adamar", ENDS[:1])
        add("B4", "whole_l2_end", one, "whole_l2", ENDS[:1])
        for remedy in ("dropout", "sse", "cowclip", "label_smoothing"):
            add("B5", "ordinary", meda, remedy, ENDS[1:])
        add("B6", "frozen_tables", meda, "frozen_tables", ENDS)
        for remedy in ("blend_l2", "blend_fal"):
            add("B7", "pairs", blend, remedy, ENDS[1:])
    return pd.DataFrame(found, columns=["claim", "measure", "point", "seed", "value"])

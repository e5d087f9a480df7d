"""The board: every remedy by the same search, on the same worlds, at the same points.

Row-wise Adagrad on the tables and Adam elsewhere, for every remedy that allows it. Each is tuned
twice, for the end of epoch 2 and for that of epoch 4, and judged where it was tuned: points up to
the end of epoch 2 are of the first runs, later points of the second. Seeds that no search has seen.
"""

from dataclasses import asdict
from itertools import product

import numpy as np
import pandas as pd

from multiepoch_lab.stats import interval
from reproduction.findings import by_name
from reproduction.judge import evidence
from reproduction.measure import as_losses, ran
from reproduction.records import Record
from reproduction.remedies.board import BOARD
from reproduction.runs import NEW_IDS, Profile, Run, run_all
from reproduction.tuning import BOARD_EPOCHS, ON_BOARD, chosen, on_board

NAME = "board"
SEEDS = tuple(range(30, 38))
DATA = {"world": "AdsWorld", "kuairand": "KuaiRand"}
SOURCES = {"world": "world", "kuairand": "half of kuairand"}
POINTS = (1.25, 2.0, 3.25, 4.0)
QUARTERS, ENDS = (1.25, 3.25), (2.0, 4.0)
# Their dense layers do not read rows that hold the own label.
HONEST = (
    "meda",
    "tail_rewind",
    "tail_rewind_held",
    "tail_rewind_blend",
    "two_fold",
    "leave_one_out_votes",
)
LEAKY = tuple(n for n, one in BOARD.items() if n not in HONEST and one.group != "reference")
LIVE = ("plain", "fal", "meda", "tail_rewind_blend", "leave_one_out_votes")


def of_seed(seed: int, data: str, names=tuple(BOARD), tuned_for=BOARD_EPOCHS) -> list[Run]:
    """Returns the board's runs of one seed. What is tuned for the first epoch runs once."""
    source, found = SOURCES[data], []
    for name in names:
        remedy = BOARD[name]
        if remedy.held_back:
            continue
        first = remedy.once or name == "plain"
        for last in (1,) if first else tuned_for:
            best = asdict(chosen(on_board(name, source, last)))
            about = {"data": data, "tuned_for": last}
            epochs = 1 if remedy.once else max(tuned_for) if first else last
            more = {"data": source, "rule": remedy.rule, "epochs": epochs, "group_by": NEW_IDS}
            found.append(Run(name, seed, **best, **more, evaluate_at=(0.25, 1.0), about=about))
    return found


def run(
    profile: Profile, device: str = "auto", seeds=None, data=tuple(DATA), **which
) -> pd.DataFrame:
    """Returns losses, times and sizes: rows of `measure.as_losses`, with `data` and `tuned_for`.

    which: As in `of_seed`.
    """
    trials = [trial for s in seeds or SEEDS for one in data for trial in of_seed(s, one, **which)]
    return as_losses(run_all(trials, profile.board(), device))


def sources(rows: pd.DataFrame) -> dict[str, str]:
    """Returns those of DATA that the rows have."""
    return {data: DATA[data] for data in ran(rows, DATA, "data")}


def facts_of_search(record: Record) -> dict:
    """Returns how many searches there were, of how many trials, and how many end at an edge."""
    mine = record.rows[record.rows["candidate"].isin([one.name for one in ON_BOARD])]
    edges = mine.loc[mine["best"] & (mine["edge"] != ""), "edge"]
    return {
        "searches": mine["candidate"].nunique(),
        "most": int(mine["candidate"].value_counts().max()),
        "edges": len(edges),
        "of_the_factor": int((edges == "dense_factor").sum()),
    }


def losses(
    rows: pd.DataFrame, data: str, group: str = "all", early: int = BOARD_EPOCHS[0]
) -> pd.DataFrame:
    """Returns the board's losses by (remedy, seed, objective), a column for epoch 1 and each point.

    What trained for one epoch stays as it was. What holds the last epoch's model back has, within
    an epoch, the loss at the end of the one before. Points up to the end of epoch 2 are of the runs
    that were tuned for the end of epoch `early`, later ones of those for the end of epoch 4.

    group: "all", or "0" for impressions whose ids the window has and "1" for those with a new one.
    """
    mine = rows[(rows["data"] == data) & (rows["group"] == group) & (rows["metric"] == "loss")]
    search = np.where(mine["epoch"] <= BOARD_EPOCHS[0], early, BOARD_EPOCHS[1])
    mine = mine[(mine["tuned_for"] == 1) | (mine["tuned_for"] == search)]
    keys = ["remedy", "seed", "objective"]
    found = mine.pivot_table(index=keys, columns="epoch", values="value")
    curves = {name: of.droplevel("remedy") for name, of in found.groupby("remedy", sort=False)}
    for name, remedy in BOARD.items():
        if remedy.once and name in curves:
            curves[name] = curves[name].T.ffill().T
        elif remedy.held_back in curves:
            base = curves[remedy.held_back]
            ends = {q: base[q - 0.25] for q in QUARTERS if q in base}
            curves[name] = base.drop(columns=list(ends)).join(pd.DataFrame(ends))
    order = [name for name in BOARD if name in curves]
    found = pd.concat({name: curves[name] for name in order}, names=keys[:1])
    return found[sorted(found.columns)]


def change(rows: pd.DataFrame, data: str, **which) -> pd.DataFrame:
    """Returns the loss in % of plain's after one epoch, by remedy, seed and objective.

    `which` is the `group` and `early` of `losses`.
    """
    loss = losses(rows, data, **which)
    return 100 * (_over(loss, loss.xs("plain", level="remedy")[1.0]) - 1)


def _over(values: pd.DataFrame, base: pd.DataFrame | pd.Series) -> pd.DataFrame:
    """Returns each remedy's values over those of `base`, which has the other levels alone."""
    return values.div(base.reindex(values.index.droplevel("remedy")).set_axis(values.index), axis=0)


def against_one_epoch(rows: pd.DataFrame, data: str, **which) -> pd.DataFrame:
    """Returns the `change`, mean over objectives, by remedy and seed."""
    return change(rows, data, **which).groupby(["remedy", "seed"], sort=False).mean()


def against_own_first(rows: pd.DataFrame, data: str) -> pd.DataFrame:
    """Returns the loss in % of the remedy's own after one epoch, of what is tuned for the last end.

    Mean over objectives, by remedy and seed. It is what the repeats add at these rates: a remedy
    whose rates are bad for one epoch, such as FAL's, has more to gain, and one with another rule
    may have its gain in its first epoch.
    """
    loss = losses(rows, data, early=BOARD_EPOCHS[1])
    change = 100 * (loss.div(loss[1.0], axis=0) - 1)
    return change.groupby(["remedy", "seed"], sort=False).mean()


def against(rows: pd.DataFrame, data: str, other: str = "meda") -> pd.DataFrame:
    """Returns the loss in % of another remedy's at the same point, by remedy and seed."""
    loss = losses(rows, data)
    change = 100 * (_over(loss, loss.xs(other, level="remedy")) - 1)
    return change.groupby(["remedy", "seed"], sort=False).mean()


def cost(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns CPU time and memory by remedy, in multiples of plain's; means over the board's runs.

    The time is that of the whole run, evaluation included; the memory is that of the tables, their
    optimizer's state and the remedy.
    """
    longest = rows["tuned_for"].isin([1, rows["tuned_for"].max()])
    mine = rows[longest & (rows["objective"] == "")]
    keys = ["remedy", "data", "seed"]
    values = mine.pivot_table(index=keys, columns="metric", values="value")
    memory = values[["table_bytes", "state_bytes", "remedy_bytes"]].sum(axis=1)
    found = pd.DataFrame({"time": values["cpu_seconds"], "memory": memory})
    return _over(found, found.xs("plain", level="remedy")).groupby("remedy").mean()


def judge(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the evidence for the claims B."""
    found = []
    for data, name in sources(rows).items():
        one, meda = against_one_epoch(rows, data), against(rows, data)
        held = against(rows, data, "tail_rewind_held")

        def add(claim, measure, table, epochs, *remedies, name=name):
            for remedy, epoch in product(remedies, epochs):
                point = f"{name}, {BOARD[remedy].label}, {epoch:g} epochs"
                found.append((claim, measure, point, table.xs(remedy, level="remedy")[epoch]))

        last = ENDS[1:]
        add("B1", "plain_end", one, ENDS, "plain")
        add("B2", "meda_quarter", one, QUARTERS, "meda")
        add("B2", "meda_last", one, last, "meda")
        add("B3", "blend_meda", meda, QUARTERS, "tail_rewind_blend")
        add("B3", "blend_last", one, last, "tail_rewind_blend")
        add("B3", "held_above", held, QUARTERS, "tail_rewind_blend")
        add("B3", "held_below", -held, QUARTERS, "tail_rewind_blend")
        add("B4", "decay", meda, last, "adamar", "even_l2", "whole_l2")
        add("B8", "leaky", one, last, *LEAKY)
        add("B9", "own_last", one, last, "leave_one_out_votes")
        add("B9", "own_meda", meda, last, "leave_one_out_votes")
    return evidence(found)


def _memory_of_a_count(rows: pd.DataFrame) -> float:
    """Returns what a count for each row adds to the memory of table and state, in %."""
    return 100 * (cost(rows).loc["tail_rewind", "memory"] - 1)


def facts(record: Record) -> dict:
    """Returns the values that the findings speak of, by name."""
    rows = record.rows
    one = {data: against_one_epoch(rows, data) for data in DATA}
    ends = {data: of[4.0].unstack("remedy") for data, of in one.items()}
    # At the end of an epoch, what is served otherwise is the same training.
    trainings = [n for n in HONEST if not BOARD[n].held_back and n != "tail_rewind_blend"]
    kinds = {"trainings": trainings, "leaky": list(LEAKY)}
    spans = {
        (kind, data): [interval(list(of[name])) for name in names]
        for kind, names in kinds.items()
        for data, of in ends.items()
    }
    held = against(rows, "world", "tail_rewind_held").xs("tail_rewind_blend", level="remedy")
    return by_name(
        one=one,
        honest={data: of[list(HONEST)] for data, of in ends.items()},
        others={data: of[list(LEAKY)] for data, of in ends.items()},
        meda={data: against(rows, data)[4.0].unstack("remedy") for data in DATA},
        tail={data: against(rows, data, "tail_rewind")[4.0].unstack("remedy") for data in DATA},
        of={data: change(rows, data)[4.0].unstack("objective") for data in DATA},
        # At the end of epoch 2 in the runs that were tuned for the end of epoch 4.
        two={data: against_one_epoch(rows, data, early=BOARD_EPOCHS[1])[2.0] for data in DATA},
        ahead=-held[1.25],
        from_checkpoint=held[1.25],
        cost=cost(rows),
        count_memory={data: _memory_of_a_count(rows[rows["data"] == data]) for data in DATA},
        threshold={
            "world": chosen(on_board("tail_rewind")).hyperparameter,
            "kuairand": chosen(on_board("tail_rewind", "half of kuairand")).hyperparameter,
        },
        n_below={key: float(sum(high < 0 for _, _, high in of)) for key, of in spans.items()},
    )

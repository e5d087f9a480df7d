"""Chapter 10: every remedy with the same search, on the same worlds, at the same points.

4 epochs on the test day, over seeds that no search has seen, all remedies of a seed before the next
seed. Then each remedy at three rates of the tables, for what it leaves of plain's jump.
"""

from __future__ import annotations

from dataclasses import asdict

import pandas as pd

from reproduction.findings import by_name
from reproduction.judge import evidence
from reproduction.measure import as_losses
from reproduction.records import Record
from reproduction.remedies.board import BOARD
from reproduction.runs import NEW_IDS, Profile, Run, run_all
from reproduction.tuning import BOARD_LR, chosen, on_board

NAME = "ch10_board"
SEEDS = tuple(range(20, 28))
DATA = {"world": "AdsWorld", "kuairand": "KuaiRand"}
SOURCES = {"world": "world", "kuairand": "half of kuairand"}
DOSES = BOARD_LR[1:]  # where plain's jump is small, medium and large
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
    "leave_one_out",
)
LIVE = ("plain", "fal", "meda", "tail_rewind_blend", "whole_l2", "label_smoothing")


def of_seed(seed: int, data: str, names=tuple(BOARD), epochs: int = 4) -> list[Run]:
    """Returns the board's runs of one seed; evaluated in epochs 1, 2 and the last."""
    source = SOURCES[data]
    more = {"about": {"data": data, "dose": 0.0}, "data": source, "group_by": NEW_IDS}
    more |= {"epochs": epochs, "evaluate_epochs": tuple(sorted({0, 1, epochs - 1}))}
    return [Run(name, seed, **asdict(chosen(on_board(name, source))), **more) for name in names]


def of_doses(seed: int, names=tuple(BOARD)) -> list[Run]:
    """Returns each remedy at the three rates of the tables, for 2 epochs on AdsWorld."""
    more = {"group_by": NEW_IDS, "epochs": 2, "evaluate_at": (0.25, 1.0)}
    found = []
    for name in names:
        best = chosen(on_board(name))
        for dose in DOSES:
            rate = dose * BOARD[name].scale(best.hyperparameter)
            about = {"data": "world", "dose": dose}
            found.append(
                Run(name, seed, **asdict(best) | {"embedding_lr": rate}, about=about, **more)
            )
    return found


def run(
    profile: Profile,
    device: str = "auto",
    seeds=None,
    store=None,
    log=print,
    names=tuple(BOARD),
    data=tuple(DATA),
    epochs: int = 4,
    doses: bool = True,
) -> pd.DataFrame:
    """Returns the losses of the board and of the doses, with times and sizes."""
    seeds = seeds or SEEDS
    trials = [t for s in seeds for one in data for t in of_seed(s, one, names, epochs)]
    if doses:
        trials += [t for s in seeds for t in of_doses(s, names)]
    return as_losses(run_all(trials, profile.board(), device, store, log))


def most_trials(searched: pd.DataFrame) -> int:
    """Returns how many points the board's search tried on AdsWorld, at most, by its record."""
    points = searched[searched["data"] == "world"]
    points = points[["remedy", "rate", "hyperparameter", "dense_factor"]].drop_duplicates()
    return int(points["remedy"].value_counts().max())


POINTS = (1.25, 2.0, 3.25, 4.0)


def losses(rows: pd.DataFrame, data: str, group: str = "all") -> pd.DataFrame:
    """Returns the board's losses by (remedy, seed, objective), a column an epoch."""
    mine = rows[(rows["dose"] == 0) & (rows["data"] == data) & (rows["group"] == group)]
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
    mine = rows[(rows["dose"] > 0) & (rows["metric"] == "loss")]
    mine = mine[mine["group"] == "all"]
    keys = ["remedy", "dose", "seed", "objective"]
    loss = mine.pivot_table(index=keys, columns="epoch", values="value")
    jump = (100 * (loss[1.25] / loss[1.0] - 1)).groupby(keys[:-1]).mean().unstack("dose")
    jump = jump[list(DOSES)]
    dose = jump.xs("plain", level="remedy").mean()
    return (100 * jump / dose).set_axis(dose.to_list(), axis=1)


def cost(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns CPU time and memory by remedy, in multiples of plain's; means over the board's runs.

    The time is that of the whole run, evaluation included; the memory is that of the tables, their
    optimizer's state and the remedy.
    """
    mine = rows[(rows["dose"] == 0) & (rows["objective"] == "")]
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
    """Returns the evidence for B1 to B7."""
    found = []
    for data, name in DATA.items():
        if data not in set(rows["data"]):
            continue
        one, meda = against_one_epoch(rows, data), against(rows, data)
        blend = against(rows, data, "tail_rewind_blend")

        def add(claim, measure, table, remedy, epochs, name=name):
            for epoch in epochs:
                point = f"{name}, {BOARD[remedy].label}, {epoch:g} epochs"
                found.append((claim, measure, point, table.xs(remedy, level="remedy")[epoch]))

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
    return evidence(found)


def facts(record: Record) -> dict:
    """Returns the values that the findings speak of, by name."""
    rows = record.rows
    one = {data: against_one_epoch(rows, data) for data in DATA}
    ends = {data: of[4.0].unstack("remedy") for data, of in one.items()}
    others = [name for name in BOARD if name not in HONEST]
    close = one["world"][2.0].groupby("remedy").mean().abs() < 2
    return by_name(
        one=one,
        nine={data: of[list(HONEST)] for data, of in ends.items()},
        eight=ends["kuairand"][[name for name in HONEST if name != "two_fold"]],
        other={data: of[others] for data, of in ends.items()},
        close=close.sum(),
        share_close=close.sum() / len(BOARD),
        cost=cost(rows),
    )

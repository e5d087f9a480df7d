"""Claim C8: day after day, judged on the next day, in the default setting.

Each method is searched for one epoch a day or for two, at the sizes of the board. Losses are those
under the true probabilities, a quarter into the last epoch over a day and at its end.
"""

from dataclasses import asdict

import numpy as np
import pandas as pd
import torch

from multiepoch_lab.data import AdsWorld
from multiepoch_lab.train.metrics import auc
from reproduction import measure
from reproduction.findings import by_name
from reproduction.judge import evidence
from reproduction.measure import EXPECTED, POINT, losses, over_objectives, relative
from reproduction.records import Record
from reproduction.runs import Profile, Run, over_seeds, run_all
from reproduction.tuning import DAY_TAIL, Arm

NAME = "days"
SEEDS = tuple(range(30, 38))  # no pilot and no tuning has seen them
QUARTER, END = 0.25, 1.0  # of the last epoch over a day
FIRST_DAY = 3  # the first days say how fast a model learns from nothing; fading comes after
SPAN = 3  # days at the end over which a method is summed up
LEAKING = ("user", "user_x_advertiser")  # the tables whose leak is measured


ONE_EPOCH, MORE_DATA = "plain, 1 epoch", "1 epoch, twice the data"
PLAIN, SAME_RATES = "plain, 2 epochs", "plain, 2 epochs, rates for 1"
FAL, FAL_SAME = "FAL", "FAL, rates for 1"
REDRAWN, RESTORED, GROUPS = "MEDA, redrawn", "MEDA, restored", "MEDA, groups"
GROUPS_SAME = "MEDA, groups, rates for 1"
TAIL, BLENDED = "tail rewind", "tail rewind, blended"
ARMS = {
    ONE_EPOCH: Arm("plain", 1, 1),
    MORE_DATA: Arm("plain", 1, 1),
    PLAIN: Arm("plain"),
    SAME_RATES: Arm("plain", tuned_for=1),
    FAL: Arm("fal"),
    FAL_SAME: Arm("fal", tuned_for=1),
    REDRAWN: Arm("meda"),
    RESTORED: Arm("meda_restored"),
    GROUPS: Arm("meda_groups"),
    GROUPS_SAME: Arm("meda_groups", tuned_for=1),
    TAIL: Arm(DAY_TAIL),
    # Blending leaves training as it is, so it takes the rates of tail rewind.
    BLENDED: Arm(f"{DAY_TAIL}_blend", tuned_as=DAY_TAIL),
}
MEDA = (REDRAWN, RESTORED, GROUPS)
# Whose gain over what may fade.
GAINS = {"fal": (FAL, PLAIN), "meda": (GROUPS, PLAIN), "tail": (TAIL, PLAIN)}
LIVE = (ONE_EPOCH, MORE_DATA, PLAIN, FAL, RESTORED, GROUPS, TAIL)  # what the notebook runs itself


def run_of(setting: str, days: int) -> Run:
    """Returns the run of one of ARMS, of seed 0."""
    arm, times_data = ARMS[setting], 2.0 if setting == MORE_DATA else 1.0
    how = asdict(arm.rates) | {"epochs": arm.epochs, "times_data": times_data}
    how |= {"rule": "rowwise_adagrad", "day_evaluate_at": (QUARTER, END)}
    return Run(arm.method, 0, setting=setting, days=days, **how)


def run(profile: Profile, device: str = "auto", seeds=None, arms=tuple(ARMS)) -> pd.DataFrame:
    """Trains day by day; returns the losses as rows of `runs.COLUMNS`, a setting an arm."""
    todo = [run_of(name, profile.days) for name in arms]
    rows = run_all(over_seeds(seeds or SEEDS, todo), profile.board(), device)
    return rows[rows["metric"] == EXPECTED].reset_index(drop=True)


def gain(rows: pd.DataFrame, setting: str, base: str = ONE_EPOCH, at: float = END) -> pd.DataFrame:
    """Returns a setting's next-day loss against another's in %, mean over objectives.

    A row for each day, a column for each seed. `at` is QUARTER or END, of the last epoch over a
    day. One epoch is taken at its end.
    """

    def of(name: str, point: float) -> pd.Series:
        loss = losses(rows, EXPECTED, by=POINT, setting=name)
        loss = loss[(loss.index.get_level_values("epoch") - point) % 1 == 0]
        by_day = loss.rename(lambda epoch: int(epoch - point) + 1, level="epoch")
        return by_day.rename_axis(index={"epoch": "day"})

    change = relative(of(setting, at), of(base, END if base in (ONE_EPOCH, MORE_DATA) else at))
    return over_objectives(change).unstack("seed").sort_index()


def slope(by_day: pd.DataFrame, first: int = FIRST_DAY) -> pd.Series:
    """Returns the least-squares rise a day of a `gain` from day `first` on, by seed."""
    table = by_day.loc[first:]
    return pd.Series(np.polyfit(table.index, table.to_numpy(), 1)[0], index=table.columns)


def last_days(by_day: pd.DataFrame) -> pd.Series:
    """Returns the mean of a `gain` over the last days, by seed."""
    return by_day.iloc[-SPAN:].mean()


def later(rows: pd.DataFrame, setting: str, base: str = ONE_EPOCH, at: float = END) -> pd.Series:
    """Returns the mean of `gain` from day FIRST_DAY on, by seed."""
    return gain(rows, setting, base, at).loc[FIRST_DAY:].mean()


def leak(world: AdsWorld, days: int) -> pd.DataFrame:
    """Returns the AUC of a row's mean click by table and day.

    Columns second_epoch: rows that know all days so far, on today's impressions; all_days: the
    same rows on tomorrow's; today: rows that know only today, on tomorrow's.
    """
    n_rows = world.schema(days).cardinality
    so_far = {table: torch.zeros(2, n_rows[table]) for table in LEAKING}
    found, today = {}, world.day(0)
    for day in range(days):
        tomorrow = world.day(day + 1)
        for table in LEAKING:
            alone = measure.tally(today.ids[table], today.labels[:, 0], n_rows[table])
            so_far[table] += alone

            known = {"second_epoch": (today, so_far[table]), "all_days": (tomorrow, so_far[table])}
            found[table, day + 1] = {
                name: auc(measure.mean_labels(counts)[log.ids[table]], log.labels[:, 0])
                for name, (log, counts) in (known | {"today": (tomorrow, alone)}).items()
            }
        today = tomorrow
    return pd.DataFrame(found).T.rename_axis(["table", "day"])


def judge(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the evidence for C8."""
    point = f"{rows['epoch'].max():.0f} days"
    found = {f"{name}_tuned": slope(gain(rows, *pair)) for name, pair in GAINS.items()}
    found["plain_recovers"] = slope(gain(rows, SAME_RATES))
    found["fresh"] = later(rows, MORE_DATA, TAIL)
    return evidence(("C8", name, point, values) for name, values in found.items())


def facts(record: Record) -> dict:
    """Returns the values that the findings speak of, by name."""
    rows = record.rows
    same = {"fal": (FAL_SAME, SAME_RATES), "meda": (GROUPS_SAME, SAME_RATES)}
    collapsed = gain(rows, SAME_RATES)
    return by_name(
        days=len(collapsed),
        first_day=FIRST_DAY,
        tau=ARMS[TAIL].rates.hyperparameter,
        apart=later(rows, TAIL, RESTORED),
        tail={"more": later(rows, TAIL, MORE_DATA)},
        slope={name: slope(gain(rows, *pair)) for name, pair in GAINS.items()},
        slope_same={name: slope(gain(rows, *pair)) for name, pair in same.items()},
        against_one={
            name: slope(gain(rows, one))
            for name, one in {"plain": PLAIN, "fal": FAL, "tail": TAIL}.items()
        },
        recovery=-slope(collapsed),
        first={"same": collapsed.loc[FIRST_DAY]},
        last={"same": collapsed.iloc[-1]},
        quarter={name: later(rows, name, at=QUARTER) for name in (RESTORED, TAIL, BLENDED)},
        end={name: later(rows, name) for name in ARMS if name != ONE_EPOCH},
        gained=later(rows, BLENDED, TAIL, QUARTER),
    )

"""Chapter 11, claims C8 and C11: day after day, judged on the next day, each method tuned."""

from collections.abc import Iterable
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import torch

from multiepoch.data import AdsWorld
from multiepoch.train.metrics import auc
from reproduction.findings import by_name
from reproduction.judge import evidence
from reproduction.measure import (
    EXPECTED,
    POINT,
    losses,
    mean_labels,
    over_objectives,
    relative,
    tally,
)
from reproduction.records import Record
from reproduction.runs import Profile, Run, over_seeds, run_all
from reproduction.tuning import TUNING_DAYS, TWO_EPOCHS, tuned

NAME = "ch11_new_data_every_day"
ONE_EPOCH, MORE_DATA = "plain, 1 epoch", "plain, 1 epoch over twice the data"
SAME_RATES = "plain, 2 epochs at the rates for one"
MEDA = ("meda", "meda_restored", "meda_groups")
# Trained with two epochs in every profile; the others of TWO_EPOCHS only in long and gpu.
LIVE = ("plain", "fal", "meda_restored", "meda_groups", "day_tail_rewind")
SPAN = 3  # days at the start and at the end over which a method is summed up
LEAKING = ("user", "user_x_advertiser")  # the tables whose leak is measured


def label(method: str, epochs: int) -> str:
    """Returns how rows name a method and its epochs a day."""
    return f"{method}, {epochs} epoch{'s' if epochs > 1 else ''}"


def in_world(setting: str) -> str:
    """Returns the setting as the rows have it: with the world, of which the record has others."""
    return f"{setting}; default drift and churn"


def ran(rows: pd.DataFrame, settings: Iterable[str]) -> list[str]:
    """Returns those of the settings that were run."""
    found = set(rows["setting"])
    return [setting for setting in settings if in_world(setting) in found]


def n_days(profile: Profile) -> int:
    """Returns how many days a profile trains on."""
    return {"quick": 4, "gpu": 30}.get(profile.name, 10)


def runs(days: int, methods=TWO_EPOCHS) -> list[Run]:
    """Returns one epoch a day, each method with two, and the controls.

    The controls are one epoch over twice the data, and two at the rates for one: plain training's
    best rates for two epochs are low, to remember little.
    """

    def run(method: str, epochs: int, tuned_epochs: int, setting: str = "", **more) -> Run:
        best = asdict(tuned(method, tuned_epochs, days=TUNING_DAYS))
        more |= {"setting": in_world(setting or label(method, epochs)), "epochs": epochs}
        return Run(method, 0, **best, days=days, **more)

    return [
        *(run(method, 2, 2) for method in methods),
        run("plain", 2, 1, setting=SAME_RATES),
        run("plain", 1, 1, setting=MORE_DATA, times_data=2.0),
        run("plain", 1, 1),
    ]


def run(profile: Profile, device: str = "auto", seeds=None, store=None, log=print) -> pd.DataFrame:
    """Trains day by day and returns rows of `runs.COLUMNS`.

    Only long and gpu have every method, and two epochs at the rates for one.
    """
    todo = runs(n_days(profile))
    if profile.name not in ("long", "gpu"):
        todo = [r for r in runs(n_days(profile), LIVE) if r.setting != in_world(SAME_RATES)]
    return run_all(over_seeds(seeds or profile.seeds, todo), profile, device, store, log)


def gain(rows: pd.DataFrame, setting: str, base: str = ONE_EPOCH) -> pd.Series:
    """Returns a setting's next-day logloss against another's in %, by day, seed and objective."""
    settings = (in_world(name) for name in (setting, base))
    change = relative(*(losses(rows, by=POINT, setting=name) for name in settings))
    return change.rename_axis(index={"epoch": "day"})


def mean_by_day(by_day: pd.Series) -> pd.DataFrame:
    """Returns a gain averaged over objectives: a row a day, a column a seed."""
    return over_objectives(by_day).unstack("seed").sort_index()


def slope(by_day: pd.Series, first: int = 1) -> pd.Series:
    """Returns the least-squares rise by day from day `first` on, mean over objectives, by seed."""
    table = mean_by_day(by_day).loc[first:]
    return pd.Series(np.polyfit(table.index, table.to_numpy(), 1)[0], index=table.columns)


def first_days(by_day: pd.Series) -> pd.Series:
    """Returns the mean over objectives and the first days, by seed."""
    return mean_by_day(by_day).iloc[:SPAN].mean()


def last_days(by_day: pd.Series) -> pd.Series:
    """Returns the mean over objectives and the last days, by seed."""
    return mean_by_day(by_day).iloc[-SPAN:].mean()


def best_meda(rows: pd.DataFrame) -> str:
    """Returns the meaning of MEDA that does best over the last days, of those that were run."""
    there = [name for name in MEDA if ran(rows, [label(name, 2)])]
    return min(there, key=lambda name: last_days(gain(rows, label(name, 2))).mean())


def bytes_at_end(rows: pd.DataFrame, setting: str, metric: str) -> pd.Series:
    """Returns the bytes that the runs of a setting report at their end, by seed."""
    mine = rows[(rows["setting"] == in_world(setting)) & (rows["metric"] == metric)]
    return mine.set_index("seed")["value"]


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
            alone = tally(today.ids[table], today.labels[:, 0], n_rows[table])
            so_far[table] += alone

            known = {"second_epoch": (today, so_far[table]), "all_days": (tomorrow, so_far[table])}
            found[table, day + 1] = {
                name: auc(mean_labels(counts)[log.ids[table]], log.labels[:, 0])
                for name, (log, counts) in (known | {"today": (tomorrow, alone)}).items()
            }
        today = tomorrow
    return pd.DataFrame(found).T.rename_axis(["table", "day"])


def growth(profile: Profile, seed: int, below: float) -> pd.DataFrame:
    """Counts the rows of each table by day: seen so far, touched, and fewer than `below` times.

    The columns are day (from 1 on, as in result rows), table, rows, touched and infrequent.
    """
    world, days, found = profile.world(seed), n_days(profile), []
    tables = world.schema(days).cardinality
    seen = {name: torch.zeros(n, dtype=torch.bool) for name, n in tables.items()}
    for day in range(days):
        for table, ids in world.day(day).ids.items():
            counts = torch.bincount(ids, minlength=tables[table])
            touched = counts > 0
            seen[table] |= touched
            rows = (seen[table], touched, touched & (counts < below))
            found.append((day + 1, table, *(int(part.sum()) for part in rows)))
    return pd.DataFrame(found, columns=["day", "table", "rows", "touched", "infrequent"])


def memory(grown: pd.DataFrame, dim: int) -> pd.DataFrame:
    """Returns the bytes by day that follow from `growth`, for rows of `dim` floats under Adam.

    Columns tables, moments: of the rows seen so far; first_epoch, later_epochs: of tail rewind's
    undo log. It has an id and a count (8 and 4 bytes) for each row touched and, for each row that
    may go back, its id, weights and moments: at first every row touched, then the infrequent ones.
    """
    by_day = grown.groupby("day")[["rows", "touched", "infrequent"]].sum()
    weights = 4 * dim
    counted, kept = 8 + 4, 8 + 3 * weights
    found = {
        "tables": by_day["rows"] * weights,
        "moments": by_day["rows"] * 2 * weights,
        "first_epoch": by_day["touched"] * (counted + kept),
        "later_epochs": by_day["touched"] * counted + by_day["infrequent"] * kept,
    }
    return pd.DataFrame(found)


# From day 3 on ----------------------------------------------------------------------------------

# The first days say how fast a model learns from nothing; fading is what comes after. It is
# measured at the rates tuned for two epochs a day, where plain training remembers little, and at
# the rates tuned for one, where plain training collapses first and has something to recover from.
FROM_DAY_THREE = "from_day_three"
SEEDS = tuple(range(20, 28))

FIRST_DAY = 3
N_DAYS, LONGER = 10, 20
FEWER_SEEDS = 3  # of the longer stream
TWO, ONE = "tuned for two epochs", "tuned for one epoch"
METHODS = ("plain", "fal", "meda_groups")


def runs_from_day_three(days: int) -> list[Run]:
    """Returns the runs of one seed: three methods at both sets of rates, and one epoch a day."""
    one = tuned("plain", 1, days=TUNING_DAYS)
    arms = [("plain", 1, one, ONE)]
    for method in METHODS:
        two = tuned(method, 2, days=TUNING_DAYS)
        slow = replace(one, hyperparameter=two.hyperparameter)
        arms += [(method, 2, two, TWO), (method, 2, slow, ONE)]
    return [
        Run(
            method,
            0,
            **asdict(best),
            about={"epochs": epochs, "rates": rates, "days": days},
            epochs=epochs,
            days=days,
        )
        for method, epochs, best, rates in arms
    ]


def run_from_day_three(
    profile: Profile, device: str = "auto", seeds=None, store=None, log=print
) -> pd.DataFrame:
    """Returns rows of runs.COLUMNS, and `epochs`, `rates` and `days`."""
    seeds = seeds or SEEDS
    todo = over_seeds(seeds, runs_from_day_three(N_DAYS)) + over_seeds(
        seeds[:FEWER_SEEDS], runs_from_day_three(LONGER)
    )
    rows = run_all(todo, profile, device, store, log)
    return rows[rows["metric"].isin(["logloss", "expected_logloss"])]


def against(
    rows: pd.DataFrame, method: str, rates: str, days: int = N_DAYS, base_epochs: int = 2
) -> pd.Series:
    """Returns a method's next-day loss against plain training's in %, by day, seed and objective.

    Plain training has the same rates, except that its one epoch a day has those tuned for one.
    """
    base_rates = rates if base_epochs == 2 else ONE
    ours = losses(rows, EXPECTED, method=method, epochs=2, rates=rates, days=days)
    base = losses(rows, EXPECTED, method="plain", epochs=base_epochs, rates=base_rates, days=days)
    return relative(ours, base).rename_axis(index={"epoch": "day"})


def by_day(rows: pd.DataFrame, method: str, rates: str, **which) -> pd.DataFrame:
    """Returns `against` averaged over objectives: a row a day, a column a seed."""
    return mean_by_day(against(rows, method, rates, **which))


def judge_from_day_three(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the evidence for C8."""
    found = []
    for days in sorted(set(rows["days"])):
        point = f"{days} days"
        for name, method in (("fal_tuned", "fal"), ("meda_tuned", "meda_groups")):
            found.append(("C8", name, point, slope(against(rows, method, TWO, days), FIRST_DAY)))
        plain = against(rows, "plain", ONE, days, base_epochs=1)
        found.append(("C8", "plain_recovers", point, slope(plain, FIRST_DAY)))
    return evidence(found)


def facts(record: Record) -> dict:
    """Returns the values that the findings speak of, by name."""
    rows, tail = record.rows, label("day_tail_rewind", 2)
    settings = {"more": MORE_DATA, "plain": label("plain", 2), "day_tail_rewind": tail}
    return by_name(
        late={name: last_days(gain(rows, one)) for name, one in settings.items()},
        tail={"more": last_days(gain(rows, tail, MORE_DATA))},
    )


def facts_from_day_three(record: Record) -> dict:
    """Returns those of the record of FROM_DAY_THREE."""
    rows, plain = record.rows, against(record.rows, "plain", ONE, base_epochs=1)
    which = {"fal": ("fal", TWO), "meda_groups": ("meda_groups", TWO), "fal_high": ("fal", ONE)}
    slopes = {name: slope(against(rows, *one), FIRST_DAY) for name, one in which.items()}
    return by_name(slope=slopes, recovery=-slope(plain, FIRST_DAY), plain=mean_by_day(plain))

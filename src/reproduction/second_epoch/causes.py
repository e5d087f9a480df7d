"""Claims C5 and C12 under both rules of the tables: what causes the jump, in the default setting.

C5 intervenes on epoch 2, at one rate of the tables for each rule. C12 takes the own label of an
impression out of the rows that it reads, by two-fold tables under either rule and by leave-one-out
rows, whose rule is their own; with the sparsest cross and without it, to the end of epoch 2. On
AdsWorld, C5 has the size of the profile, and C12 an eighth of it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from reproduction.judge import evidence
from reproduction.measure import DRAWN, EXPECTED, POINT, losses, over_objectives, relative
from reproduction.runs import SOURCES, Profile, Run, over_seeds, run_all
from reproduction.runs.interventions import INTERVENTIONS

NAME = "causes"
SEEDS = tuple(range(30, 38))  # no pilot and no tuning has seen them
DATA = {"AdsWorld": "world", "KuaiRand": "kuairand"}
# The tables' rates; the middle one is about the best of one epoch.
RATES = {
    "row-wise Adagrad": tuple(10**exponent for exponent in (-1.0, -0.5, 0.0)),
    "Adam": tuple(10**exponent for exponent in (-2.5, -2.0, -1.5)),
}
RULES = {"row-wise Adagrad": "rowwise_adagrad", "Adam": "adam"}
OWN_RULE = "leave-one-out rows"
NEED_TRUTH = ("labels drawn anew", "fresh impressions")
POINTS = {"quarter": 1.25, "end": 2.0}
LEAST = 2.0  # %; plain's effect must be as large for a share of it to be judged


def interventions(data: str) -> list[Run]:
    """Returns the runs of one seed for C5 on one source."""
    found = []
    for rule, (_, rate, _) in RATES.items():
        for name in ("", *INTERVENTIONS):
            if name in NEED_TRUTH and data != "AdsWorld":
                continue
            about = {"data": data, "rule": rule, "rate": rate, "cross": True}
            groups = SOURCES[DATA[data]].new_ids[1] if not name else ""
            more = {"epochs": 2, "data": DATA[data], "rule": RULES[rule]}
            found.append(
                Run(
                    "plain",
                    0,
                    1e-3,
                    rate,
                    setting=name or "plain",
                    intervention=name,
                    group_by=groups,
                    about=about,
                    **more,
                )
            )
    return found


def own_label(data: str) -> list[Run]:
    """Returns the runs of one seed for C12 on one source."""
    arms = [
        (rule, m, rate) for rule in RULES for m in ("plain", "two_fold") for rate in RATES[rule]
    ]
    arms += [(OWN_RULE, "leave_one_out_votes", rate) for rate in (10**-0.5, 1.0)]
    return [
        Run(
            method,
            0,
            1e-3,
            rate,
            100 if rule == OWN_RULE else None,
            setting=method,
            epochs=2,
            data=DATA[data],
            cross=cross,
            rule=RULES.get(rule, "rowwise_adagrad"),
            about={"data": data, "rule": rule, "rate": rate, "cross": cross},
        )
        for cross in (True, False)
        for rule, method, rate in arms
    ]


def run(profile: Profile, device: str = "auto", seeds=None, store=None, log=print) -> pd.DataFrame:
    """Returns rows of runs.COLUMNS with `claim`, `data`, `rule`, `rate` and `cross`."""
    seeds, found = tuple(seeds or SEEDS), []
    for data in reversed(DATA):  # the shorter first
        for claim, runs, sizes in (
            ("C12", own_label(data), profile.board()),
            ("C5", interventions(data), profile),
        ):
            rows = run_all(over_seeds(seeds, runs), sizes, device, store, log)
            found.append(rows.assign(claim=claim))
    rows = pd.concat(found, ignore_index=True)
    return rows[rows["metric"].isin([EXPECTED, DRAWN])].reset_index(drop=True)


def _where(rows: pd.DataFrame, claim: str, **of) -> pd.DataFrame:
    for column, value in {"claim": claim, **of}.items():
        rows = rows[np.isclose(rows[column], value) if column == "rate" else rows[column] == value]
    return rows


def change(rows: pd.DataFrame, at: str, **which) -> pd.Series:
    """Returns the loss at one of POINTS against that at the end of epoch 1, in %.

    Of rows that differ in nothing but setting, objective, seed and epoch, by the first three.
    """
    by = ("setting", *POINT)
    ends = (losses(rows, None, by=by, epoch=epoch, **which) for epoch in (POINTS[at], 1.0))
    return relative(*ends)


def gone(rows: pd.DataFrame, data: str, rule: str) -> pd.DataFrame:
    """Returns the % of plain's jump that an intervention takes away: a row a seed.

    Mean over objectives; the seeds share plain's mean jump as the denominator.
    """
    jumps = over_objectives(change(_where(rows, "C5", data=data, rule=rule), "quarter"))
    jumps = jumps.unstack("setting")
    return (100 * (1 - jumps.div(jumps["plain"].mean()))).drop(columns="plain")


def tenths(rows: pd.DataFrame, data: str, rule: str) -> pd.Series:
    """Returns plain's jump on the least frequent tenth of items less that on the most, by seed."""
    mine = _where(rows, "C5", data=data, rule=rule, setting="plain")
    least, most = (over_objectives(change(mine, "quarter", group=g)) for g in ("0", "9"))
    return (least - most).droplevel("setting")


def left(
    rows: pd.DataFrame, data: str, rule: str, cross: bool, rate: float, at: str
) -> tuple[pd.Series, pd.DataFrame]:
    """Returns plain's change by objective, and the % of it that two-fold tables leave.

    The first in %, mean over seeds, with "all" for the mean over objectives. The second has a row a
    seed and the same columns; the seeds share the denominator.
    """
    mine = _where(rows, "C12", data=data, rule=rule, cross=cross, rate=rate)
    by_setting = change(mine, at).unstack("objective")
    by_setting["all"] = by_setting.mean(axis=1)
    plain, ours = (by_setting.xs(name, level="setting") for name in ("plain", "two_fold"))
    return plain.mean(), 100 * ours / plain.mean()


def leave_one_out(rows: pd.DataFrame, data: str, cross: bool, rate: float, at: str) -> pd.DataFrame:
    """Returns leave-one-out rows' change in % by objective, and "all": a row a seed."""
    mine = _where(rows, "C12", data=data, rule=OWN_RULE, cross=cross, rate=rate)
    found = change(mine, at).droplevel("setting").unstack("objective")
    return found.assign(all=found.mean(axis=1))


def judge(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the evidence for C5 and C12, of the sources that the rows have."""
    found: list[tuple] = []
    for data in [name for name in DATA if name in set(rows["data"])]:
        for rule in RULES:
            where = f"{data}, {rule}"
            part = gone(rows, data, rule)
            found.append(("C5", "decile", where, tenths(rows, data, rule)))
            found.append(("C5", "tail_frozen", where, part["infrequent rows frozen"]))
            found.append(("C5", "dense_frozen", where, part["dense layers frozen"]))
            if "labels drawn anew" in part:
                found.append(("C5", "resampled", where, part["labels drawn anew"]))
        found += _c12(rows, data)
    return evidence(found)


def _c12(rows: pd.DataFrame, data: str) -> Iterator[tuple]:
    for cross in (True, False):
        words = data + ("" if cross else ", no cross")
        for rule in RULES:
            for rate in RATES[rule]:
                where = f"{words}, {rule}, tables at {rate:.2g}"
                for at, measure_ in (("quarter", "left_quarter"), ("end", "left_end")):
                    plain, share = left(rows, data, rule, cross, rate, at)
                    if plain["all"] >= LEAST:
                        yield "C12", measure_, where, share["all"]
                    if at == "quarter" and cross and rate == RATES[rule][1]:
                        for name in share.columns.drop("all"):
                            yield "C12", "left_objective", f"{where}, {name}", share[name]
        for rate in (10**-0.5, 1.0):
            where = f"{words}, tables at {rate:.2g}"
            for at, measure_ in (("quarter", "own_quarter"), ("end", "own_end")):
                yield "C12", measure_, where, leave_one_out(rows, data, cross, rate, at)["all"]

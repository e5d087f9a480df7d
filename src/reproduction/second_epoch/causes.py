"""Claims C5 and C12 under both rules of the tables: what causes the jump, in the default setting.

C5 intervenes on epoch 2, at one rate of the tables for each rule. C12 takes the own label of an
impression out of the rows that it reads, by two-fold tables under either rule and by leave-one-out
rows, whose rule is their own; with the sparsest cross and without it, to the end of epoch 2. On
AdsWorld, C5 has the size of the profile, and C12 an eighth of it.
"""

import textwrap
from collections.abc import Iterator
from itertools import product

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from reproduction import style
from reproduction.findings import by_name
from reproduction.judge import evidence
from reproduction.measure import DRAWN, EXPECTED, intervals, losses, ran, relative
from reproduction.records import Record
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
DEFAULT = "row-wise Adagrad"  # of the default setting
OWN_RULE, OWN_RATES = "leave-one-out rows", (10**-0.5, 1.0)
NEED_TRUTH = ("labels drawn anew", "fresh impressions")
POINTS = {"quarter": 1.25, "end": 2.0}
CONDITION = ("claim", "data", "rule", "cross", "rate")
LEAST = 2.0  # %; plain's effect must be as large for a share of it to be judged


def interventions(data: str) -> list[Run]:
    """Returns the runs of one seed for C5 on one source."""
    items, found = SOURCES[DATA[data]].new_ids[1], []
    for rule, (_, rate, _) in RATES.items():
        about = {"data": data, "rule": rule, "rate": rate, "cross": True}
        how = {"epochs": 2, "data": DATA[data], "rule": RULES[rule], "about": about}
        found.append(Run("plain", 0, 1e-3, rate, setting="plain", group_by=items, **how))
        for name in INTERVENTIONS:
            if data == "AdsWorld" or name not in NEED_TRUTH:
                found.append(Run("plain", 0, 1e-3, rate, setting=name, intervention=name, **how))
    return found


def own_label(data: str) -> list[Run]:
    """Returns the runs of one seed for C12 on one source."""
    arms = [
        (rule, m, rate) for rule in RULES for m in ("plain", "two_fold") for rate in RATES[rule]
    ]
    arms += [(OWN_RULE, "leave_one_out_votes", rate) for rate in OWN_RATES]
    found = []
    for cross, (rule, method, rate) in product((True, False), arms):
        about = {"data": data, "rule": rule, "rate": rate, "cross": cross}
        how = {"epochs": 2, "data": DATA[data], "cross": cross, "about": about}
        how["rule"] = RULES.get(rule, "rowwise_adagrad")
        tau = 100 if rule == OWN_RULE else None
        found.append(Run(method, 0, 1e-3, rate, tau, setting=method, **how))
    return found


def run(profile: Profile, device: str = "auto", seeds=None) -> pd.DataFrame:
    """Returns rows of runs.COLUMNS with `claim`, `data`, `rule`, `rate` and `cross`."""
    seeds, found = tuple(seeds or SEEDS), []
    for data in reversed(DATA):  # the shorter first
        for claim, runs, sizes in (
            ("C12", own_label(data), profile.board()),
            ("C5", interventions(data), profile),
        ):
            rows = run_all(over_seeds(seeds, runs), sizes, device)
            found.append(rows.assign(claim=claim))
    rows = pd.concat(found, ignore_index=True)
    return rows[rows["metric"].isin([EXPECTED, DRAWN])].reset_index(drop=True)


def run_live(profile: Profile, device: str, seeds) -> pd.DataFrame:
    """Returns the rows of C5 in AdsWorld's default setting."""
    mine = [one for one in interventions("AdsWorld") if one.rule == RULES[DEFAULT]]
    return run_all(over_seeds(seeds, mine), profile, device).assign(claim="C5")


def left_live(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the % of plain's jump that an intervention leaves: a row a seed."""
    return 100 - gone(changes(rows), "AdsWorld", DEFAULT)


def directions(rows: pd.DataFrame) -> dict[str, bool]:
    """Returns the conditions that hold for every seed of `run_live`."""
    left, found = left_live(rows), {}
    for name in NEED_TRUTH:
        found[f"{name} leave less than half of the jump"] = (left[name] < 50).all()
    alone = left["dense layers frozen"] < left["tables frozen"]
    return found | {"the tables alone do less harm than the dense layers alone": alone.all()}


def changes(rows: pd.DataFrame, at: str = "quarter", group: str = "all") -> pd.DataFrame:
    """Returns the loss at one of POINTS against that at the end of epoch 1, in %.

    A row for each (claim, data, rule, cross, rate, setting) and seed; a column an objective, and
    "all" for their mean.
    """
    rows = rows.astype({"value": "float64"})
    by = (*CONDITION, "setting", "objective", "seed")
    ends = (losses(rows, None, group, by, epoch=epoch) for epoch in (POINTS[at], 1.0))
    found = relative(*ends).unstack("objective").dropna(how="all")
    return found.assign(all=found.mean(axis=1))


def gone(quarter: pd.DataFrame, data: str, rule: str) -> pd.DataFrame:
    """Returns the % of plain's jump that an intervention takes away: a row a seed.

    Mean over objectives; the seeds share plain's mean jump as the denominator.
    """
    jumps = quarter.loc["C5", data, rule, True, RATES[rule][1]]["all"].unstack("setting")
    return (100 * (1 - jumps.div(jumps["plain"].mean()))).drop(columns="plain")


def tenths(rows: pd.DataFrame, data: str, rule: str) -> pd.Series:
    """Returns plain's jump on the least frequent tenth of items less that on the most, by seed."""
    mine = rows[(rows["claim"] == "C5") & (rows["data"] == data) & (rows["rule"] == rule)]
    least, most = (changes(mine, group=group)["all"] for group in ("0", "9"))
    return (least - most).groupby("seed").mean()


def left(
    change: pd.DataFrame, data: str
) -> Iterator[tuple[bool, str, float, pd.Series, pd.DataFrame]]:
    """Yields what two-fold tables leave of plain's change, by cross, rule and rate of the tables.

    change: Of `changes`. Beside these three, plain's mean change in %, and the % of it that is
    left, a row a seed. Both by objective, with "all" for their mean; the seeds share the
    denominator.
    """
    for cross, rule in product((True, False), RULES):
        for rate in RATES[rule]:
            at = change.loc["C12", data, rule, cross, rate].dropna(axis=1)
            plain, ours = (at.loc[name] for name in ("plain", "two_fold"))
            yield cross, rule, rate, plain.mean(), 100 * ours / plain.mean()


def leave_one_out(change: pd.DataFrame, data: str, cross: bool, rate: float) -> pd.Series:
    """Returns leave-one-out rows' change in %, mean over objectives, by seed."""
    return change.loc["C12", data, OWN_RULE, cross, rate, "leave_one_out_votes"]["all"]


def judge(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the evidence for C5 and C12, of the sources that the rows have."""
    found: list[tuple] = []
    change = {at: changes(rows, at) for at in POINTS}
    for data in ran(rows, DATA, "data"):
        for rule in RULES:
            where = f"{data}, {rule}"
            part = gone(change["quarter"], data, rule)
            found.append(("C5", "decile", where, tenths(rows, data, rule)))
            found.append(("C5", "tail_frozen", where, part["infrequent rows frozen"]))
            found.append(("C5", "dense_frozen", where, part["dense layers frozen"]))
            if "labels drawn anew" in part:
                found.append(("C5", "resampled", where, part["labels drawn anew"]))
        for at, of in change.items():
            found += _c12(of, data, at)
    return evidence(found)


def _c12(change: pd.DataFrame, data: str, at: str) -> Iterator[tuple]:
    words = {True: data, False: f"{data}, no cross"}
    for cross, rule, rate, plain, share in left(change, data):
        where = f"{words[cross]}, {rule}, tables at {rate:.2g}"
        if plain["all"] >= LEAST:
            yield "C12", f"left_{at}", where, share["all"]
        if at == "quarter" and cross and rate == RATES[rule][1]:
            for name in share.columns.drop("all"):
                yield "C12", "left_objective", f"{where}, {name}", share[name]
    for cross, rate in product(words, OWN_RATES):
        where = f"{words[cross]}, tables at {rate:.2g}"
        yield "C12", f"own_{at}", where, leave_one_out(change, data, cross, rate)


def facts(record: Record) -> dict:
    """Returns the values that the findings speak of, by name, at the middle rate of each rule.

    `most_left` is the largest mean share of the jump that two-fold tables leave, at any rate.
    """
    change = {at: changes(record.rows, at) for at in POINTS}
    words = {True: "cross", False: "no_cross"}
    share, own, means = {}, {}, []
    for data, (at, of) in product(DATA, change.items()):
        for cross, rule, rate, its, part in left(of, data):
            if at == "quarter" and its["all"] >= LEAST:
                means.append(float(part["all"].mean()))
            if rate == RATES[rule][1]:
                share[data, rule, words[cross], at] = part
        for cross in words:
            own[data, words[cross], at] = leave_one_out(of, data, cross, OWN_RATES[1])
    sides = list(product(DATA, RULES))
    return by_name(
        kept={side: 100 - gone(change["quarter"], *side) for side in sides},
        tenths={side: tenths(record.rows, *side) for side in sides},
        left=share,
        own=own,
        most_left=max(means),
    )


@style.shown("fig-causes")
def left_by_intervention(rows: pd.DataFrame) -> Figure:
    """Draws the part of the jump that each intervention leaves, mean over objectives."""
    found = intervals(left_live(rows).unstack(), ["setting"]).sort_values("mean", ascending=False)
    fig, axes = style.figure(height=4.2)
    y = np.arange(len(found))
    axes.barh(y, found["mean"], color="#B9C6CF", height=0.62)
    known = np.isfinite(found["low"].to_numpy())
    axes.hlines(y[known], found["low"][known], found["high"][known], color="black", linewidth=2)
    ends = np.where(known, found["high"], found["mean"]).clip(min=0)
    place = {"xytext": (5, 0), "textcoords": "offset points", "va": "center", "fontsize": 11}
    for k, value in enumerate(found["mean"]):
        axes.annotate(f"{value:.0f} %", (ends[k], k), **place)
    style.reference(axes, 100, vertical=True)
    axes.axvline(0, color="black", linewidth=1)
    axes.set_xlim(right=1.18 * max(100, ends.max()))
    axes.set_yticks(y, [textwrap.fill(name, 16) for name in found.index])
    axes.set_ylim(len(found) - 0.4, -0.6)
    axes.set_xlabel("part of the jump that is left, %")
    axes.grid(axis="y", visible=False)
    return fig

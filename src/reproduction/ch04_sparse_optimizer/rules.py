"""Chapter 5, claims C2 and C17: the rule of the tables, and a learning rate of their own.

Production trains tables by row-wise Adagrad and dense layers by Adam. Each pair of rules is trained
for one epoch with one shared rate and with a rate of the tables' own, both found by one search.
"""

from dataclasses import replace

import numpy as np
import pandas as pd

from reproduction.findings import by_name
from reproduction.judge import evidence
from reproduction.measure import by_seed, losses, relative
from reproduction.records import Record
from reproduction.runs import Profile, Run, over_seeds, run_all
from reproduction.tuning import RULES, Tuned, chosen, for_one_epoch, under_production_rule

NAME = "rules"
SEEDS = tuple(range(30, 38))  # no pilot and no tuning has seen them
DATA = {"world": "AdsWorld", "kuairand": "KuaiRand"}
PRODUCTION = "row-wise Adagrad"
POINTS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
LOGS = ("kuairand", "retailrocket", "tmall")  # each with a search of one epoch of its own
REPORTED = 50  # the tables' rate over the dense rate, as reported for the paper's model


def tuned(rule: str, data: str) -> dict[str, Tuned]:
    """Returns the best `shared` rate and the tables' `own`, with the dense rate beside it."""
    return {
        "shared": chosen(for_one_epoch(rule, data, shared=True)),
        "own": chosen(for_one_epoch(rule, data, shared=False)),
    }


def runs() -> list[Run]:
    """Returns the runs of one seed: every rule with both kinds of rates, on both sources."""
    found = []
    for data in DATA:
        for rule, fields in RULES.items():
            for rates, best in tuned(rule, data).items():
                about = {"data": data, "rule": rule, "rates": rates}
                of_run = {"data": data, "about": about, "evaluate_at": POINTS} | fields
                found.append(Run("plain", 0, best.dense_lr, best.embedding_lr, **of_run))
    reported = [
        replace(one, embedding_lr=REPORTED * one.dense_lr, about=one.about | {"rates": "reported"})
        for one in found
        if (one.about["rule"], one.about["rates"]) == (PRODUCTION, "own")
    ]
    return found + reported


def run(profile: Profile, device: str = "auto", seeds=None) -> pd.DataFrame:
    """Returns rows of runs.COLUMNS, with `data`, `rule` and `rates`."""
    rows = run_all(over_seeds(seeds or SEEDS, runs()), profile, device)
    return rows[rows["metric"].isin(["logloss", "expected_logloss", "auc"])]


def change(rows: pd.DataFrame, ours: tuple[str, str], theirs: tuple[str, str]) -> pd.Series:
    """Returns the loss after one epoch of one (rule, rates) against another's in %.

    By source, objective, from the densest to the sparsest, and seed.
    """
    found = {}
    for data, name in DATA.items():
        which = {"metric": None, "data": data, "epoch": 1.0, "by": ("objective", "seed")}
        ends = (losses(rows, rule=rule, rates=rates, **which) for rule, rates in (ours, theirs))
        found[name] = relative(*ends)
    return pd.concat(found, names=["data"])


def gains(rows: pd.DataFrame) -> pd.Series:
    """Returns the change by the tables' own rate in %, by rule, source, objective and seed."""
    found = {rule: change(rows, (rule, "own"), (rule, "shared")) for rule in RULES}
    return pd.concat(found, names=["rule"])


def against_adam(rows: pd.DataFrame) -> pd.Series:
    """Returns the change by production's rule against Adam in %, each with a rate of its own."""
    return change(rows, (PRODUCTION, "own"), ("Adam", "own"))


def reported(rows: pd.DataFrame) -> pd.Series:
    """Returns the change in % by tables at REPORTED times the dense rate, by source."""
    return change(rows, (PRODUCTION, "reported"), (PRODUCTION, "own"))


def steps_needed(rows: pd.DataFrame) -> pd.Series:
    """Returns the share of the epoch after which the own rate has the shared rate's final loss.

    By source, objective and seed; linear between the points, and 1 where it never gets there.
    """
    found = {}
    for data, name in DATA.items():
        which = {"metric": None, "data": data, "by": ("objective", "seed", "epoch")}
        own, shared = (
            losses(rows, rule=PRODUCTION, rates=rates, **which).unstack("epoch")
            for rates in ("own", "shared")
        )
        for key, curve in own.iterrows():
            so_far = np.minimum.accumulate(curve.to_numpy())
            at = np.interp(-shared.loc[key, 1.0], -so_far, curve.index, right=1.0)
            found[name, *key] = float(at)
    return pd.Series(found).rename_axis(["data", "objective", "seed"])


def judge(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the evidence for C2 and C17."""
    found = []
    own = change(rows, (PRODUCTION, "own"), (PRODUCTION, "shared"))
    rule = against_adam(rows)
    for name in DATA.values():
        gain = own[name]
        densest, *_, sparsest = gain.index.unique("objective")
        found += [
            ("C2", "one_epoch", name, by_seed(gain)),
            ("C2", "sparsest", name, gain[sparsest] - gain[densest]),
            ("C17", "rule", name, by_seed(rule[name])),
        ]
    real = DATA["kuairand"]
    return evidence([*found, ("C2", "reported", real, by_seed(reported(rows)[real]))])


def rates() -> dict[str, dict[str, str]]:
    """Returns the rates that the search found, by source and rule, for a table."""
    found = {}
    for data, name in DATA.items():
        for rule in RULES:
            shared, own = tuned(rule, data).values()
            found[f"{name}, {rule}"] = {
                "one shared rate": f"{shared.dense_lr:.2g}",
                "dense rate": f"{own.dense_lr:.2g}",
                "tables' rate": f"{own.embedding_lr:.2g}",
                "ratio": f"{own.embedding_lr / own.dense_lr:.0f}",
            }
    return found


def facts(record: Record) -> dict:
    """Returns the values that the findings speak of, by name."""
    rows = record.rows
    gain, rule = gains(rows), against_adam(rows)
    of_logs = {data: chosen(under_production_rule("plain", data)) for data in LOGS}
    own = {name: tuned(PRODUCTION, data)["own"] for data, name in DATA.items()}
    return by_name(
        gain=gain.groupby(["data", "rule", "seed"]).mean(),
        of=gain.xs(PRODUCTION, level="rule"),
        rule=rule.groupby(["data", "seed"]).mean(),
        reported=reported(rows).groupby(["data", "seed"]).mean(),
        steps=steps_needed(rows),
        log_ratio={data: one.embedding_lr / one.dense_lr for data, one in of_logs.items()},
        ratio={name: one.embedding_lr / one.dense_lr for name, one in own.items()},
    )

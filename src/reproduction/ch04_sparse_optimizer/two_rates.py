"""Chapter 4: a learning rate of the tables' own, in one epoch of the default setting.

`rules` decides the chapter's claims. Its seeds are the record's, so that both have the same gain.
"""

import pandas as pd

from reproduction.ch04_sparse_optimizer import rules
from reproduction.findings import by_name
from reproduction.measure import EXPECTED, by_seed, losses, relative
from reproduction.records import Record
from reproduction.runs import Profile, Run, over_seeds, run_all
from reproduction.tuning import RULES

NAME = "two_rates"
SHARED = "one shared rate, tuned"
OWN = "tables' own rate, tuned"
WHOLE = "whole network at the tables' rate"
MULTIPLES = (1, 10, rules.REPORTED, 1000)  # of the dense rate, beside the best one


def multiple(times: float) -> str:
    """Returns the setting of the sweep with the tables at `times` the dense rate."""
    return f"{times:g}x"


def runs() -> list[Run]:
    """Returns the runs of one seed: the headline, and the sweep of the ratio."""
    best = rules.tuned(rules.PRODUCTION, "world")
    shared, own = ((one.dense_lr, one.embedding_lr) for one in best.values())
    rates = {SHARED: shared, OWN: own, WHOLE: own[1:] * 2}
    rates |= {multiple(m): (own[0], m * own[0]) for m in MULTIPLES}
    more = {"evaluate_at": rules.POINTS} | RULES[rules.PRODUCTION]
    return [Run("plain", 0, *of, setting=name, **more) for name, of in rates.items()]


def run(profile: Profile, device: str = "auto", seeds=None, store=None, log=print) -> pd.DataFrame:
    """Returns rows of runs.COLUMNS."""
    return run_all(over_seeds(seeds or profile.seeds, runs()), profile, device, store, log)


def against(rows: pd.DataFrame, ours: str, theirs: str) -> pd.Series:
    """Returns the expected loss after one epoch of one setting against another's in %."""
    which = {"metric": EXPECTED, "method": "plain", "epoch": 1.0}
    return relative(*(losses(rows, setting=name, **which) for name in (ours, theirs)))


def sweep(rows: pd.DataFrame) -> pd.Series:
    """Returns the loss in % of that at the dense rate, by the tables' multiple of it."""
    own = rules.tuned(rules.PRODUCTION, "world")["own"]
    best = {own.embedding_lr / own.dense_lr: OWN}
    names = dict(sorted(({m: multiple(m) for m in MULTIPLES} | best).items()))
    found = {times: against(rows, name, multiple(1)) for times, name in names.items()}
    return pd.concat(found, names=["times"])


def facts(record: Record) -> dict:
    """Returns the values that the findings speak of, by name."""
    rows = record.rows
    return by_name(
        times=sweep(rows).groupby(["times", "seed"]).mean(),
        gain=by_seed(against(rows, OWN, SHARED)),
        control=by_seed(against(rows, WHOLE, OWN)),
    )

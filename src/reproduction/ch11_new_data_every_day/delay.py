"""Claim C20: a second epoch on labels that had not all come in the first.

Conversions come late (`interventions.DELAY`). Epoch 1 trains on each day's labels as they are known
at its end. Epoch 2 sees the same labels again, or those known a day after the window. Waiting for
these and training once, or twice, is the alternative. The default setting, on AdsWorld at an eighth
of the size; losses are under the true probabilities, of all conversions that will come.
"""

import pandas as pd

from multiepoch_lab.data.ads_world import OBJECTIVES
from reproduction.findings import by_name, estimate
from reproduction.judge import evidence
from reproduction.measure import EXPECTED, by_seed, losses, relative
from reproduction.records import Record
from reproduction.remedies.board import METHODS
from reproduction.runs import Profile, Run, over_seeds, run_all
from reproduction.runs.interventions import DELAYS

NAME = "delay"
SEEDS = tuple(range(30, 38))  # no pilot and no tuning has seen them
SAME, CORRECTED, AWAITED = DELAYS
RATE = 10**-0.5  # of the tables, the best of one epoch
OWN = "leave_one_out_votes"
COMPARED = {"plain": None, "meda": None, "tail_rewind": 100, OWN: 100}
RESETS = ("meda", "tail_rewind")
LATE = OBJECTIVES[1:]  # a click is seen at once
END = 2.0


def runs() -> list[Run]:
    """Returns the runs of one seed."""
    how = {"epochs": 2, "rule": "rowwise_adagrad"}
    rates = dict.fromkeys(COMPARED, RATE) | {OWN: 1.0}
    return [
        Run(method, 0, 1e-3, rates[method], value, setting=labels, intervention=labels, **how)
        for labels in DELAYS
        for method, value in COMPARED.items()
    ]


def run(profile: Profile, device: str = "auto", seeds=None) -> pd.DataFrame:
    """Returns the losses under the true probabilities, as rows of runs.COLUMNS."""
    rows = run_all(over_seeds(seeds or SEEDS, runs()), profile.board(), device)
    return rows[rows["metric"] == EXPECTED].reset_index(drop=True)


def loss(rows: pd.DataFrame, method: str, labels: str, epoch: float) -> pd.Series:
    """Returns losses of the late conversions by objective and seed."""
    found = losses(rows, EXPECTED, method=method, setting=labels, epoch=epoch)
    return found[found.index.get_level_values("objective").isin(LATE)]


def second(rows: pd.DataFrame, method: str, labels: str) -> pd.Series:
    """Returns the end of epoch 2 against that of epoch 1, in %, by seed."""
    return by_seed(relative(loss(rows, method, labels, END), loss(rows, method, SAME, 1.0)))


def corrected(rows: pd.DataFrame, method: str) -> pd.Series:
    """Returns what the correction alone changes in epoch 2, in %, by seed."""
    return by_seed(relative(*(loss(rows, method, labels, END) for labels in (CORRECTED, SAME))))


def to_waiting(rows: pd.DataFrame, method: str) -> pd.Series:
    """Returns a corrected second epoch against one epoch on awaited labels in %, by seed."""
    waited = OWN if method == OWN else "plain"
    return by_seed(relative(loss(rows, method, CORRECTED, END), loss(rows, waited, AWAITED, 1.0)))


def to_waiting_twice(rows: pd.DataFrame, method: str) -> pd.Series:
    """Returns a corrected second epoch against two on awaited labels in %, by seed."""
    return by_seed(relative(*(loss(rows, method, labels, END) for labels in (CORRECTED, AWAITED))))


def judge(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the evidence for C20."""
    found = [("C20", "corrected", method, corrected(rows, method)) for method in COMPARED]
    plain, *remedies = COMPARED
    found.append(("C20", "plain_waiting", "", to_waiting(rows, plain)))
    found += [("C20", "waiting", name, to_waiting(rows, name)) for name in remedies]
    for name in RESETS:
        found.append(("C20", "kept", name, corrected(rows, name) - corrected(rows, OWN)))
    return evidence(found)


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns each method's second epoch in words, intervals over seeds."""
    found = {
        METHODS[method].label: {
            "same labels again": estimate(second(rows, method, SAME), "%", 1),
            "corrected labels": estimate(second(rows, method, CORRECTED), "%", 1),
            "corrected, against waiting": estimate(to_waiting(rows, method), "%", 1),
            "and against waiting, then two": estimate(to_waiting_twice(rows, method), "%", 2),
        }
        for method in COMPARED
    }
    return pd.DataFrame.from_dict(found, orient="index").rename_axis("end of epoch 2")


def facts(record: Record) -> dict:
    """Returns the values that the findings speak of, by name."""
    rows = record.rows
    return by_name(
        then={name: second(rows, name, CORRECTED) for name in COMPARED},
        corrected={name: corrected(rows, name) for name in COMPARED},
        waiting={name: to_waiting(rows, name) for name in COMPARED},
        twice={name: to_waiting_twice(rows, name) for name in COMPARED},
        wait=by_seed(relative(*(loss(rows, "plain", labels, 1.0) for labels in (AWAITED, SAME)))),
    )

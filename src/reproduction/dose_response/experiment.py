"""Dose and response: the same methods along a curve of learning rates of the tables.

How much a second epoch hurts depends on the tables' learning rate, while the loss of one epoch
hardly does. So no verdict is taken at one rate: every method is trained at each of several, and
its effect is set against the dose, the jump of plain training at the same rate, seed and stratum.
Chapters 6, 7, 8 and 11 read the record of these runs.
"""

from collections.abc import Sequence
from itertools import product
from typing import Any

import pandas as pd

from multiepoch_lab.data.ads_world import OBJECTIVES
from reproduction import measure
from reproduction.findings import by_name
from reproduction.measure import (
    DRAWN,
    EXPECTED,
    at_best_rate,
    by_seed,
    losses,
    over_objectives,
    relative,
)
from reproduction.records import Record, replaced
from reproduction.remedies.board import METHODS
from reproduction.runs import Profile, Run, over_seeds, run_all

NAME = "dose_response"
SEEDS = tuple(range(20, 28))  # no pilot has seen them
RATES = tuple(10**exponent for exponent in (-3.0, -2.5, -2.0, -1.5, -1.25))
ADAGRAD_RATES = tuple(10**exponent for exponent in (-2.0, -1.5, -1.0, -0.5))
ALL = ("plain", "fal", "meda", "adamar", "tail_rewind")
FEW = ("plain", "fal", "meda")
SPARSEST = {"AdsWorld": OBJECTIVES[-1], "KuaiRand": "like"}


def stratum(
    name: str,
    methods: Sequence[str] = FEW,
    rates: Sequence[float] = RATES,
    dense_lr: float = 1e-3,
    scales: Sequence[str] = (),
    **conditions: Any,
) -> list[Run]:
    """Returns the runs of one seed by which a curve is measured.

    Args:
        name: Of the stratum, a column of the rows, as is the tables' rate.
        methods: Keys of METHODS, each with its default hyperparameter.
        rates: The tables' learning rates.
        dense_lr: The dense learning rate.
        scales: Of FAL, beside the default; each counts as a method of its own.
        conditions: Further fields of Run.
    """
    several = [(method, method, METHODS[method].grid[0]) for method in methods]
    several += [(f"fal, {scale}", "fal", scale) for scale in scales]
    found = []
    for rate, (label, method, value) in product(rates, several):
        about = {"stratum": name, "rate": rate, "method": label}
        found.append(Run(method, 0, dense_lr, rate, value, about=about, **conditions))
    return found


_CONDITIONS: dict[str, dict] = {
    "AdsWorld": {"methods": ALL, "epochs": 3},
    "KuaiRand": {"methods": ALL, "epochs": 3, "data": "kuairand"},
    "AdsWorld, linear": {"methods": (), "epochs": 3, "scales": ("linear",)},
    "AdsWorld, row-wise Adagrad": {"rule": "rowwise_adagrad", "rates": ADAGRAD_RATES},
    "AdsWorld, no cross": {"cross": False},
    "KuaiRand, no cross": {"data": "kuairand", "cross": False},
    "AdsWorld, dense rate 3.2e-3": {"dense_lr": 10**-2.5},
    "AdsWorld, dense rate 3.2e-4": {"dense_lr": 10**-3.5},
    "AdsWorld, dense rate x 0.03 from epoch 2 on": {"dense_factor": 0.03},
}
STRATA = {
    name: stratum(name, **{"epochs": 2} | conditions) for name, conditions in _CONDITIONS.items()
}
# These decide the claims; the others say whether the curve holds under other conditions.
DECIDING, FEWER_SEEDS = ("AdsWorld", "KuaiRand", "AdsWorld, linear"), 3


def run(
    profile: Profile, device: str = "auto", seeds=None, only="", strata=STRATA, deciding=DECIDING
) -> pd.DataFrame:
    """Measures the strata, or the one named `only`; those not in `deciding` with fewer seeds.

    Returns:
        Losses on the test day: columns of runs.COLUMNS, `stratum` and `rate` (of the tables).
    """
    names = [name for name in strata if only in ("", name)]
    if not names:
        raise ValueError(f"no stratum is named {only!r}; there are {', '.join(strata)}.")
    seeds = seeds or SEEDS
    few = {name: None if name in deciding else FEWER_SEEDS for name in names}
    todo = [one for name in names for one in over_seeds(seeds[: few[name]], strata[name])]
    rows = run_all(todo, profile, device)
    return rows[rows["metric"].isin([EXPECTED, DRAWN, "auc"])]


def merge(kept: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows of a record, with those of strata that were measured again replaced."""
    return replaced(kept, rows, ["stratum"])


def jumps(rows: pd.DataFrame, stratum: str, **where) -> pd.Series:
    """Returns the boundary jump in % by rate, method, objective and seed."""
    return measure.jump(rows, metric=None, stratum=stratum, **where)


def dose(
    rows: pd.DataFrame, stratum: str, objective: str | None = None, method: str = "plain"
) -> pd.Series:
    """Returns the jump in % by rate and seed, of one objective or the mean of all.

    Of plain training, or of another method.
    """
    return over_objectives(jumps(rows, stratum, method=method, objective=objective))


def share_left(
    rows: pd.DataFrame, stratum: str, objective: str | None = None, start: str = "fal"
) -> pd.Series:
    """Returns the % of plain training's mean jump that FAL leaves, by rate and seed.

    Counted from the end of the first epoch of `start`: "fal", or "plain", whose loss is lower. The
    seeds share the denominator, since a seed whose jump is near zero has no share of its own.
    """
    which = {"metric": None, "stratum": stratum, "objective": objective}
    base = losses(rows, method=start, epoch=1.0, **which)
    left = over_objectives(relative(losses(rows, method="fal", epoch=QUARTER, **which), base))
    return 100 * left / dose(rows, stratum, objective).groupby("rate").transform("mean")


def against(
    rows: pd.DataFrame, stratum: str, method: str, other: str, objective: str | None = None
) -> pd.DataFrame:
    """Returns `measure.against` within a stratum, by rate and seed, of one objective or of all."""
    which = {"stratum": stratum, "objective": objective}
    return measure.against(rows, method, other, metric=None, **which)


def to_one_epoch(rows: pd.DataFrame, stratum: str) -> pd.Series:
    """Returns each loss against plain's after one epoch at the same rate, in %.

    Mean over the objectives, by rate, method, seed and epoch.
    """
    base = losses(rows, None, stratum=stratum, method="plain", epoch=1.0)
    return over_objectives(relative(losses(rows, None, stratum=stratum), base))


def valley(rows: pd.DataFrame, stratum: str) -> pd.Series:
    """Returns plain training's loss after one epoch against its best rate's in %, by rate and seed.

    Mean over the objectives; the best rate of each has the lowest mean over the seeds.
    """
    end = losses(rows, None, stratum=stratum, method="plain", epoch=1.0)
    best = pd.concat({name: at_best_rate(one) for name, one in end.groupby("objective")})
    return over_objectives(relative(end, best.droplevel(0)))


def best_against_one_epoch(
    rows: pd.DataFrame, stratum: str, method: str, epoch: float
) -> pd.Series:
    """Returns a method's loss against one plain epoch's in %, mean over objectives, by seed.

    Each has the table rate with the lowest mean loss over objectives and seeds at its point.
    """
    return _best_against(rows, (stratum, method, epoch), (stratum, "plain", 1.0))


def _best_against(rows: pd.DataFrame, *points: tuple[str, str, float]) -> pd.Series:
    ours, theirs = (
        at_best_rate(losses(rows, None, stratum=stratum, method=method, epoch=epoch))
        for stratum, method, epoch in points
    )
    return over_objectives(relative(ours, theirs))


QUARTER = 1.25
ENDS = (2.0, 3.0)


def mean_dose(rows: pd.DataFrame, stratum: str) -> pd.Series:
    """Plain's mean jump in % by rate: the dose that decides which rates a prediction is about."""
    return dose(rows, stratum).groupby("rate").mean()


def _of_the_cross(rows: pd.DataFrame, stratum: str) -> pd.Series:
    """Returns the loss of one plain epoch with the cross against without it, in % by seed."""
    both = (
        losses(rows, None, stratum=name, method="plain", epoch=1.0, rate=RATES[2])
        for name in (stratum, f"{stratum}, no cross")
    )
    return by_seed(relative(*both).dropna())


def facts(record: Record) -> dict:
    """Returns the values that the findings of chapters 6, 7, 8 and 11 speak of, by name."""
    rows, world, log = record.rows, "AdsWorld", "KuaiRand"
    methods = rows.groupby("stratum")["method"].unique()
    full = [name for name, found in methods.items() if set(FEW) <= set(found)]
    size = {name: dose(rows, name) for name in full}
    jump = jumps(rows, world, method="plain")
    by_label = jump.unstack("objective")
    remedies = ("plain", "fal", "meda", "tail_rewind")
    return by_name(
        valley=valley(rows, world),
        dose=size,
        jump=jump,
        order=by_label[SPARSEST[world]] - by_label["click"],
        left={name: share_left(rows, name) for name in full},
        log_linear={  # FAL by the logarithm against FAL by the count
            end: _best_against(rows, (world, "fal", end), (f"{world}, linear", "fal, linear", end))
            for end in ENDS
        },
        fal=against(rows, world, "fal", "meda"),
        tail=against(rows, world, "tail_rewind", "meda"),
        best={name: best_against_one_epoch(rows, world, name, 3.0) for name in remedies},
        log_best={name: best_against_one_epoch(rows, log, name, 3.0) for name in remedies},
        log_valley=valley(rows, log),
        plain=to_one_epoch(rows, world).xs("plain", level="method"),
        cross=_of_the_cross(rows, world),
        like=against(rows, log, "fal", "meda", "like"),
        click_fal=against(rows, log, "fal", "meda", "click"),
    )

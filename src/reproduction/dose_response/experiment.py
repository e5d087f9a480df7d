"""Dose and response: the same methods along a curve of learning rates of the tables.

How much a second epoch hurts depends on the tables' learning rate, while the loss of one epoch
hardly does. So no verdict is taken at one rate: every method is trained at each of several, and
its effect is set against the dose, the jump of plain training at the same rate, seed and stratum.
Chapters 5, 6, 7 and 9 read the record of these runs.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Any

import pandas as pd

from multiepoch.methods import FAL_VARIANTS
from reproduction import measure
from reproduction.findings import by_name
from reproduction.judge import evidence
from reproduction.measure import DRAWN, EXPECTED, at_best_rate, losses, over_objectives, relative
from reproduction.records import Record
from reproduction.remedies.registry import METHODS
from reproduction.runs import Profile, Run, over_seeds, run_all

NAME = "dose_response"

# No pilot has seen these.
SEEDS = tuple(range(20, 28))

RATES = tuple(10**exponent for exponent in (-3.0, -2.5, -2.0, -1.5, -1.25))
ADAGRAD_RATES = tuple(10**exponent for exponent in (-2.0, -1.5, -1.0, -0.5))
ALL = ("plain", "fal", "meda", "adamar", "tail_rewind")
FEW = ("plain", "fal", "meda")

# Of FAL beside the logarithm, measured at a small and at a large dose.
FORMS = tuple(scale for scale in FAL_VARIANTS if scale not in ("log", "linear"))


def stratum(
    name: str,
    methods: Sequence[str] = FEW,
    rates: Sequence[float] = RATES,
    dense_lr: float = 1e-3,
    scales: Sequence[str] = (),
    maxima: Sequence[int] = (),
    **conditions: Any,
) -> list[Run]:
    """Returns the runs of one seed by which a curve is measured.

    Args:
        name: Of the stratum, a column of the rows, as is the tables' rate.
        methods: Keys of METHODS, each with its default hyperparameter.
        rates: The tables' learning rates.
        dense_lr: The dense learning rate.
        scales: Of FAL, beside the default; each counts as a method of its own.
        maxima: Of FAL(log): log10 of an M that every table has in place of its largest count.
        conditions: Further fields of Run.
    """
    several = [(method, method, METHODS[method].grid[0], 0) for method in methods]
    several += [(f"fal, {scale}", "fal", scale, 0) for scale in scales]
    several += [(f"fal, M = 1e{m}", "fal", "log", 10**m) for m in maxima]
    return [
        Run(
            method,
            0,
            dense_lr,
            rate,
            value,
            about={"stratum": name, "rate": rate, "method": label},
            fal_maximum=maximum,
            **conditions,
        )
        for rate in rates
        for label, method, value, maximum in several
    ]


HIGH_DENSE = "AdsWorld, dense rate 3.2e-3"
_CONDITIONS: dict[str, dict] = {
    "AdsWorld": {"methods": ALL, "epochs": 3},
    "KuaiRand": {"methods": ALL, "epochs": 3, "data": "kuairand"},
    "AdsWorld, linear": {"methods": (), "epochs": 3, "scales": ("linear",)},
    "AdsWorld, row-wise Adagrad": {"rule": "rowwise_adagrad", "rates": ADAGRAD_RATES},
    "AdsWorld, no cross": {"cross": False},
    "KuaiRand, no cross": {"data": "kuairand", "cross": False},
    HIGH_DENSE: {"dense_lr": 10**-2.5},
    "AdsWorld, dense rate 3.2e-4": {"dense_lr": 10**-3.5},
    "AdsWorld, dense rate x 0.03 from epoch 2 on": {"dense_factor": 0.03},
    "AdsWorld, forms": {
        "methods": (),
        "scales": FORMS,
        "maxima": (5, 7, 9),
        "rates": (RATES[1], RATES[3]),
    },
}
STRATA = {
    name: stratum(name, **{"epochs": 2} | conditions) for name, conditions in _CONDITIONS.items()
}
# These decide the claims; the others say whether the curve holds under other conditions.
DECIDING, FEWER_SEEDS = ("AdsWorld", "KuaiRand", "AdsWorld, linear"), 3


# The default setting: row-wise Adagrad on the tables, Adam on the dense layers. The best rate of
# one epoch, 0.32 on AdsWorld and 0.1 on KuaiRand, lies within.
PRODUCTION = "dose_production"
PRODUCTION_SEEDS = tuple(range(30, 38))  # no pilot and no tuning has seen them
PRODUCTION_RATES = tuple(10**exponent for exponent in (-2.0, -1.5, -1.0, -0.5, 0.0))
PRODUCTION_STRATA = {
    name: stratum(
        name,
        (*FEW, "tail_rewind"),
        PRODUCTION_RATES,
        epochs=3,
        rule="rowwise_adagrad",
        data=data,
        cross=cross,
    )
    for name, data, cross in (
        ("KuaiRand", "kuairand", True),
        ("AdsWorld", "world", True),
    )
}


def run_production(
    profile: Profile, device: str = "auto", seeds=None, store=None, log=print, only: str = ""
) -> pd.DataFrame:
    """Measures the strata in the default setting; AdsWorld without the cross with fewer seeds."""
    deciding = set(PRODUCTION_STRATA) - {"AdsWorld, no cross"}
    seeds = seeds or PRODUCTION_SEEDS
    return run(profile, device, seeds, store, log, only, PRODUCTION_STRATA, deciding)


def run(
    profile: Profile,
    device: str = "auto",
    seeds=None,
    store=None,
    log=print,
    only: str = "",
    strata: Mapping[str, list[Run]] = STRATA,
    deciding: Container[str] = DECIDING,
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
    rows = run_all(todo, profile, device, store, log)
    return rows[rows["metric"].isin([EXPECTED, DRAWN, "auc"])]


def jumps(rows: pd.DataFrame, stratum: str, **where) -> pd.Series:
    """Returns the boundary jump in % by rate, method, objective and seed."""
    return measure.jump(rows, metric=None, stratum=stratum, **where)


def dose(rows: pd.DataFrame, stratum: str, objective: str | None = None) -> pd.Series:
    """Returns plain training's jump in % by rate and seed, of one objective or the mean of all."""
    return _jump_of(rows, stratum, "plain", objective)


def share_left(
    rows: pd.DataFrame, stratum: str, method: str = "fal", objective: str | None = None
) -> pd.Series:
    """Returns the % of plain training's mean jump that a method leaves, by rate and seed.

    The seeds share the denominator, since a seed whose jump is near zero has no share of its own.
    """
    plain = dose(rows, stratum, objective).groupby("rate").transform("mean")
    return 100 * _jump_of(rows, stratum, method, objective) / plain


def _jump_of(rows: pd.DataFrame, stratum: str, method: str, objective: str | None) -> pd.Series:
    return over_objectives(jumps(rows, stratum, method=method, objective=objective))


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


def log_linear(rows: pd.DataFrame, end: float) -> pd.Series:
    """Returns FAL(log)'s loss at an epoch's end against FAL(linear)'s, each at its best rate."""
    points = (("AdsWorld", "fal", end), ("AdsWorld, linear", "fal, linear", end))
    return _best_against(rows, *points)


def _best_against(rows: pd.DataFrame, *points: tuple[str, str, float]) -> pd.Series:
    ours, theirs = (
        at_best_rate(losses(rows, None, stratum=stratum, method=method, epoch=epoch))
        for stratum, method, epoch in points
    )
    return over_objectives(relative(ours, theirs))


QUARTER = 1.25
ENDS = (2.0, 3.0)
INSIDE = (1.25, 1.5, 2.25, 2.5)


def judge(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the evidence for the second readings of C3, C4, C6, C7, C10 and C11."""
    found = []
    if "AdsWorld" in set(rows["stratum"]):
        found += [*_c3(rows), *_c4(rows), *_c6(rows, "C6-second", "AdsWorld", None)]
        found += [*_c7(rows, "C7-second", "AdsWorld", None), *_c11(rows)]
    if HIGH_DENSE in set(rows["stratum"]):  # where the first round was
        found += _c6(rows, "C6-second", HIGH_DENSE, None)
    if "AdsWorld, linear" in set(rows["stratum"]):
        for end in ENDS:
            found.append(
                ("C6-second", "log_linear_end", f"end of epoch {end:.0f}", log_linear(rows, end))
            )
    if "KuaiRand" in set(rows["stratum"]):
        found += [
            *_c6(rows, "C10-second", "KuaiRand", "click"),
            *_c7(rows, "C10-second", "KuaiRand", "click"),
        ]
    return evidence(found)


def mean_dose(rows: pd.DataFrame, stratum: str, objective: str | None = None) -> pd.Series:
    """Plain's mean jump in % by rate: the dose that decides which rates a prediction is about."""
    return dose(rows, stratum, objective).groupby("rate").mean()


def _rate(rate: float) -> str:
    return f"tables at {rate:.2g}"


def _c3(rows: pd.DataFrame):
    plain = jumps(rows, "AdsWorld", method="plain")
    for (rate, objective), values in plain.groupby(["rate", "objective"]):
        yield (
            "C3-second",
            "jump",
            f"{objective}, {_rate(rate)}",
            values.droplevel(["rate", "objective"]),
        )


def _c4(rows: pd.DataFrame):
    plain = jumps(rows, "AdsWorld", method="plain").unstack("objective")
    steps = {
        "cart_over_click": plain["add_to_cart"] - plain["click"],
        "checkout_over_cart": plain["checkout"] - plain["add_to_cart"],
    }
    for rate, size in mean_dose(rows, "AdsWorld").items():
        if 2 <= size <= 20:
            for name, values in steps.items():
                yield "C4-second", name, _rate(rate), values.xs(rate, level="rate")
        elif size > 25:
            smaller = pd.concat(steps, axis=1).min(axis=1)
            yield "C4-second", "large_dose", _rate(rate), smaller.xs(rate, level="rate")


def _c6(rows: pd.DataFrame, claim: str, stratum: str, objective: str | None):
    left = share_left(rows, stratum, "fal", objective)
    dense = ", dense part at 0.0032" if stratum == HIGH_DENSE else ""
    for rate, size in mean_dose(rows, stratum, objective).items():
        if 1 <= size <= 10:
            yield claim, "left_small_dose", _rate(rate) + dense, left.xs(rate, level="rate")
        elif size > 30:
            yield claim, "left_large_dose", _rate(rate) + dense, left.xs(rate, level="rate")


def _c7(rows: pd.DataFrame, claim: str, stratum: str, objective: str | None):
    change = against(rows, stratum, "fal", "meda", objective)
    for rate, size in mean_dose(rows, stratum, objective).items():
        mine = change.xs(rate, level="rate")
        if size <= 5:
            yield claim, "fal_meda_quarter", _rate(rate), mine[QUARTER]
        for end in ENDS:
            yield claim, "fal_meda_end", f"end of epoch {end:.0f}, {_rate(rate)}", mine[end]


def _c11(rows: pd.DataFrame):
    fal, meda = (against(rows, "AdsWorld", "tail_rewind", other) for other in ("fal", "meda"))
    for rate, size in mean_dose(rows, "AdsWorld").items():
        if 1 <= size <= 10:
            for end in ENDS:
                point = f"end of epoch {end:.0f}, {_rate(rate)}"
                yield "C11-second", "tail_fal_end", point, fal.xs(rate, level="rate")[end]
            for epoch in INSIDE:
                point = f"{epoch:g} epochs, {_rate(rate)}"
                yield "C11-second", "tail_meda_inside", point, meda.xs(rate, level="rate")[epoch]


def left_of_jump(rows: pd.DataFrame, stratum: str, start: str) -> pd.Series:
    """Returns the % of plain's mean jump that FAL leaves, by rate and seed.

    Counted from the end of the first epoch of `start`: FAL's own, or plain's, which is lower.
    """
    by = dict(metric=None, stratum=stratum)
    base = losses(rows, method=start, epoch=1.0, **by)
    left = over_objectives(relative(losses(rows, method="fal", epoch=QUARTER, **by), base))
    return 100 * left / dose(rows, stratum).groupby("rate").transform("mean")


def judge_production(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the evidence for C3, C4, C6, C7, C10 and C11 in the default setting."""
    found = []
    for name, objectives in (
        ("AdsWorld", ("click", "add_to_cart", "checkout")),
        ("KuaiRand", ("click", "long_view")),
    ):
        plain = jumps(rows, name, method="plain").unstack("objective")
        sparsest = plain["checkout" if name == "AdsWorld" else "like"]
        own, from_plain = (left_of_jump(rows, name, start) for start in ("fal", "plain"))
        claim, apart = ("C6", "C7") if name == "AdsWorld" else ("C10", "C10")
        for rate in PRODUCTION_RATES:
            at, where = {"key": rate, "level": "rate"}, f"{name}, {_rate(rate)}"
            found += [("C3", "jump", f"{o}, {where}", plain[o].xs(**at)) for o in objectives]
            found.append(("C4", "sparsest", where, (sparsest - plain["click"]).xs(**at)))
            size = "low" if rate < 0.1 else "high"
            if size == "high" or name == "AdsWorld":
                found.append((claim, f"left_{size}", where, own.xs(**at)))
                found.append((claim, f"left_plain_{size}", where, from_plain.xs(**at)))
            change, tail = (
                against(rows, name, one, "meda").xs(**at) for one in ("fal", "tail_rewind")
            )
            for end in ENDS:
                point = f"end of epoch {end:.0f}, {where}"
                found.append((apart, "fal_meda_end", point, change[end]))
                found.append(("C11", "tail_meda_end", point, tail[end]))
            for epoch in (1.25, 2.25):
                found.append(("C11", "tail_meda_inside", f"{epoch:g} epochs, {where}", tail[epoch]))
    return evidence(found)


def facts(record: Record) -> dict:
    """Returns the values that the findings of chapters 5, 6, 7 and 9 speak of, by name."""
    rows, world, log = record.rows, "AdsWorld", "KuaiRand"
    methods = rows.groupby("stratum")["method"].unique()
    full = [name for name, found in methods.items() if set(FEW) <= set(found)]
    size = {name: dose(rows, name) for name in full}
    means = size[world].groupby("rate").mean()
    jump = jumps(rows, world, method="plain")
    by_label = jump.unstack("objective")
    remedies = ("fal", "meda", "tail_rewind")
    return by_name(
        slowest=RATES[0],
        slow=RATES[1],
        fast=RATES[-1],
        valley=valley(rows, world),
        dose=size,
        growth=means.iloc[-1] / means.iloc[0],
        jump=jump,
        order=by_label["checkout"] - by_label["click"],
        left={name: share_left(rows, name) for name in full},
        log_linear={end: log_linear(rows, end) for end in ENDS},
        fal=against(rows, world, "fal", "meda"),
        tail=against(rows, world, "tail_rewind", "meda"),
        best={name: best_against_one_epoch(rows, world, name, 3.0) for name in remedies},
        click_dose=dose(rows, log, "click"),
        click_left=share_left(rows, log, "fal", "click"),
        click_fal=against(rows, log, "fal", "meda", "click"),
        log_tail=against(rows, log, "tail_rewind", "meda"),
    )

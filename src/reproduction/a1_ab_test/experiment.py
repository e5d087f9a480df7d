"""Appendix A1, claim C16: an A/B test with known truth, in the default setting.

Seven ways of training serve ads in the same world, each at the rates that a search for its epochs a
day found. Their value is known without noise, so what an A/B test would have reported can be
compared with what is true.
"""

import inspect
from dataclasses import asdict, replace
from functools import partial

import numpy as np
import pandas as pd
import torch
from scipy.special import ndtr, ndtri

from multiepoch_lab.data.ads_world import OBJECTIVES
from multiepoch_lab.runner import resolve_device, run_key
from reproduction.a1_ab_test import serving
from reproduction.a1_ab_test.serving import ARMS, BLEND, NAIVE, ONE, REWIND, TRUTH, Plan, simulate
from reproduction.findings import by_name
from reproduction.judge import evidence
from reproduction.records import Record
from reproduction.runs import Profile, kept

NAME = "ab_test"
SEEDS = tuple(range(30, 38))  # no pilot and no tuning has seen them
OFFLINE = f"logloss_{OBJECTIVES[serving.PAID]}"

RECORD = Plan()
LIVE = Plan(arms=(ONE, NAIVE, REWIND, BLEND), own=(), before=2, days=3)


def quartered(profile: Profile) -> Profile:
    """Returns the profile with a quarter of everything: each request is scored many times."""
    sizes = profile.of_world() | {"batch_size": profile.batch_size}
    return replace(profile, **{name: size // 4 for name, size in sizes.items()})


def run(profile: Profile, device: str = "auto", seeds=None, plan=RECORD) -> pd.DataFrame:
    """Runs the plan in the world of each seed, at a quarter of the profile's size.

    The columns are those of `simulate`.
    """
    sizes, device, seeds = quartered(profile), resolve_device(device), seeds or SEEDS
    given = {
        "plan": asdict(plan),
        "rates": {name: asdict(ARMS[name].rates) for name in plan.arms},
        "sizes": sizes.sizes(),
        "device": device,
        "code": inspect.getsource(serving),
    }
    packages = ("multiepoch", "multiepoch_lab", "reproduction.runs", "reproduction.remedies")
    keys = [run_key(given | {"seed": seed}, *packages) for seed in seeds]
    work = partial(simulate, plan, sizes, device)
    worlds = kept(work, seeds, keys, sizes, device, "A/B test, seed {}".format)
    served = pd.concat(worlds, ignore_index=True)
    about = ("shared", TRUTH, plan.days, -1, "design_effect")
    effects = [(seed, *about, design_effect(plan, sizes, seed)) for seed in seeds]
    clustered = pd.DataFrame(effects, columns=served.columns)
    return pd.concat([served, clustered], ignore_index=True)


def design_effect(plan: Plan, profile: Profile, seed: int) -> float:
    """Returns how many times the variance of a test that splits requests one has that splits users.

    The payments of a user depend on each other, since each has tastes of its own. Measured on the
    requests of the test, ranked by truth.
    """
    world = profile.world(seed)
    n_requests = profile.impressions_per_day // serving.QUARTERS * serving.QUARTERS
    counts, sums = torch.zeros(2, world.n_users, dtype=torch.float64)
    squares = 0.0
    for day in range(plan.before + 1, plan.before + plan.days + 1):
        candidates = world.candidates(day, n_requests, serving.CANDIDATES)
        requests = serving.Requests(candidates, world.schema(day))
        paid = requests.paid.gather(1, requests.rank(requests.p)[:, None])[:, 0]
        users = requests.candidates.ids["user"][:: serving.CANDIDATES]
        counts.index_add_(0, users, torch.ones_like(paid))
        sums.index_add_(0, users, paid)
        squares += (paid**2).sum().item()
    n, mean = counts.sum(), sums.sum() / counts.sum()
    return (((sums - mean * counts) ** 2).sum() / (squares - n * mean**2)).item()


# What was found ----------------------------------------------------------------------------------


def means(rows: pd.DataFrame, metric: str, *by: str, feedback: str = "shared") -> pd.DataFrame:
    """Returns the mean of a metric: a row for each arm and each value of `by`, a column a seed."""
    mine = rows[(rows["metric"] == metric) & (rows["feedback"] == feedback)]
    return mine.groupby(["arm", *by, "seed"], sort=False)["value"].mean().unstack("seed")


def lift(
    rows: pd.DataFrame,
    arm: str,
    metric: str = "value",
    *by: str,
    feedback: str = "shared",
    base: str = ONE,
) -> pd.DataFrame | pd.Series:
    """Returns a metric against another arm's in %, by `by` and seed.

    An arm that trains on its own logs is compared with production, whose logs are the shared ones.
    """
    mine = means(rows, metric, *by, feedback=feedback).loc[arm]
    return 100 * (mine / means(rows, metric, *by).loc[base] - 1)


def regret(rows: pd.DataFrame, arm: str) -> pd.Series:
    """Returns the % of the value of ranking by truth that an arm leaves, by seed."""
    return -lift(rows, arm, base=TRUTH)


def overprediction(rows: pd.DataFrame, arm: str, of: str = "") -> pd.Series:
    """Returns predicted over actual conversions of the ads that an arm shows, by seed.

    With of="_all", those of all candidates.
    """
    return means(rows, f"predicted{of}").loc[arm] / means(rows, f"conversions{of}").loc[arm]


def order(rows: pd.DataFrame, best: int | None = None) -> pd.Series:
    """Returns Spearman's correlation of value with the offline logloss of the checkout, by seed.

    The sign is changed: 1 says that the order is the same, best to worst. `best` keeps so many
    arms, those with the lowest mean loss.
    """
    loss = means(rows, OFFLINE)
    loss = loss.loc[loss.mean(axis=1).sort_values().index[:best]]
    return -loss.corrwith(means(rows, "value").loc[loss.index], method="spearman")


def worth(rows: pd.DataFrame) -> pd.Series:
    """Returns how many % of value go with 1 % of offline logloss, by seed.

    It is the slope of the least-squares line through the arms.
    """
    loss, value = (means(rows, metric) for metric in (OFFLINE, "value"))
    loss, value = (100 * (one.loc[loss.index] / one.loc[ONE] - 1) for one in (loss, value))
    slopes = {seed: np.polyfit(loss[seed], value[seed], 1)[0] for seed in loss}
    return pd.Series(slopes)


def gain_from_own_logs(rows: pd.DataFrame, arm: str) -> pd.Series:
    """Returns the lift on the own logs minus that on production's, in points, by seed.

    Day 1 is left out: until its end, both have the same model.
    """
    own, shared = (lift(rows, arm, "value", "day", feedback=kind) for kind in ("own", "shared"))
    return (own - shared).loc[2:].mean()


def novelty(rows: pd.DataFrame, arm: str) -> pd.Series:
    """Returns the lift on the first day minus the mean of the others, in points, by seed."""
    by_day = lift(rows, arm, "value", "day")
    return by_day.loc[1] - by_day.loc[2:].mean()


def spread(rows: pd.DataFrame) -> pd.Series:
    """Returns the standard deviation over mean of what a request pays, as drawn, by seed."""
    mean, square = (means(rows, metric).loc[ONE] for metric in ("value", "square"))
    return (square - mean**2).pow(0.5) / mean


def requests_a_day(rows: pd.DataFrame) -> float:
    """Returns the requests of each half of the traffic a day, mean over the halves."""
    return rows.loc[rows["metric"].isin(["requests_0", "requests_1"]), "value"].mean()


def chance(rows: pd.DataFrame, arm: str) -> pd.Series:
    """Returns the % chance that a test against one epoch detects the arm, by seed.

    Half of the requests go to each, for all the days that were run.
    """
    n = requests_a_day(rows) * rows["day"].max()
    truth = lift(rows, arm) / 100
    return pd.Series(100 * power(truth, spread(rows), n), index=truth.index)


def clustering(rows: pd.DataFrame) -> pd.Series:
    """Returns the `design_effect` of each seed."""
    return rows[rows["metric"] == "design_effect"].set_index("seed")["value"]


def tests_of_nothing(rows: pd.DataFrame) -> pd.Series:
    """Returns whether a test of one epoch against itself reports a difference, by half and seed.

    In each world there are two: the users with even ids against those with odd ones, and the other
    way round. The intervals take requests as independent.
    """
    mine = rows[(rows["feedback"] == "shared") & (rows["arm"] == ONE)]
    days, means, variance = mine.pivot_table("value", ["seed", "day"], "metric"), {}, 0.0
    for half in (0, 1):
        daily = days[f"requests_{half}"]
        n = daily.groupby("seed").sum()
        paid, square = (
            (daily * days[f"{name}_{half}"]).groupby("seed").sum() / n
            for name in ("paid", "square")
        )
        means[half], variance = paid, variance + (square / paid**2 - 1) / n
    ratios = pd.concat({half: means[half] / means[1 - half] for half in means}, names=["half"])
    # The delta method for a ratio of independent means.
    return (ratios - 1).abs() > Z * ratios.mul(variance**0.5, level="seed")


def judge(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the evidence for C16."""
    remedy = lift(rows, BLEND)
    half_of_epoch_two = lift(rows, BLEND, "value", "quarter", base=REWIND).loc[2]
    own = lift(rows, NAIVE, feedback="own") - lift(rows, NAIVE)
    trust = overprediction(rows, NAIVE) - overprediction(rows, ONE)
    found = [
        ("order", "seven arms", order(rows)),
        ("order_best", "four best arms", order(rows, best=4)),
        ("offline", "five days", lift(rows, BLEND, OFFLINE)),
        ("naive", "five days", lift(rows, NAIVE)),
        ("remedy_above", "five days", remedy),
        ("remedy_below", "five days", remedy),
        ("dip", "third quarter of the day", half_of_epoch_two),
        ("trust", "five days", trust),
        ("seen", "half of the traffic each, five days", chance(rows, BLEND)),
        ("own_above", "five days", own),
        ("own_below", "five days", own),
        ("own_gain", "days 2 to 5", gain_from_own_logs(rows, BLEND)),
    ]
    return evidence(("C16", *one) for one in found)


# What a test of a given size sees ----------------------------------------------------------------
#
# Two groups of n requests each are compared by their mean payments, in a two-sided test at 5 %. A
# payment has the standard deviation `spread` in multiples of its mean; effects are relative to that
# mean, too. Requests are taken as independent and the groups as large enough for the normal
# distribution; the effect is small, so both groups have the same spread.

Z = float(ndtri(0.975))


def power(effect: float, spread: float, n: float) -> float:
    """Returns the probability that the test rejects, whichever the sign."""
    shift = effect / (spread * np.sqrt(2 / n))
    return ndtr(shift - Z) + ndtr(-shift - Z)


def requests_needed(effect: float, spread: float) -> float:
    """Returns the n at which `effect` is detected with a power of 80 %."""
    return 2 * ((Z + float(ndtri(0.8))) * spread / effect) ** 2


def facts(record: Record) -> dict:
    """Returns the values that the findings speak of, by name."""
    rows, slope = record.rows, worth(record.rows)
    without = worth(record.rows[record.rows["arm"] != NAIVE])
    offline = {name: lift(rows, name, OFFLINE) for name in ARMS}
    alarms = tests_of_nothing(rows)
    return by_name(
        lift={name: lift(rows, name) for name in ARMS},
        regret={name: regret(rows, name) for name in ARMS},
        quarter=lift(rows, BLEND, "value", "quarter", base=REWIND),
        quarter_naive=lift(rows, NAIVE, "value", "quarter"),
        order=order(rows),
        order_best=order(rows, best=4),
        price=-slope,
        price_without=-without,
        worlds=len(slope),
        offline=offline,
        by_the_line=slope.mean() * offline[BLEND].mean(),
        promised={name: overprediction(rows, name) for name in (ONE, NAIVE)},
        promised_of_all=overprediction(rows, NAIVE, "_all"),
        chance={name: chance(rows, name) for name in (NAIVE, BLEND)},
        needed=requests_needed(0.01, spread(rows)) / 1e6,
        clustering=clustering(rows),
        tests=len(alarms),
        alarms=alarms.sum(),
        alarmed=alarms.mean(),
        own=lift(rows, BLEND, feedback="own"),
        gain={name: gain_from_own_logs(rows, name) for name in (NAIVE, BLEND)},
        first=novelty(rows, BLEND),
    )

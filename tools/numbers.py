"""Computes the numbers that book/index.md interpolates.

The sentences there were written once, about the committed records. front.toml lists what they
assert; a test fails when a record contradicts one, and then someone has to rewrite the sentence.
"""

from __future__ import annotations

import functools
import math
import tomllib
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from multiepoch_lab.data.ads_world import OBJECTIVES
from multiepoch_lab.stats import interval
from reproduction import judge, records
from reproduction.ch04_sparse_optimizer import rules
from reproduction.ch10_board import experiment as board
from reproduction.ch11_new_data_every_day import delay, scale, worth
from reproduction.ch11_new_data_every_day import experiment as continual
from reproduction.ch12_real_logs import experiment as real_logs
from reproduction.ch12_real_logs import penalty
from reproduction.dose_response import experiment as dose_response
from reproduction.dose_response import production
from reproduction.findings import estimate, is_true, measures
from reproduction.interplay import experiment as interplay
from reproduction.measure import by_seed, losses, relative
from reproduction.own_label import experiment as own_label
from reproduction.own_label import served
from reproduction.second_epoch import causes
from reproduction.tuning import chosen, on_board, under_production_rule
from tools import ledger

ASSERTED = Path(__file__).with_name("front.toml")
WORLD = "AdsWorld"
# The tables' rates whose jumps the front page calls small, middle and large.
DOSES = {size: dose_response.RATES[k] for size, k in {"small": 0, "middle": 1, "large": -1}.items()}
NBSP = "\u00a0"  # keeps a number, its unit and its interval together in a narrow cell


def measured(results: Path) -> dict[str, pd.Series]:
    """Returns the values of the front page, in percent and by seed, from the long records.

    They take seconds, and several pages want them, so they are kept, by folder.

    At a small, a middle and a large dose: `jump_` is plain training's jump, `left_` the part of it
    that FAL leaves, `quarter_` and `end_` FAL's loss against MEDA's a quarter into epoch 2 and at
    its end, and `tail_` tail rewind's against MEDA's at that quarter; `_no_cross` is without the
    cross, at the rate of the large dose. `valley` is the loss of one epoch at the rate with the
    small dose against the best. `gain_METHOD` is a method's loss after three epochs against one
    plain epoch, each at its best table rate. `days_METHOD` is its loss from day 3 on of
    continual training with two epochs a day against one. `own_left` is the part of plain's jump
    that two-fold tables leave, in the default setting; `late_rise_kuairand` is what remains
    without the own label on KuaiRand at the end of epoch 2. `board_METHOD` is a method's loss on
    the board after four epochs against one plain epoch, tuned for that end, and `board_two_METHOD`
    after two; `dip_METHOD` is a rewind's a tenth into epoch 2. At the large dose,
    `checkout_click_large` is plain's jump of checkout minus that of click, and
    `checkout_cart_large` minus that of add-to-cart. `own_rate` is the loss of one epoch with a
    rate of the tables' own against one shared rate, under row-wise Adagrad, and `rule` that rule
    against Adam.
    `blend_held` is blended tail rewind's a quarter into an epoch against that at the end before,
    and `blend_ahead` that on the board in epoch 2.
    `cross_kuairand` is the loss after one epoch with the cross against without, and
    `cross_world` that in AdsWorld. `late_small` is plain's loss at the end of
    epoch 2 against one epoch at the small dose. `worth_small` and `worth_large` are what
    two epochs with tail rewind are worth above one plain epoch, in epochs of fresh
    data, in the smallest and the largest window; `fresh_lead` is their loss in the largest against
    one epoch over twice the data. `worth_fixed` is what epochs 2 to 4 are worth there at the
    threshold of an eighth of it; `worth_scaled` with one in proportion. `scale_METHOD` is the loss
    after four epochs in the largest window that C19 has, in a world that grows with it, and
    `scale_same_METHOD` among the same ids.
    In the default setting, at the rate that is best for one epoch, `default_jump` is plain's jump,
    `default_jump_no_cross` the same without the sparsest cross,
    `default_left` the part of it that FAL leaves, and `default_METHOD` a method's loss after three
    epochs against one plain epoch, and `default_dip_METHOD` a quarter into the second.
    `late_METHOD` is a second epoch on
    corrected labels against one on labels that were waited for, for conversions. `four_METHOD` is
    that after four under one rule and one search, in AdsWorld at an eighth of its size, and
    `four_METHOD_real` the mean over seven real labels; `two_` and `eight_` are after so many.
    `behind_meda_real` is tail rewind's loss after four against MEDA's on these labels, and
    `behind_meda_rest` without RetailRocket's. `board_adam` is one epoch by Adam.
    `rise_` is the loss at the end of epoch 2 against epoch 1 under dense Adam, with no L2 penalty
    and with 1e-4, and `first_large_penalty` what the latter costs in epoch 1.
    """
    return _measured(results.resolve())


@functools.cache
def _measured(results: Path) -> dict[str, pd.Series]:
    rows, found = records.read(dose_response.NAME, "long", results).rows, {}
    fal, tail = (
        dose_response.against(rows, WORLD, name, "meda") for name in ("fal", "tail_rewind")
    )
    jumps, left = dose_response.dose(rows, WORLD), dose_response.share_left(rows, WORLD)
    real = dose_response.dose(rows, "KuaiRand")
    for size, rate in DOSES.items():
        found[f"jump_{size}"], found[f"left_{size}"] = jumps.xs(rate), left.xs(rate)
        found[f"quarter_{size}"] = fal.xs(rate)[1.25]
        found[f"end_{size}"] = fal.xs(rate)[2.0]
        found[f"tail_{size}"] = tail.xs(rate)[1.25]
        found[f"jump_{size}_kuairand"] = real.xs(rate)
    crossless, rate = f"{WORLD}, no cross", DOSES["large"]
    found["jump_no_cross"] = dose_response.dose(rows, crossless).xs(rate)
    found["left_no_cross"] = dose_response.share_left(rows, crossless).xs(rate)
    for data, end in ((WORLD, ""), ("KuaiRand", "_kuairand")):
        found[f"valley{end}"] = dose_response.valley(rows, data).xs(DOSES["small"])
    ends = (
        losses(rows, None, stratum=stratum, method="plain", epoch=1.0, rate=dose_response.RATES[2])
        for stratum in (WORLD, crossless)
    )
    found["cross_world"] = by_seed(relative(*ends).dropna())
    change = dose_response.to_one_epoch(rows, WORLD).xs("plain", level="method")
    found["late_small"] = change.xs((DOSES["small"], 2.0), level=["rate", "epoch"])
    plain = dose_response.jumps(rows, WORLD).xs("plain", level="method")
    large = plain.xs(DOSES["large"], level="rate").unstack("objective")
    for name, objective in zip(("click", "cart"), OBJECTIVES):
        found[f"checkout_{name}_large"] = large[OBJECTIVES[-1]] - large[objective]
    for name in ("plain", "fal", "meda", "tail_rewind"):
        found[f"gain_{name}"] = dose_response.best_against_one_epoch(rows, WORLD, name, 3.0)
        real = dose_response.best_against_one_epoch(rows, "KuaiRand", name, 3.0)
        found[f"gain_{name}_kuairand"] = real
    rows = records.read(board.NAME, "long", results).rows
    for data, key in (("world", "board_"), ("kuairand", "board_kuairand_")):
        change = board.against_one_epoch(rows, data)
        for name in ("fal", "meda", "tail_rewind", "leave_one_out_votes", "dense_factor"):
            name, mine = name.removesuffix("_votes"), change.xs(name, level="remedy")
            found[f"{key}{name}"], found[f"{key}two_{name}"] = mine[4.0], mine[2.0]
        found[f"{key}adam"] = change.xs("adam_once", level="remedy")[1.0]
    held = board.against(rows, "world", "tail_rewind_held")
    found["blend_ahead"] = held.xs("tail_rewind_blend", level="remedy")[1.25]
    rows = records.read(rules.NAME, "long", results).rows
    gains, rule = rules.gains(rows), rules.against_adam(rows)
    for data, end in ((WORLD, ""), ("KuaiRand", "_kuairand")):
        found[f"own_rate{end}"] = by_seed(
            gains.xs((data, rules.PRODUCTION), level=["data", "rule"])
        )
        found[f"rule{end}"] = by_seed(rule.xs(data, level="data"))
    rows = records.read(own_label.NAME, "long", results).rows
    found["late_rise_kuairand"] = own_label.rise(rows, "KuaiRand, sums", "leave_one_out").xs(1.0)
    rows = records.read(served.NAME, "long", results).rows
    for data, end in ((WORLD, ""), ("KuaiRand", "_kuairand")):
        points = dose_response.to_one_epoch(rows, data).xs(served.LIVE_RATE, level="rate")
        for name in ("meda", "tail_rewind"):
            found[f"dip_{name}{end}"] = points.xs((name, 1.1), level=["method", "epoch"])
        held = served.held_back(rows, data).xs(served.LIVE_RATE, level="rate")
        found[f"blend_held{end}"] = held[[1.25, 2.25, 3.25]].mean(axis=1)
    worths = worth.facts(records.read(worth.NAME, "long", results))
    for size, unique in {"small": 62_500, "large": 500_000}.items():
        found[f"worth_{size}"] = worths[f"total/{worth.TAIL}/{unique}/2"]
    found["fresh_lead"] = worths["lead/500000"]
    for key in ("fixed", "scaled"):
        found[f"worth_{key}"] = worths[f"largest/{key}/4"]
    gains = scale.largest(_at_scale(results))
    for name in ("meda", scale.TAIL, scale.OWN):
        short = name.removesuffix("_votes")
        found[f"scale_{short}"] = gains[scale.LOOKUPS, name]
        found[f"scale_same_{short}"] = gains[scale.IDS, name]
    rows = records.read(real_logs.NAME, "long", results).rows
    ends = [
        losses(rows, method="plain", setting=cross, epoch=1.0)
        for cross in (real_logs.WITH, real_logs.WITHOUT)
    ]
    found["cross_kuairand"] = by_seed(relative(*ends).dropna())
    rows = records.read(continual.NAME, "long", results).rows
    for name, setting in {
        "plain": continual.PLAIN,
        "fal": continual.FAL,
        "meda_restored": continual.RESTORED,
        "meda_redrawn": continual.REDRAWN,
        "day_tail_rewind": continual.TAIL,
        "more_data": continual.MORE_DATA,
    }.items():
        found[f"days_{name}"] = continual.later(rows, setting)
    found["days_rewinds_differ"] = continual.later(rows, continual.TAIL, continual.RESTORED)
    found["online_blend"] = measures(records.read("ab_test", "long", results).evidence)[
        "remedy_above"
    ]
    facts = production.facts(records.read(production.NAME, "long", results))
    crossless = production.facts(records.read(production.NO_CROSS_NAME, "long", results))
    rate = f"{production.BEST:.3g}"
    for data, key in ((WORLD, ""), ("KuaiRand", "_kuairand")):
        found[f"default_jump_no_cross{key}"] = crossless[f"dose/{data}_no_cross/{rate}"]
        for name in ("meda", "tail_rewind"):
            found[f"default_dip_{name}{key}"] = facts[f"change/{data}/{name}/1.25"]
        found[f"default_jump{key}"] = facts[f"at_best/{data}"]
        found[f"default_left{key}"] = facts[f"left/{data}/{rate}"]
        for name in ("plain", "fal", "meda", "tail_rewind"):
            found[f"default_{name}{key}"] = facts[f"change/{data}/{name}/3"]
    facts = delay.facts(records.read(delay.NAME, "long", results))
    for name in ("plain", "tail_rewind"):
        found[f"late_{name}"] = facts[f"waiting/{name}"]
    facts = causes.facts(records.read(causes.NAME, "long", results))
    for data, key in ((WORLD, ""), ("KuaiRand", "_kuairand")):
        found[f"own_left{key}"] = facts[f"left/{data}/row_wise_Adagrad/cross/quarter/all"]
    facts = interplay.facts(records.read(interplay.NAME, "long", results))
    for method in interplay.REPEATED:
        name = method.removesuffix("_votes")
        found[f"four_{name}"] = facts[f"world/{method}/4/{interplay.DEFAULT:g}"]
        for epochs, words in {2: "two", 4: "four", 8: "eight"}.items():
            found[f"{words}_{name}_real"] = facts[f"mean_real/{method}/{epochs}"]
    found["behind_meda_real"] = facts["behind/all"]
    found["behind_meda_rest"] = facts["behind/without_RetailRocket"]
    facts = penalty.facts(records.read(penalty.NAME, "long", results))
    for size, coefficient in {"no": "0", "large": "0.0001"}.items():
        found[f"rise_{size}_penalty"] = facts[f"scan/gain/{coefficient}"]
    found["first_large_penalty"] = facts["scan/harm/0.0001"]
    return found


@functools.cache
def _at_scale(results: Path) -> pd.Series:
    return scale.gain(records.read(scale.NAME, "long", results).rows)


def front(results: Path) -> dict[str, str]:
    """Formats the values of the front page; none if there is no record.

    NAME has the mean with its interval, NAME_size the absolute mean alone.
    """
    if records.read(dose_response.NAME, "long", results) is None:
        return {}
    plain = (
        "jump_",
        "left_",
        "default_jump",
        "default_left",
        "valley",
        "own_left",
        "late_rise",
        "cross_",
    )
    found = {key: f"{ratio:,.0f}" for key, ratio in ratios().items()}
    found |= {name: words for name, (_, words) in without_interval(results).items()}
    for name, values in measured(results).items():
        if name.startswith("worth_"):
            found[name] = estimate(values).replace("-", "−")
            continue
        unsigned = estimate(values, "%", 1).replace(" %", f"{NBSP}%").replace("-", "−")
        found[name] = unsigned if name.startswith(plain) else signed(values)
        size = abs(values.mean())
        digits = 1 if size < 50 else 0
        found[f"{name}_size"] = f"{size:.{digits}f}{NBSP}%"
    return found


def ratios() -> dict[str, float]:
    """Returns the best rate of the tables over the dense rate, found for one epoch."""
    found = rules.rates()["ratio"].xs(rules.PRODUCTION, level=1)
    return {"ratio": found[WORLD], "ratio_kuairand": found["KuaiRand"]}


def without_interval(results: Path) -> dict[str, tuple[float, str]]:
    """Returns numbers that are no means over seeds, and how pages show them.

    `first_best` is the share of public runs that are best after their first epoch, with a small
    penalty, and `first_best_large` with a large one, in percent. `count_memory` is what a count for
    each row adds to the memory of the board's tables with their state, in percent. `threshold_` is
    tail rewind's from searches for the end of epoch four; of the board, that is `four` and `half`.
    `millions` is the largest window of C19 in a world that grows, `millions_same` among the same
    ids, and `millions_meda` and `millions_own` the largest up to which MEDA and leave-one-out rows
    are shown to gain.
    """
    found = {}
    gains = _at_scale(results)
    largest = gains.index.to_frame(index=False).groupby("kind")["unique"].max()
    windows = {
        "millions": largest,
        "millions_meda": scale.shown_up_to(gains, "meda"),
        "millions_own": scale.shown_up_to(gains, scale.OWN),
    }
    for name, of in windows.items():
        for key, kind in {"": scale.LOOKUPS, "_same": scale.IDS}.items():
            found[f"{name}{key}"] = of[kind] / 1e6, f"{of[kind] / 1e6:g}"
    counts = penalty.by_penalty(penalty.read_bars())
    for name, kind in {"first_best": penalty.SMALL, "first_best_large": penalty.LARGE}.items():
        n, of = counts.loc[kind, True], counts.loc[kind].sum()
        found[name] = 100 * n / of, f"{n} of {of}"
    rows = records.read(board.NAME, "long", results).rows
    for data, end in {"world": "", "kuairand": "_kuairand"}.items():
        memory = board.cost(rows[rows["data"] == data]).loc["tail_rewind", "memory"]
        found[f"count_memory{end}"] = 100 * (memory - 1), f"{100 * (memory - 1):.1f}{NBSP}%"
    searches = {
        "four": on_board("tail_rewind"),
        "half": on_board("tail_rewind", "half of kuairand"),
        **{name: under_production_rule("tail_rewind", name) for name in interplay.REAL},
    }
    for name, search in searches.items():
        threshold = chosen(search).hyperparameter
        found[f"threshold_{name}"] = threshold, f"{threshold:,}"
    return found


def signed(values: Iterable[float]) -> str:
    """Formats the mean and the interval of a change in percent with their signs."""
    mean, low, high = interval(list(values))
    digits = 2 if min(map(abs, (mean, low, high))) < 0.05 else 1  # no "-0.0"
    known = f" [{low:+.{digits}f}, {high:+.{digits}f}]" if math.isfinite(low) else " (one seed)"
    return f"{mean:+.{digits}f}{NBSP}%{known}".replace("-", "−")


def facts(results: Path) -> dict[str, pd.Series | float]:
    """Returns the values that sentences may assert something about, by name."""
    values = measured(results)
    growth = values["jump_large"].mean() / values["jump_small"].mean()
    alone = {name: value for name, (value, _) in without_interval(results).items()}
    return values | alone | {"growth": growth}


def assertions(results: Path) -> dict[str, bool]:
    """Returns what the sentences of the front page and the summary assert, and whether it holds."""
    values = facts(results)
    asserted = tomllib.loads(ASSERTED.read_text(encoding="utf-8"))
    said = {name: is_true(condition, values) for name, condition in asserted["holds"].items()}
    for one in asserted["summary"]:
        said[f"the summary on {one['question']}"] = is_true(one["holds"], values)
    evidence = records.ledger(results)
    for one in (one for one in judge.CLAIMS if one.relies_on):
        name, status = one.relies_on
        found = [e for e in ledger.preferred(one, evidence) if e.measure.name == name]
        if found:  # else the claim has not been run yet
            said[f"what follows from {one.id}: {name} {status}"] = judge.status(found) == status
    return said

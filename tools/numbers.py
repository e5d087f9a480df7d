"""Computes the numbers that book/index.md and book/summary.md interpolate.

The sentences there were written once, about the committed records. `assertions` lists what they
assert; a test fails when a record contradicts one, and then someone has to rewrite the sentence.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from string import ascii_lowercase

import pandas as pd

from multiepoch.stats import interval
from reproduction import claims, records, second_round
from reproduction.ch08_continual_training import experiment as continual
from reproduction.ch10_own_label import experiment as own_label
from reproduction.claims import Claim, Evidence
from reproduction.dose_response import experiment as dose_response
from reproduction.findings import above, below, estimate

WORLD = "AdsWorld"
# The tables' rates whose jumps the front page calls small, middle and large.
DOSES = {size: dose_response.RATES[k] for size, k in {"small": 0, "middle": 1, "large": -1}.items()}
# The summary shows the profile with the most data, then the one with the most seeds.
PREFERRED = ("gpu", "long", "cpu", "replication")
NBSP = "\u00a0"  # keeps a number, its unit and its interval together in a narrow cell
# The status of one measure that each "so what" in book/summary.md relies on: of the second round,
# if the claim was measured again.
SO_WHAT_RELIES_ON = {
    "C1": ("touched", "holds"),
    "C2": ("sgd", "holds"),
    "C3": ("jump", "holds"),
    "C4": ("large_dose", "holds"),
    "C5": ("tail_frozen", "fails"),
    "C6": ("left_small_dose", "holds"),
    "C7": ("fal_meda_end", "holds"),
    "C8": ("fal_tuned", "holds"),
    "C9": ("time", "holds"),
    "C10": ("fal_meda_end", "holds"),
    "C11": ("tail_meda_inside", "holds"),
}


def measured(results: Path) -> dict[str, pd.Series]:
    """Returns the values of the front page, in percent and by seed, from the long records.

    At a small, a middle and a large dose: `jump_` is plain training's jump, `left_` the part of it
    that FAL leaves, `quarter_` and `end_` FAL's loss against MEDA's a quarter into epoch 2 and at
    its end, and `tail_` tail rewind's against MEDA's at that quarter. `valley` is the loss of one
    epoch at the rate with the small dose against the best. `gain_METHOD` is a method's loss after
    three epochs against one plain epoch, each at its best table rate. `days_METHOD` is its loss
    over the last days of continual training with two epochs a day against one. `self_seeing` and
    `self_excluding` are the jumps with the own label in the rows that an impression reads, and
    without it.
    """
    rows, found = records.read(dose_response.NAME, "long", results).rows, {}
    fal, tail = (
        dose_response.against(rows, WORLD, name, "meda") for name in ("fal", "tail_rewind")
    )
    jumps, left = dose_response.dose(rows, WORLD), dose_response.share_left(rows, WORLD)
    for size, rate in DOSES.items():
        found[f"jump_{size}"], found[f"left_{size}"] = jumps.xs(rate), left.xs(rate)
        found[f"quarter_{size}"] = fal.xs(rate)[1.25]
        found[f"end_{size}"] = fal.xs(rate)[2.0]
        found[f"tail_{size}"] = tail.xs(rate)[1.25]
    found["valley"] = dose_response.valley(rows, WORLD).xs(DOSES["small"])
    for name in ("plain", "fal", "meda", "tail_rewind"):
        found[f"gain_{name}"] = dose_response.best_against_one_epoch(rows, WORLD, name, 3.0)
    rows = records.read(own_label.NAME, "long", results).rows
    for name in ("self_seeing", "self_excluding"):
        found[name] = own_label.jump(rows, "AdsWorld, sums", name).xs(0.3)
        found[f"{name}_kuairand"] = own_label.jump(rows, "KuaiRand, sums", name).xs(1.0)
    rows = records.read("ch08_continual_training", "long", results).rows
    methods = ("plain", "fal", "meda_restored", "day_tail_rewind")
    days = {name: continual.label(name, 2) for name in methods}
    for name, setting in {**days, "more_data": continual.MORE_DATA}.items():
        found[f"days_{name}"] = continual.last_days(continual.gain(rows, setting))
    return found


def front(results: Path) -> dict[str, str]:
    """Formats the values of the front page; none if there is no record."""
    if records.read(dose_response.NAME, "long", results) is None:
        return {}
    plain = ("jump_", "left_", "valley", "self_seeing")
    return {
        name: estimate(values, "%", 1) if name.startswith(plain) else signed(values)
        for name, values in measured(results).items()
    }


def signed(values: Iterable[float]) -> str:
    """Formats the mean and the interval of a change in percent with their signs."""
    mean, low, high = interval(list(values))
    digits = 2 if min(map(abs, (mean, low, high))) < 0.05 else 1  # no "-0.0"
    known = f" [{low:+.{digits}f}, {high:+.{digits}f}]" if math.isfinite(low) else " (one seed)"
    return f"{mean:+.{digits}f}{NBSP}%{known}".replace("-", "−")


def assertions(results: Path) -> dict[str, bool]:
    """Returns what the sentences of the front page and the summary assert, and whether it holds."""
    m = measured(results)
    said = {
        "the own label is the jump": above(m["self_seeing"], 10)
        and above(m["self_excluding"], -1)
        and below(m["self_excluding"], 1),
        "so it is on a real log": above(m["self_seeing_kuairand"], 10)
        and above(m["self_excluding_kuairand"], -1)
        and below(m["self_excluding_kuairand"], 1),
        "one epoch hardly differs between the rates": below(m["valley"], 2),
        "the smallest jump is about the paper's": 0.8 < m["jump_small"].mean() < 1.6,
        "the jump grows more than tenfold": m["jump_large"].mean() > 10 * m["jump_small"].mean(),
        "FAL leaves less than a quarter of a middle jump": below(m["left_middle"], 25),
        "with a small jump FAL's loss falls instead": below(m["left_small"]),
        "FAL leaves a third or more of a large jump": above(m["left_large"], 33),
        "right after the boundary FAL is ahead at small jumps": below(m["quarter_small"])
        and below(m["quarter_middle"]),
        "right after the boundary MEDA is ahead at a large jump": above(m["quarter_large"]),
        "at the end of epoch 2 MEDA is ahead of FAL": all(above(m[f"end_{d}"]) for d in DOSES),
        "tail rewind's dip is smaller than MEDA's": all(below(m[f"tail_{d}"]) for d in DOSES),
        "MEDA gains over one epoch": below(m["gain_meda"]),
        "tail rewind gains over one epoch": below(m["gain_tail_rewind"]),
        "FAL loses against one epoch": above(m["gain_fal"]),
        "plain training loses against one epoch": above(m["gain_plain"]),
        "day by day, tail rewind gains": below(m["days_day_tail_rewind"]),
        "day by day, no gain is shown for MEDA": not below(m["days_meda_restored"]),
        "day by day, FAL loses": above(m["days_fal"]),
        "day by day, plain training loses": above(m["days_plain"]),
        "more data gains more": below(m["days_more_data"] - m["days_day_tail_rewind"]),
    }
    ledger, points = records.ledger(results), records.second_round(results=results)
    again = {one.id: second_round.weigh(one, points) for one in second_round.PREDICTIONS}
    for id, (name, status) in SO_WHAT_RELIES_ON.items():
        mine = [one for one in again.get(id, ()) if one.measure.name == name]
        if again.get(id):
            found = second_round.status(mine)
        else:
            found = _preferred(claims.claim(id), ledger)[1][name].status
        said[f"the so-what of {id}: {name} {status}"] = found == status
    return said


def ledger_cells(ledger: dict[str, pd.DataFrame]) -> dict[str, str]:
    """Returns the computed cells of the table in book/summary.md: CLAIM_COLUMN for each claim."""
    cells, counts = {}, Counter()
    for one in claims.CLAIMS:
        profile, evidence = _preferred(one, ledger)
        counts[claims.verdict(one, list(evidence.values()))] += 1
        predicted = (f"{m.text} {m.sign}{NBSP}{m.threshold:g}{_unit(m)}" for m in one.measures)
        cells |= {
            f"{one.id}_claim": f"[{one.id}](#{one.id}) {one.title}{' (our own)' * one.ours}",
            f"{one.id}_predicted": _lettered(predicted),
            f"{one.id}_found": _found(one, evidence, profile),
            f"{one.id}_verdict": _verdicts(one, ledger),
        }
    cells["claim_count"] = str(len(claims.CLAIMS))
    cells["verdict_counts"] = ", ".join(f"{n} {verdict}" for verdict, n in counts.most_common())
    return cells


def second_round_cells(points: pd.DataFrame, ledger: dict[str, pd.DataFrame]) -> dict[str, str]:
    """Returns the cells CLAIM_now of book/summary.md: verdict and findings of the newest round."""
    again = {one.id: second_round.weigh(one, points) for one in second_round.PREDICTIONS}
    cells, first = {}, ledger_cells(ledger)
    for id in [one.id for one in claims.CLAIMS] + list(again):
        if evidence := again.get(id):
            found = _lettered(second_round.in_brief(evidence))
            cells[f"{id}_now"] = f"**{second_round.verdict(evidence)}**<br>{found}"
        elif f"{id}_verdict" in first:
            verdict, predicted, found = (
                first[f"{id}_{column}"] for column in ("verdict", "predicted", "found")
            )
            cells[f"{id}_now"] = f"{verdict}, first round<br>{predicted}<br>found: {found}"
        else:
            cells[f"{id}_now"] = "not yet run"
    return cells


def _preferred(one: Claim, ledger: dict[str, pd.DataFrame]) -> tuple[str, dict[str, Evidence]]:
    """Returns the profile that the summary shows for a claim, and its evidence by measure."""
    for profile in (name for name in PREFERRED if name in ledger):
        if evidence := claims.weigh(one, ledger[profile]):
            return profile, {e.measure.name: e for e in evidence}
    return "", {}


def _lettered(parts: Iterable[str]) -> str:
    """Puts the parts of a cell below each other, lettered so that cells can be compared."""
    parts = list(parts)
    letters = [f"{letter}) " for letter in ascii_lowercase] if len(parts) > 1 else [""]
    return "<br>".join(letter + part for letter, part in zip(letters, parts))


def _unit(measure: claims.Measure) -> str:
    return f"{NBSP}{measure.unit}" if measure.unit else ""


def _found(one: Claim, evidence: dict[str, Evidence], profile: str) -> str:
    if not evidence:
        return "not yet run"

    def words(measure: claims.Measure) -> str:
        e = evidence.get(measure.name)
        if e is None:
            return "not yet run"
        known = f" [{e.low:.3g},{NBSP}{e.high:.3g}]" if len(e.seeds) > 1 else " (one seed)"
        return f"**{e.estimate:.3g}{_unit(measure)}**{known}, {e.status}"

    return f"{_lettered(map(words, one.measures))}<br>({profile})"


def _verdicts(one: Claim, ledger: dict[str, pd.DataFrame]) -> str:
    by_verdict: dict[str, list[str]] = {}
    for profile, rows in ledger.items():
        if evidence := claims.weigh(one, rows):
            by_verdict.setdefault(claims.verdict(one, evidence), []).append(profile)
    words = [f"{verdict} ({', '.join(names)})" for verdict, names in by_verdict.items()]
    words += ["The profiles disagree."] * (len(words) > 1)
    return "<br>".join(words) or "not yet run"

"""Judges what notebooks recorded against a reference: what is allowed, and what each failure is.

The allowed band of a number follows from its spread over the seeds of the reference, by one rule:

    mean +- t * s * sqrt(1 + 1/n) + rounding

mean and s (standard deviation) over the n seeds, t Student's quantile with n - 1 degrees of
freedom: the two-sided prediction interval for one more seed. Its level is 1 - FALSE_ALARMS / m
with m numbers in the reference, so that a regression with *other* seeds, all m numbers together,
would fail at most once in 1 / FALSE_ALARMS times. ROUNDING is what the order of summation may do
to a number whatever the seeds. An exact number, such as a count, has to be the same.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from reproduction import claims
from tests.regression.execution import Outcome

FALSE_ALARMS = 0.05
ROUNDING = 1e-5  # of the number itself

OK = "ok"
WHOLE = "the notebook"  # the quantity of a row that is about all of it
# Verdicts that say more than a number which moved: start with the chapter that has one.
TELLING = ("raised", "hung", "died", "does not hold")


@dataclass(frozen=True)
class Row:
    """One quantity of one notebook: what the reference has, what is here, and the verdict.

    allowed: lowest and highest value; None where nothing is to be allowed for.
    verdict: "ok", or the kind of failure; what: the failure in one sentence.
    """

    notebook: str
    quantity: str
    reference: float | str | None
    now: float | str | None
    allowed: tuple[float, float] | None
    verdict: str = OK
    what: str = ""

    @property
    def ok(self) -> bool:
        return self.verdict == OK


def compare(
    outcomes: Sequence[Outcome], reference: dict, gone: Sequence[str] = (), elsewhere: bool = False
) -> list[Row]:
    """A row for each quantity of each notebook, in the order of the book.

    gone: notebooks that the reference has and the book no longer.
    elsewhere: the reference is of another machine or torch, so training rounds otherwise. An
        interval may then come to reach its bar, or cease to, with nothing changed; a claim's
        verdict is another only where a measure has crossed its bar, interval and all.
    """
    level = 1 - FALSE_ALARMS / max(1, n_spread(reference))
    rows = []
    for outcome in sorted(outcomes, key=lambda one: one.notebook):
        known = reference["notebooks"].get(outcome.notebook)
        rows += _notebook(outcome, known, reference["about"]["seeds"], level, elsewhere)
    rows += [
        Row(name, WHOLE, "recorded", None, None, "notebook gone",
            "the reference has this notebook and notebooks/ has not; record the reference anew")
        for name in gone
    ]  # fmt: skip
    return rows


def start_with(rows: Sequence[Row]) -> str | None:
    """The notebook to look at first; None where all is well.

    The first of the book in which a cell raised or a direction does not hold, since that says
    what is wrong; else the first in which anything is. Later chapters build on earlier ones.
    """
    failed = [row for row in rows if not row.ok]
    telling = [row for row in failed if row.verdict in TELLING]
    return min((row.notebook for row in telling or failed), default=None)


def n_spread(reference: dict) -> int:
    """How many numbers of a reference have a band."""
    return sum(
        not one["exact"]
        for notebook in reference["notebooks"].values()
        for one in notebook["numbers"].values()
    )


def band(values: Sequence[float], level: float) -> tuple[float, float]:
    """Lowest and highest value allowed for one more seed, from those of the reference."""
    n, mean, spread = len(values), statistics.fmean(values), statistics.stdev(values)
    half = t_quantile(level, n - 1) * spread * math.sqrt(1 + 1 / n)
    half += ROUNDING * max(abs(value) for value in values)
    return mean - half, mean + half


def t_quantile(level: float, df: int) -> float:
    """The t for which |T| <= t with probability `level`, T of Student's t with `df` degrees."""
    low, high = 0.0, 1.0
    while _within(high, df) < level:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, df) < level else (low, middle)
    return high


def _within(t: float, df: int) -> float:
    """P(|T| <= t), Abramowitz and Stegun 26.7.3 and 26.7.4."""
    angle = math.atan(t / math.sqrt(df))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = df % 2
    term = total = cosine if odd else 1.0
    for k in range(3 if odd else 2, df - 1, 2):
        term *= (k - 1) / k * cosine**2
        total += term
    if not odd:
        return sine * total
    return 2 / math.pi * (angle + (sine * total if df > 1 else 0.0))


def numbers_of(recorded: dict) -> dict[str, dict]:
    """The numbers of a Checks cell, and its evidence as such: the mean over seeds by measure."""
    found = dict(recorded["numbers"])
    measured: dict[str, list[float]] = {}
    for row in recorded["evidence"]:
        measured.setdefault(f"{row['claim']}: {row['measure']}", []).append(row["value"])
    for name, values in measured.items():
        found[name] = {"value": statistics.fmean(values), "exact": False}
    return found


def _notebook(
    outcome: Outcome, known: dict | None, seeds: Sequence[int], level: float, elsewhere: bool
) -> Iterator[Row]:
    def whole(verdict: str, what: str) -> Row:
        return Row(outcome.notebook, WHOLE, "ends", None, None, verdict, what)

    broken = [
        name for one in outcome.recorded for name, holds in one["directions"].items() if not holds
    ]
    # The Checks cell raises where a direction does not hold; that has rows of its own below.
    if outcome.status != "ended" and not (outcome.status == "raised" and broken):
        cell = f", in cell {outcome.where!r}" if outcome.where else ""
        not_finite = "only finite numbers are recorded" in outcome.what
        verdict = "not a number" if not_finite else outcome.status
        yield whole(verdict, f"{outcome.what}{cell}")
        if not outcome.recorded:
            return
    if not outcome.recorded:
        yield whole("nothing recorded", "ended, and no Checks cell recorded anything")
        return
    if known is None:
        yield whole("not in the reference", "the reference lacks this notebook; record it anew")
        return
    numbers = {k: v for one in outcome.recorded for k, v in numbers_of(one).items()}
    directions = {k: v for one in outcome.recorded for k, v in one["directions"].items()}
    yield from _numbers(outcome.notebook, numbers, known["numbers"], level)
    yield from _directions(outcome.notebook, directions, known["directions"])
    evidence = [row for one in outcome.recorded for row in one["evidence"]]
    yield from _verdicts(outcome.notebook, evidence, known["numbers"], seeds, elsewhere)


def _numbers(notebook: str, numbers: dict, known: dict, level: float) -> Iterator[Row]:
    for name, reference in known.items():
        exact, values = reference["exact"], reference["values"]
        centre = values[0] if exact else statistics.fmean(values)
        allowed = (values[0], values[0]) if exact else band(values, level)
        if name not in numbers:
            yield Row(notebook, name, centre, None, allowed, "not recorded",
                      "in the reference, and not recorded here")  # fmt: skip
            continue
        now = numbers[name]["value"]
        row = (notebook, name, centre, now, allowed)
        if not math.isfinite(now):
            yield Row(*row, "not a number", f"recorded as {now}")
        elif allowed[0] <= now <= allowed[1]:
            yield Row(*row)
        elif exact:
            yield Row(*row, "not the same", f"must be exactly {centre:.10g} and is {now:.10g}")
        else:
            yield Row(*row, "outside", f"{now:.4g} is outside {allowed[0]:.4g} to "
                      f"{allowed[1]:.4g}{_other_side(name, centre, now)}")  # fmt: skip
    for name in [name for name in numbers if name not in known]:
        yield Row(notebook, name, None, numbers[name]["value"], None, "not in the reference",
                  "recorded, and the reference lacks it; record the reference anew")  # fmt: skip


def _other_side(name: str, reference: float, now: float) -> str:
    """What it means for a claim, where a measure of one has crossed its bar."""
    claim, _, measure = name.partition(": ")
    for one in claims.CLAIMS:
        for m in one.measures:
            if (one.id, m.name) == (claim, measure) and (reference > m.threshold) != (
                now > m.threshold
            ):
                kept = (reference > m.threshold) == (m.sign == ">")
                was = "it met" if kept else "it had missed"
                return f", on the other side of {claim}'s bar of {m.threshold:g}, which {was}"
    return ""


def _directions(notebook: str, directions: dict, known: Sequence[str]) -> Iterator[Row]:
    for name in known:
        if name not in directions:
            yield Row(notebook, name, "holds", None, None, "not recorded",
                      "a direction of the reference, and not asserted here")  # fmt: skip
        elif directions[name]:
            yield Row(notebook, name, "holds", "holds", None)
        else:
            yield Row(notebook, name, "holds", "does not hold", None, "does not hold",
                      "a direction that has to hold does not")  # fmt: skip
    for name, holds in directions.items():
        if name not in known:
            verdict = "not in the reference" if holds else "does not hold"
            now = "holds" if holds else "does not hold"
            yield Row(notebook, name, None, now, None, verdict,
                      "a direction that the reference lacks; record it anew")  # fmt: skip


def _verdicts(
    notebook: str, evidence: Sequence[dict], known: dict, seeds: Sequence[int], elsewhere: bool
) -> Iterator[Row]:
    """The verdict on each claim, against the one that the reference gives for the same seeds."""
    if not evidence or not {row["seed"] for row in evidence} <= set(seeds):
        return
    now = pd.DataFrame(evidence)
    place = {seed: k for k, seed in enumerate(seeds)}
    before = now.assign(
        value=[
            known.get(f"{row.claim}: {row.measure}", {"values": [math.nan] * len(seeds)})["values"][
                place[row.seed]
            ]
            for row in now.itertuples()
        ]
    ).dropna()
    now = now[now["value"].map(math.isfinite)]
    for claim in claims.CLAIMS:
        if claim.id not in set(before["claim"]):
            continue
        weighed = [claims.weigh(claim, rows) for rows in (before, now)]
        was, is_now = (claims.verdict(claim, found) for found in weighed)
        row = (notebook, f"verdict on {claim.id}", was, is_now, None)
        old, new = ({e.measure.name: e.status for e in found} for found in weighed)
        crossed = [name for name in old if {old[name], new.get(name)} == {"holds", "fails"}]
        if was == is_now or (elsewhere and old.keys() == new.keys() and not crossed):
            yield Row(*row)
        else:
            yield Row(*row, "another verdict", f"{claim.id} was {was} and is {is_now}")

"""Judges what a notebook recorded against a reference.

The allowed band of a number follows from its n values in the reference, one per seed:

    mean +- t * s * sqrt(1 + 1/n) + rounding

with their standard deviation s, and t the quantile of Student's t with n - 1 degrees of freedom:
the two-sided prediction interval for one more seed. Its level is 1 - FALSE_ALARMS / m for m numbers
in the reference, so that all m together fail for no reason at most once in 1 / FALSE_ALARMS runs
with other seeds. ROUNDING allows for the order of summation. Exact numbers must be equal.
"""

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from multiepoch_lab.stats import interval
from reproduction import judge
from tests.regression.run import Outcome, name_of

FALSE_ALARMS = 0.05
ROUNDING = 1e-5  # of the number itself

OK = "ok"
WHOLE = "the notebook"  # the quantity of a row about all of it
MOVED = ("outside", "not the same")  # verdicts that do not say what is wrong


@dataclass(frozen=True)
class Row:
    """One quantity: its value in the reference and now, what is allowed, and the verdict on it."""

    quantity: str
    reference: float | str | None
    now: float | str | None
    low: float | None = None
    high: float | None = None
    verdict: str = OK
    what: str = ""

    @property
    def ok(self) -> bool:
        return self.verdict == OK

    def __str__(self) -> str:
        return f"{self.quantity}: {self.verdict}: {self.what}"


def compare(outcome: Outcome, reference: dict, elsewhere: bool = False) -> list[Row]:
    """Returns a row for each quantity of a notebook.

    If the reference comes from `elsewhere`, another machine or torch, training rounds differently.
    An interval may then come to include its threshold, or cease to, although nothing has changed;
    a claim's verdict counts as another only if a measure has crossed with its whole interval.
    """
    rows = []
    if outcome.broken:
        not_finite = "only finite numbers are recorded" in outcome.error
        verdict = "not a number" if not_finite else outcome.status
        rows.append(Row(WHOLE, "ends", None, verdict=verdict, what=outcome.error))
    if not (outcome.numbers or outcome.directions or outcome.verdicts):
        what = "no Checks cell was shown"
        return rows or [Row(WHOLE, "ends", None, verdict="nothing recorded", what=what)]
    known = reference["notebooks"].get(outcome.notebook)
    if known is None:
        return [*rows, _unknown(WHOLE, "recorded")]
    entries = [n for one in reference["notebooks"].values() for n in one["numbers"].values()]
    level = 1 - FALSE_ALARMS / max(1, sum(not entry["exact"] for entry in entries))
    rows += _numbers(outcome.numbers, known["numbers"], level)
    rows += _directions(outcome.directions, known["directions"])
    rows += _records(outcome.verdicts, known.get("verdicts", {}))
    seeds = reference["about"]["seeds"]
    return [*rows, *_verdicts(outcome.evidence, known["numbers"], seeds, elsewhere)]


def band(values: Sequence[float], level: float) -> tuple[float, float]:
    """Returns the lowest and highest value allowed for one more seed."""
    mean, _, high = interval(values, level)
    half = (high - mean) * math.sqrt(len(values) + 1)  # from the mean's interval to a new value's
    half += ROUNDING * max(abs(value) for value in values)
    return mean - half, mean + half


def _numbers(numbers: dict, known: dict, level: float) -> Iterator[Row]:
    for name, entry in known.items():
        values = entry["values"]
        centre = statistics.fmean(values)
        low, high = (centre, centre) if entry["exact"] else band(values, level)
        now = numbers[name]["value"] if name in numbers else None
        row = (name, centre, now, low, high)
        if now is None:
            yield Row(*row, "not recorded", "in the reference, and not recorded here")
        elif not math.isfinite(now):
            yield Row(*row, "not a number", f"recorded as {now}")
        elif low <= now <= high:
            yield Row(*row)
        elif entry["exact"]:
            yield Row(*row, "not the same", f"must be exactly {centre:.10g}, is {now:.10g}")
        else:
            crossed = _crossed(name, centre, now)
            yield Row(*row, "outside", f"{now:.4g} is not in {low:.4g} to {high:.4g}{crossed}")
    yield from (_unknown(name, one["value"]) for name, one in numbers.items() if name not in known)


def _unknown(name: str, now: float | str) -> Row:
    what = "not in the reference: record it with python -m tests.regression.record"
    return Row(name, None, now, verdict="not in the reference", what=what)


def _crossed(name: str, reference: float, now: float) -> str:
    """Says so if a measure of a claim has crossed its threshold."""
    for claim, m in [(one, m) for one in judge.CLAIMS for m in one.measures]:
        above = reference > m.threshold
        mine = name.split(", ")[0] == f"{claim.id}: {m.name}"
        if mine and above != (now > m.threshold):
            was = "it met" if above == (m.sign == ">") else "it had missed"
            return f", across {claim.id}'s threshold of {m.threshold:g}, which {was}"
    return ""


def _directions(directions: dict, known: dict) -> Iterator[Row]:
    for name in dict.fromkeys([*known, *directions]):
        reference = "holds" if name in known else None
        if name not in directions:
            yield Row(name, reference, None, verdict="not recorded", what="not asserted here")
        elif not directions[name]:
            what = "this direction must hold, and does not"
            yield Row(name, reference, "does not hold", verdict="does not hold", what=what)
        else:
            yield Row(name, reference, "holds") if reference else _unknown(name, "holds")


def _records(verdicts: dict, known: dict) -> Iterator[Row]:
    """The verdicts that committed records give, judged again."""
    for name in dict.fromkeys([*known, *verdicts]):
        was, now = known.get(name), verdicts.get(name)
        if was is None:
            yield _unknown(name, now)
        elif now is None:
            yield Row(name, was, None, verdict="not recorded", what="not judged here")
        elif was == now:
            yield Row(name, was, now)
        else:
            yield Row(name, was, now, verdict="another verdict", what=f"was {was}; is {now}")


def _verdicts(
    evidence: list[dict], known: dict, seeds: Sequence[int], elsewhere: bool
) -> Iterator[Row]:
    """The verdict on each claim, against that of the reference for the same seeds."""
    if not evidence or not {row["seed"] for row in evidence} <= set(seeds):
        return
    now = pd.DataFrame(evidence)
    values = [known.get(name_of(row)) for row in evidence]
    places = map(seeds.index, now["seed"])
    before = now.assign(value=[v and v["values"][k] for v, k in zip(values, places)]).dropna()
    now = now[now["value"].map(math.isfinite)]
    for claim in judge.CLAIMS:
        if claim.id not in set(before["claim"]):
            continue
        weighed = [judge.weigh(claim, rows) for rows in (before, now)]
        was, is_now = (judge.verdict(claim, found) for found in weighed)
        old, new = ({(e.measure.name, e.point): e.status for e in found} for found in weighed)
        crossed = any({old[name], new.get(name)} == {"holds", "fails"} for name in old)
        row = (f"verdict on {claim.id}", was, is_now)
        if was == is_now or (elsewhere and old.keys() == new.keys() and not crossed):
            yield Row(*row)
        else:
            what = f"{claim.id} was {was} and is {is_now}"
            yield Row(*row, verdict="another verdict", what=what)

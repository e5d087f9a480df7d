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

from multiepoch_lab.stats import interval
from tests.regression.run import Outcome

FALSE_ALARMS = 0.05
ROUNDING = 1e-5  # of the number itself

WHOLE = "the notebook"  # the quantity of a row about all of it


@dataclass(frozen=True)
class Row:
    """One quantity: its value in the reference and now, what is allowed, and what is wrong."""

    quantity: str
    reference: float | str | None
    now: float | str | None
    low: float | None = None
    high: float | None = None
    wrong: str = ""


def compare(outcome: Outcome, reference: dict) -> list[Row]:
    """Returns a row for each quantity of a notebook."""
    rows = [Row(WHOLE, "ends", None, wrong=outcome.error)] if outcome.error else []
    known = reference["notebooks"].get(outcome.notebook)
    if not (outcome.numbers or outcome.directions):
        return rows or [Row(WHOLE, "ends", None, wrong="no Checks cell was shown")]
    if known is None:
        return [*rows, _unknown(WHOLE, "recorded")]
    numbers = [n for one in reference["notebooks"].values() for n in one["numbers"].values()]
    level = 1 - FALSE_ALARMS / max(1, sum(isinstance(one, list) for one in numbers))
    rows += _numbers(outcome.numbers, known["numbers"], level)
    return [*rows, *_directions(outcome.directions, known["directions"])]


def band(values: Sequence[float], level: float) -> tuple[float, float]:
    """Returns the lowest and highest value allowed for one more seed."""
    mean, _, high = interval(values, level)
    half = (high - mean) * math.sqrt(len(values) + 1)  # from the mean's interval to a new value's
    half += ROUNDING * max(abs(value) for value in values)
    return mean - half, mean + half


def _numbers(numbers: dict, known: dict, level: float) -> Iterator[Row]:
    for name, kept in known.items():
        varies = isinstance(kept, list)
        centre = statistics.fmean(kept) if varies else kept
        low, high = band(kept, level) if varies else (kept, kept)
        if name not in numbers:
            yield Row(name, centre, None, low, high, "is in the reference, and not recorded here")
            continue
        now = numbers[name]["value"]
        allowed = f"in {low:.4g} to {high:.4g}" if varies else f"exactly {centre:.10g}"
        wrong = "" if low <= now <= high else f"must be {allowed}, and is {now:.10g}"
        yield Row(name, centre, now, low, high, wrong)
    yield from (_unknown(name, one["value"]) for name, one in numbers.items() if name not in known)


def _directions(directions: dict, known: list[str]) -> Iterator[Row]:
    for name in known:
        if name not in directions:
            yield Row(name, "holds", None, wrong="is in the reference, and not recorded here")
        else:
            wrong = "" if directions[name] else "must hold, and does not"
            yield Row(name, "holds", "does not hold" if wrong else "holds", wrong=wrong)
    yield from (_unknown(name, str(now)) for name, now in directions.items() if name not in known)


def _unknown(name: str, now: float | str) -> Row:
    wrong = "is not in the reference: record it with python -m tests.regression.record"
    return Row(name, None, now, wrong=wrong)

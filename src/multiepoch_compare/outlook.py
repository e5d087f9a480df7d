"""What a log can decide, said before any training: how wide intervals will be, and what spoils it.

Half an interval has two parts. The first comes from the test impressions: a difference in loss
varies between them, and more so between users if the labels of a user are alike. The second comes
from the seeds: two runs of a method differ, and more so where the rates of the labels move between
the training and the test days. Both sizes were fitted to five real logs (see the book).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from multiepoch_compare import plan
from multiepoch_compare.readers import WholeLog
from multiepoch_lab.stats import interval
from multiepoch_lab.train.metrics import entropy

COLLAPSE = 0.5  # %: a rise of the logloss by at least this, clearly above 0, is a collapse
COARSEST = 2.0  # %: if half an interval is likely to be wider, a test part decides nothing
LEAST_ONES = {"train": 200, "validation": 50, "test": 100}  # of ones, and of zeros
# The logits of two models for an impression differ by about so much: on KuaiRand, half an interval
# is then 0.35 %, as was measured between one and two epochs of MEDA.
SPREAD = 0.3
# %, of the difference between two methods from seed to seed; and by how much more for each unit by
# which the logit of a label's rate moves.
SEEDS, MOVED = 0.5, 2.4
DRIFT = math.log(1.4)  # of that logit: beyond it, what is learned is of another time
# For the interval over impressions, a day is divided into blocks: by the first id column (users, as
# a rule) with so many values that no block holds more than LARGEST_BLOCK of the day, or by
# impression if there is no such column.
BLOCKS, LARGEST_BLOCK = 20, 0.1


def block_of(columns: Sequence[np.ndarray], n: int) -> np.ndarray:
    """Assigns each of n impressions to a block, by the first column that is fine enough, (n,)."""
    for ids in (*columns, np.arange(n)):
        block = (ids.astype(np.int64) * 2_654_435_761 >> 7) % BLOCKS
        if np.bincount(block).max() <= n * LARGEST_BLOCK:
            break
    return block


def rows_needed(rates: Sequence[float]) -> int:
    """Returns about how many test impressions make the first part as narrow as COLLAPSE.

    rates: The share of ones of each label. A difference in loss varies between impressions by
    about SPREAD sqrt(p (1 - p)), and is divided by the entropy of p.
    """
    return math.ceil((_of_rows(1, rates) / COLLAPSE) ** 2)


def _of_rows(n: float, rates: Sequence[float]) -> float:
    each = [math.sqrt(p * (1 - p)) / entropy(p) for p in np.clip(rates, 1e-6, 1 - 1e-6)]
    return 100 * 2 * SPREAD * float(np.mean(each)) / math.sqrt(max(n, 1))


@dataclass(frozen=True)
class Outlook:
    """What is expected before training.

    Attributes:
        half: Half the width of an interval, in %.
        of_rows, of_seeds: Its two parts, whose squares add up.
        rates, ones: The share and the number of ones of each label, by part.
        drift: By label, how far the logit of its rate moves from training to testing, beyond
            chance; 0 if it does not.
        reasons: Why the log cannot decide, if it cannot, and what would help.
    """

    half: float
    of_rows: float
    of_seeds: float
    rates: dict[str, dict[str, float]]
    ones: dict[str, dict[str, int]]
    drift: dict[str, float]
    reasons: list[str]

    def in_words(self) -> str:
        """Says what to expect, in one line."""
        parts = (
            f"±{self.of_rows:.2g} % from the test impressions, ±{self.of_seeds:.2g} % from seeds"
        )
        if self.reasons:
            return f"This log cannot decide: {' '.join(self.reasons)}"
        return f"Half an interval is likely to be {self.half:.2g} % wide ({parts})."


def outlook(log: WholeLog, split: plan.Split, seeds: int) -> Outlook:
    """Says what the test days of a log can decide, with so many seeds."""
    rows = {part: split.rows(log, part) for part in plan.PARTS}
    by_label = {
        name: {part: column[at].astype(float) for part, at in rows.items()}
        for name, column in log.labels.items()
    }
    rates = {name: {k: float(y.mean()) for k, y in of.items()} for name, of in by_label.items()}
    ones = {name: {k: int(y.sum()) for k, y in of.items()} for name, of in by_label.items()}
    drift = {name: _drift(of["train"], of["test"]) for name, of in by_label.items()}
    test = rows["test"]
    block = block_of([column[test] for column in log.ids.values()], len(test))
    alike = float(np.mean([_alike(of["test"], block) for of in by_label.values()]))
    test_rates = [of["test"] for of in rates.values()]
    of_rows = _of_rows(len(test) / alike, test_rates)
    spread = SEEDS + MOVED * float(np.mean([abs(moved) for moved in drift.values()]))
    unit = interval(np.linspace(-1, 1, seeds) / np.linspace(-1, 1, seeds).std(ddof=1))
    of_seeds = spread * unit[2]
    half, needed = math.hypot(of_rows, of_seeds), math.ceil(rows_needed(test_rates) * alike)
    reasons = [
        f"{name!r} has {few:,} {what} in the {len(rows[part]):,} rows of {part}, and a verdict "
        f"needs {least}: give more rows, or leave this label out."
        for name in by_label
        for part, least in LEAST_ONES.items()
        for what, few in (("ones", ones[name][part]), ("zeros", len(rows[part]) - ones[name][part]))
        if few < least
    ]
    reasons += [
        f"{name!r} drifts: its rate is {rates[name]['train']:.3g} in training and "
        f"{rates[name]['test']:.3g} in testing, so what is learned is of another time: leave out "
        "old days, or test again when new days have come."
        for name, moved in drift.items()
        if abs(moved) > DRIFT
    ]
    if of_rows > COARSEST:
        reasons.append(
            f"{len(test):,} test impressions leave intervals of likely ±{of_rows:.1f} %, and a "
            f"verdict needs ±{COLLAPSE} %, for which about {needed:,} impressions like these are "
            "needed: give more days to test on (--test-days), or more users."
        )
    elif half > COARSEST:
        reasons.append(
            f"{seeds} seeds leave intervals of likely ±{half:.1f} %: give more (--seeds)."
        )
    return Outlook(half, of_rows, of_seeds, rates, ones, drift, reasons)


def _alike(labels: np.ndarray, block: np.ndarray) -> float:
    """Returns how much more the mean of a label varies between blocks than between impressions."""
    p = labels.mean()
    sums = np.bincount(block, labels - p, minlength=BLOCKS)
    return max(1.0, float((sums**2).sum() / max(len(labels) * p * (1 - p), 1e-9)))


def _drift(before: np.ndarray, after: np.ndarray) -> float:
    """Returns by how much the logit of a rate moves, less two standard errors; 0 within these."""
    counts = [(y.sum() + 0.5, len(y) - y.sum() + 0.5) for y in (before, after)]
    (a, b), (c, d) = counts
    moved, error = math.log(c / d) - math.log(a / b), math.sqrt(1 / a + 1 / b + 1 / c + 1 / d)
    return math.copysign(max(0.0, abs(moved) - 2 * error), moved)

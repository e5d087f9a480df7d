"""The plan of a comparison: the split by day, the methods, and the trials of each."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from multiepoch_compare.readers import MappedLog
from multiepoch_lab.data.log import DataError, Log
from multiepoch_lab.methods import METHODS, Hyperparameter
from multiepoch_lab.train.metrics import entropy

DENSE_LR = 1e-3
STEP = 10**0.5
MAX_TRAIN, MAX_TEST = 10_000_000, 1_000_000  # impressions; the latest are kept
MAX_CONTROL_ROWS = 1_000_000  # of all tables: the control takes 0.6 GB in each process then
PARTS = ("train", "validation", "test")
CONTROL = "two-fold tables"
FEW = 0.01  # the share of impressions that may lie far outside
TWICE = 0.2  # the share of rows that may repeat an earlier one
LEAST_STEPS, LARGEST_BATCH = 200, 2048
COLLAPSE = 0.5  # %: a rise of the logloss by at least this, clearly above 0, is a collapse
COARSEST = 1.5  # %: if half an interval is likely to be wider, a test part decides nothing
MOST, NEARLY_EMPTY = 0.25, 0.05  # of all impressions: the share of a part, and of a day in it
# The logits of two models for an impression differ by about so much: on KuaiRand, half an interval
# is then 0.35 %, as was measured between one and two epochs of MEDA.
SPREAD = 0.3


class Candidate(NamedTuple):
    """How a method with a learning rate for the tables is built and tuned.

    method: A key of METHODS. second: The second value of its hyperparameter that is tried. rule:
    How tables are updated. model: "full", DROPPED or ADDITIVE.
    """

    method: str = "plain"
    second: Hyperparameter = None
    rule: str = "adam"
    model: str = "full"


SPARSE, ADAGRAD, TAIL = "sparse optimizer", "row-wise Adagrad", "tail rewind"
DROPPED, ADDITIVE, ADAMAR = "sparsest dropped", "additive", "AdamAR"
ENDS = "mean of ends"  # of the better reset: what is served is the mean over ends from epoch 2 on
_ROW_WISE = "rowwise_adagrad"
TABLE_RATE_METHODS = {
    SPARSE: Candidate(),
    ADAGRAD: Candidate(rule=_ROW_WISE),
    "FAL": Candidate("fal", "square root", _ROW_WISE),
    "MEDA": Candidate("meda", rule=_ROW_WISE),
    TAIL: Candidate("tail_rewind", 20, _ROW_WISE),
    DROPPED: Candidate(rule=_ROW_WISE, model=DROPPED),
    ADDITIVE: Candidate(model=ADDITIVE),
    ADAMAR: Candidate("adamar", 1e-3),
}
RESETS = ("MEDA", TAIL)  # in one epoch, these are row-wise Adagrad
ONCE = ("plain", SPARSE, ADAGRAD, DROPPED, ADDITIVE)  # judged after one epoch, and tuned for it
# Those of which several epochs are a line of their own, tuned for several.
REPEATED = {"plain": "plain, repeated", ADAGRAD: "row-wise Adagrad, repeated"}
# By what they hold in memory and serve, the least first: one column less; a number a row; that and
# counts; what a reset needs to know; a second copy; two numbers for each float, and more.
BY_COST = (DROPPED, ADAGRAD, REPEATED[ADAGRAD], "FAL", TAIL, "MEDA", ENDS, SPARSE, ADAMAR)
ON_REQUEST = (SPARSE, "FAL", ADAMAR)  # only if --methods names it
AROUND = (DROPPED, *RESETS)  # searched around the best rates of one epoch of row-wise Adagrad


def batch_size(n: int) -> int:
    """Returns the largest power of two that leaves LEAST_STEPS steps an epoch over n impressions.

    In fewer steps, a model hardly learns anything from an epoch, so that nothing can collapse. As
    the number of steps is then about the same for every small log, so are the rates to search.
    """
    most = max(1, n // LEAST_STEPS)
    return min(LARGEST_BATCH, 1 << (most.bit_length() - 1))


@dataclass(frozen=True)
class Trial:
    """One model trained once."""

    label: str  # the method's name in tables and figures
    method: str  # a key of METHODS
    dense_lr: float
    embedding_lr: float
    hyperparameter: Hyperparameter = None
    seed: int = 0
    rule: str = "adam"
    model: str = "full"
    eps: float = 1e-8
    average: bool = False  # serves the mean of the ends of epochs, from the second on

    def __str__(self) -> str:
        return f"{self.label}, {self.in_words()}, seed {self.seed}"

    def in_words(self) -> str:
        """Describes the learning rates and the hyperparameter."""
        words = f"learning rate {self.dense_lr:.2g}"
        if self.label != "plain":
            words += f", {self.embedding_lr:.2g} for the tables"
        if self.eps != Trial.eps:
            words += f", epsilon {self.eps:.1g}"
        if self.hyperparameter is not None:
            words += f", {METHODS[self.method].hyperparameter} {self.hyperparameter}"
        return words


def labels(methods: Collection[str] = ()) -> list[str]:
    """Returns the methods beside plain: those named, or all but ON_REQUEST.

    Row-wise Adagrad comes with what is searched around it, whose first epoch is its own.
    """
    found = [k for k in TABLE_RATE_METHODS if (k in methods if methods else k not in ON_REQUEST)]
    needed = [ADAGRAD] if ADAGRAD not in found and not {*found}.isdisjoint(AROUND) else []
    return [*needed, *found]


def trials(budget: int = 6, methods: Collection[str] = ()) -> dict[str, list[Trial]]:
    """Returns the trials of plain and of each method that is searched by itself, by its label.

    These are rates of the tables, of row-wise Adagrad in half decades, and a second value of the
    hyperparameter or of the dense rate; the most promising first.
    """
    shared = [DENSE_LR, DENSE_LR * STEP, DENSE_LR / STEP, DENSE_LR * STEP**2]
    found = {"plain": [Trial("plain", "plain", lr, lr) for lr in shared]}
    for label in labels(methods):
        if label in AROUND:
            continue
        method, second, rule, model = TABLE_RATE_METHODS.get(label, Candidate(rule=_ROW_WISE))
        default = METHODS[method].grid[0]
        first = Trial(label, method, DENSE_LR, 0.0, default, rule=rule, model=model)
        # Between logs, the best rate of row-wise Adagrad differs by a factor of several hundred.
        steps = (2, 1, 3) if rule == "adam" else (5, 3, 4, 2, 1)
        tables = (DENSE_LR * STEP**k for k in steps)
        several = [replace(first, embedding_lr=lr) for lr in tables]
        other = {"dense_lr": DENSE_LR * STEP} if second is None else {"hyperparameter": second}
        found[label] = [*several, replace(several[0], **other)]
    return {label: several[:budget] for label, several in found.items()}


def around(
    best: Trial, eps: float, budget: int = 6, methods: Collection[str] = ()
) -> dict[str, list[Trial]]:
    """Returns further trials of row-wise Adagrad, and those of AROUND, by label.

    best: The best rates of one epoch of row-wise Adagrad. eps: Makes a row's first step small.
    """
    small = replace(best, eps=eps)
    slower = replace(best, embedding_lr=best.embedding_lr / STEP)
    found = {ADAGRAD: [small, replace(small, embedding_lr=best.embedding_lr * STEP)]}
    for label in labels(methods):
        if label in AROUND:
            method, second, _, model = TABLE_RATE_METHODS[label]
            its = {"label": label, "method": method, "model": model}
            its["hyperparameter"] = METHODS[method].grid[0] if second is None else second
            found[label] = [replace(one, **its) for one in (best, slower, small)]
    return {label: several[: max(1, budget // 2)] for label, several in found.items()}


def control(plain: Trial) -> Trial:
    """Returns plain training with two-fold tables: no row holds a label it helps to learn from."""
    return replace(plain, label=CONTROL, method="two_fold")


@dataclass(frozen=True)
class Split:
    """The first and last day of each of PARTS, both included; of rows if by_rows."""

    ends: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
    by_rows: bool = False

    def read(self, mapped: MappedLog, part: str) -> Log:
        """Reads a part, cut to its latest MAX_TRAIN or MAX_TEST impressions."""
        rows, most = self._rows(mapped, part), MAX_TRAIN if part == "train" else MAX_TEST
        if isinstance(rows, slice):
            day = mapped.day[rows]
            if (day[1:] >= day[:-1]).all():
                return mapped.read(slice(max(rows.start, rows.stop - most), rows.stop))
            rows = np.arange(rows.start, rows.stop)
        latest = rows[np.argsort(mapped.day[rows], kind="stable")][-most:]
        return mapped.read(np.sort(latest))

    def n_rows(self, mapped: MappedLog, part: str) -> int:
        """Counts the impressions of a part, before `read` cuts it."""
        rows = self._rows(mapped, part)
        return rows.stop - rows.start if isinstance(rows, slice) else len(rows)

    def _rows(self, mapped: MappedLog, part: str) -> slice | np.ndarray:
        first, last = self.ends[PARTS.index(part)]
        return slice(first, last + 1) if self.by_rows else mapped.rows_of(first, last)

    def in_words(self, mapped: MappedLog) -> dict[str, str]:
        """Describes each part by its days or rows."""
        words = {}
        for part, (a, b) in zip(PARTS, self.ends):
            days = [f"rows {a + 1:,}", f"{b + 1:,}"] if self.by_rows else mapped.days[a : b + 1]
            words[part] = days[0] if a == b else f"{days[0]} to {days[-1]}"
        return words


def half_width(n: float, rates: Sequence[float]) -> float:
    """Returns about half the width, in %, of an interval over n test impressions.

    rates: The share of ones of each label. A difference in loss varies between impressions by
    about SPREAD sqrt(p (1 - p)), and is divided by the entropy of p.
    """
    each = [math.sqrt(p * (1 - p)) / entropy(p) for p in np.clip(rates, 1e-6, 1 - 1e-6)]
    return 100 * 2 * SPREAD * float(np.mean(each)) / math.sqrt(max(n, 1))


def rows_needed(rates: Sequence[float]) -> int:
    """Returns about how many test impressions make half an interval as narrow as COLLAPSE."""
    return math.ceil((half_width(1, rates) / COLLAPSE) ** 2)


def days_to_test(counts: np.ndarray, rates: Sequence[float]) -> tuple[int, int]:
    """Returns how many days to tune on, and how many after them, the last, to test on.

    These are the fewest with enough impressions, for tuning half as many; if that takes more than
    MOST of the log, then as many as it holds. A nearly empty day always gets company.

    counts: The impressions of each day, (n_days,). rates: The share of ones of each label.
    """
    needed, total = rows_needed(rates), counts.sum()

    def last(days: np.ndarray, needed: float, left: int) -> int:
        sizes, k = np.cumsum(days[::-1]), 1
        while k < len(days) - left and sizes[k - 1] < needed:
            empty = sizes[k - 1] < NEARLY_EMPTY * total and sizes[k] < 0.4 * total
            if not empty and sizes[k] > MOST * total:
                break
            k += 1
        return k

    n_test = last(counts, needed, left=2)
    return last(counts[: len(counts) - n_test], needed / 2, left=1), n_test


def split(mapped: MappedLog, source: str, look: bool = False, n_test: int | None = None) -> Split:
    """Splits a log into the last n_test days to test on, as many before to tune on, and the rest.

    If n_test is None, `days_to_test` chooses both. If only a look at some of the users was read,
    and there are too few days, the split is by rows: eight tenths, one and one. Otherwise, too few
    days raise DataError.
    """
    n_days, n = len(mapped.days), mapped.n
    n_tune = n_test
    if n_test is None:
        n_tune, n_test = days_to_test(mapped.day_counts, mapped.rates)
    if (first := n_days - n_tune - n_test) >= 1:
        parts = (0, first - 1), (first, first + n_tune - 1), (n_days - n_test, n_days - 1)
        return Split(parts)
    if look and n >= 1_000 and (np.diff(mapped.day) >= 0).all():
        a, b = n * 8 // 10, n * 9 // 10
        return Split(((0, a - 1), (a, b - 1), (b, n - 1)), by_rows=True)
    ends = " and ".join(mapped.days) if n_days < 3 else f"{mapped.days[0]} to {mapped.days[-1]}"
    there = f"{'a single day' if n_days == 1 else f'{n_days} days'}, {ends}"
    remedy = f"at least {n_tune + n_test + 1} are needed: to train, to tune and to test on"
    raise DataError(f"{source}: column {mapped.columns.day or 'day'!r} has {there}; {remedy}.")


def far_days(mapped: MappedLog) -> list[str]:
    """Describes the days that lie a year or more outside those of nearly all impressions."""
    gaps = np.flatnonzero(np.diff(mapped.starts) >= 365 * 24)
    share = np.cumsum(mapped.day_counts)[gaps] / mapped.n
    first = max(gaps[share <= FEW] + 1, default=0)
    last = min(gaps[share >= 1 - FEW] + 1, default=len(mapped.days))
    ends = (slice(0, first), "before"), (slice(last, len(mapped.days)), "after")
    return [
        f"{mapped.day_counts[days].sum():,} impressions are of {mapped.days[days][0]}, a year or "
        f"more {where} the rest: is their time missing? Leave them out."
        for days, where in ends
        if mapped.days[days]
    ]


def odd_ids(mapped: MappedLog) -> list[str]:
    """Describes ids that look like one, and a number of the day that starts over."""
    found = [
        f"{n:,} ids of {name!r} differ from another by upper case, blanks or the composition of "
        "letters alone, and count as ids of their own: are they the same?"
        for name, n in mapped.alike.items()
        if n
    ]
    steps = np.diff(mapped.day)
    back = -steps[steps < 0]
    numbered = all(name.isdecimal() for name in mapped.days)
    whole = 0.7 * (len(mapped.days) - 1)
    if numbered and 0 < len(back) < FEW * mapped.n and (back >= whole).all():
        times = "once" if len(back) == 1 else f"{len(back)} times"
        found.append(
            f"the days of {mapped.columns.day!r}, {mapped.days[0]} to {mapped.days[-1]}, start"
            f" over {times} from row to row: a day of the month mixes months, so that the test day"
            " is not the last. Give a column with the whole date."
        )
    return found


def repeated(log: Log) -> list[str]:
    """Describes rows that repeat an earlier one, if there are far more than chance gives."""
    log = log[max(0, len(log) - MAX_TEST) :]
    columns = [*log.ids.values(), log.dense, log.labels, log.day]
    frames = [pd.DataFrame(column.numpy()) for column in columns]
    rows = pd.concat(frames, axis=1)
    rows.columns = range(rows.shape[1])
    n = int(rows.duplicated().sum())
    # Two rows agree in a column by the chance that two draws do, as if columns were independent.
    alike = np.prod([(rows[k].value_counts(normalize=True) ** 2).sum() for k in rows])
    if n <= len(log) * (TWICE + 3 * len(log) * alike / 2):
        return []
    what = f"{n:,} of {len(log):,} training rows repeat an earlier one in all named columns"
    return [f"{what}: was the log joined or written twice?"]


def check_labels(log: Log, part: str, when: str, source: str) -> None:
    """Raises DataError if a label has no ones or no zeros."""
    n = len(log)
    for name, positives in zip(log.objectives, log.labels.sum(0, dtype=float).tolist()):
        if not 0 < positives < n:
            what = f"no {int(positives == 0)} in any of the {n:,} rows of {when} ({part})"
            raise DataError(
                f"{source}: column {name!r} has {what}; leave out this label or that day."
            )


Scale = tuple[np.ndarray, np.ndarray, np.ndarray]  # by dense feature: take logs, mean, spread


def prepared(log: Log, scale: Scale | None) -> tuple[Log, Scale]:
    """Scales the dense features by `scale`, or by their own mean and spread if it is None.

    Features with values beyond 50 are first replaced by sign(x) log(1 + |x|).
    """
    x = log.dense.numpy().astype(np.float64)
    wide = np.abs(x).max(axis=0, initial=0) > 50 if scale is None else scale[0]
    x = np.where(wide, np.sign(x) * np.log1p(np.abs(x)), x)
    if scale is None:
        spread = x.std(axis=0)
        scale = wide, x.mean(axis=0), np.where(spread > 0, spread, 1)
    x = np.clip((x - scale[1]) / scale[2], -10, 10)
    return replace(log, dense=torch.from_numpy(x.astype(np.float32))), scale

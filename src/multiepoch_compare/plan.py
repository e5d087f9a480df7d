"""The plan of a comparison: the split by day, the methods, and the trials of each."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from multiepoch.data.log import DataError, Log
from multiepoch.methods import METHODS, Hyperparameter
from multiepoch_compare.readers import MappedLog

DENSE_LR = 1e-3
STEP = 10**0.5
MAX_TRAIN, MAX_TEST = 10_000_000, 1_000_000  # impressions; the latest are kept
MAX_CONTROL_ROWS = 1_000_000  # of all tables: the control takes 0.6 GB in each process then
PARTS = ("train", "validation", "test")
CONTROL = "two-fold tables"
FEW = 0.01  # the share of impressions that may lie far outside
LEAST_STEPS, LARGEST_BATCH = 200, 2048
# Of the methods with a learning rate for the tables: a key of METHODS, and the second value of its
# hyperparameter that is tried.
TABLE_RATE_METHODS = {
    "sparse optimizer": ("plain", None),
    "FAL": ("fal", "square root"),
    "MEDA": ("meda", None),
    "AdamAR": ("adamar", 1e-3),
    "tail rewind": ("tail_rewind", 20),
}


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

    def __str__(self) -> str:
        return f"{self.label}, {self.in_words()}, seed {self.seed}"

    def in_words(self) -> str:
        """Describes the learning rates and the hyperparameter."""
        words = f"learning rate {self.dense_lr:.2g}"
        if self.label != "plain":
            words += f", {self.embedding_lr:.2g} for the tables"
        if self.hyperparameter is not None:
            words += f", {METHODS[self.method].hyperparameter} {self.hyperparameter}"
        return words


def trials(budget: int = 4) -> dict[str, list[Trial]]:
    """Returns the same number of trials for each method, by its label, the most promising first.

    Each gets three learning rates, and a second value of its hyperparameter or a fourth rate.
    """
    shared = [DENSE_LR, DENSE_LR * STEP, DENSE_LR / STEP, DENSE_LR * STEP**2]
    found = {"plain": [Trial("plain", "plain", lr, lr) for lr in shared]}
    tables = [DENSE_LR * STEP**2, DENSE_LR * STEP, DENSE_LR * STEP**3]
    for label, (method, second) in TABLE_RATE_METHODS.items():
        default = METHODS[method].grid[0]
        several = [Trial(label, method, DENSE_LR, lr, default) for lr in tables]
        other = {"dense_lr": DENSE_LR * STEP} if second is None else {"hyperparameter": second}
        found[label] = [*several, replace(several[0], **other)]
    return {label: several[:budget] for label, several in found.items()}


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


def split(mapped: MappedLog, source: str, look: bool, n_test: int = 1, cut: bool = False) -> Split:
    """Splits a log into the last n_test days to test on, as many before to tune on, and the rest.

    If only a look at the first rows was read, and they have too few days, the split is by rows:
    eight tenths, one and one. Otherwise, too few days raise DataError. If the look ended before
    the file did (cut), it ended within a day, which is left out if enough days remain.
    """
    n_days, n = len(mapped.days), mapped.n
    in_order = look and (np.diff(mapped.day) >= 0).all()
    if cut and in_order and n_days > 2 * n_test + 1:
        n_days -= 1
    if (first := n_days - 2 * n_test) >= 1:
        parts = (0, first - 1), (first, first + n_test - 1), (n_days - n_test, n_days - 1)
        return Split(parts)
    if in_order and n >= 1_000:
        a, b = n * 8 // 10, n * 9 // 10
        return Split(((0, a - 1), (a, b - 1), (b, n - 1)), by_rows=True)
    ends = " and ".join(mapped.days) if n_days < 3 else f"{mapped.days[0]} to {mapped.days[-1]}"
    there = f"{'a single day' if n_days == 1 else f'{n_days} days'}, {ends}"
    remedy = f"at least {2 * n_test + 1} are needed: to train, to tune and to test on"
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

    Weights are divided by their mean.

    Features with values beyond 50 are first replaced by sign(x) log(1 + |x|).
    """
    x = log.dense.numpy().astype(np.float64)
    wide = np.abs(x).max(axis=0, initial=0) > 50 if scale is None else scale[0]
    x = np.where(wide, np.sign(x) * np.log1p(np.abs(x)), x)
    if scale is None:
        spread = x.std(axis=0)
        scale = wide, x.mean(axis=0), np.where(spread > 0, spread, 1)
    x = np.clip((x - scale[1]) / scale[2], -10, 10)
    weight = None if log.weight is None else log.weight / log.weight.double().mean().float()
    return replace(log, dense=torch.from_numpy(x.astype(np.float32)), weight=weight), scale

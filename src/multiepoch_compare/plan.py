"""What is compared on a log: the split by day, the methods, and the trials each of them gets."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import numpy as np
import torch

from multiepoch.data.log import DataError, Log
from multiepoch.methods import METHODS, Hyperparameter
from multiepoch.runner import run_key
from multiepoch_compare.readers.tabular import MappedLog

DENSE_LR = 1e-3
STEP = 10**0.5
MAX_TRAIN, MAX_TEST = 10_000_000, 1_000_000  # impressions; the latest are kept


@dataclass(frozen=True)
class Trial:
    """One model trained once. label: what figures call the method."""

    label: str
    method: str  # a key of METHODS
    dense_lr: float
    embedding_lr: float
    hyperparameter: Hyperparameter = None
    seed: int = 0

    def key(self, settings: dict) -> str:
        """Names the file that keeps the result: of the trial, what it is run on, and the code."""
        return run_key([asdict(self), settings], "multiepoch", "multiepoch_compare")


def trials(budget: int = 4) -> dict[str, list[Trial]]:
    """The same number of trials for each method, by its label; the most promising come first.

    Three rates, and either a second value of the method's hyperparameter or a fourth rate.
    """
    shared = [DENSE_LR, DENSE_LR * STEP, DENSE_LR / STEP, DENSE_LR * STEP**2]
    found = {"plain": [Trial("plain", "plain", lr, lr) for lr in shared]}
    tables = [DENSE_LR * STEP**2, DENSE_LR * STEP, DENSE_LR * STEP**3]
    for label, method, second in (
        ("sparse optimizer", "plain", None),
        ("FAL", "fal", "square root"),
        ("MEDA", "meda", None),
        ("AdamAR", "adamar", 1e-3),
        ("tail rewind", "tail_rewind", 20),
    ):
        hyperparameter = METHODS[method].grid[0]
        found[label] = [Trial(label, method, DENSE_LR, lr, hyperparameter) for lr in tables]
        fourth = replace(found[label][0], hyperparameter=second) if second is not None else replace(
            found[label][0], dense_lr=DENSE_LR * STEP)  # fmt: skip
        found[label].append(fourth)
    return {label: several[:budget] for label, several in found.items()}


PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Split:
    """The first and last day of each of PARTS, both included; or of rows, where by_rows."""

    ends: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
    by_rows: bool = False

    def read(self, mapped: MappedLog, part: str) -> Log:
        rows = self._rows(mapped, part)
        if self.by_rows:
            return mapped.read(rows)
        most = MAX_TRAIN if part == "train" else MAX_TEST
        if isinstance(rows, slice):
            day = mapped.day[rows]
            if (day[1:] >= day[:-1]).all():
                return mapped.read(slice(max(rows.start, rows.stop - most), rows.stop))
            rows = np.arange(rows.start, rows.stop)
        latest = rows[np.argsort(mapped.day[rows], kind="stable")][-most:]
        return mapped.read(np.sort(latest))

    def n_rows(self, mapped: MappedLog, part: str) -> int:
        """Impressions of a part, before what `read` leaves out."""
        rows = self._rows(mapped, part)
        return rows.stop - rows.start if isinstance(rows, slice) else len(rows)

    def _rows(self, mapped: MappedLog, part: str) -> slice | np.ndarray:
        first, last = self.ends[PARTS.index(part)]
        return slice(first, last + 1) if self.by_rows else mapped.rows_of(first, last)

    def in_words(self, mapped: MappedLog) -> dict[str, str]:
        if self.by_rows:
            return {part: f"rows {a + 1:,} to {b + 1:,}" for part, (a, b) in zip(PARTS, self.ends)}
        return {
            part: mapped.days[a] if a == b else f"{mapped.days[a]} to {mapped.days[b]}"
            for part, (a, b) in zip(PARTS, self.ends)
        }


def split(mapped: MappedLog, source: str, look: bool) -> Split:
    """All days but two to train on, the next to last to tune on, the last to test on.

    look: only the first rows were read; where they hold too few days, eight tenths of the rows,
        then one and one take the place of the days.
    """
    n_days, n = len(mapped.days), mapped.n
    if n_days >= 3:
        return Split(((0, n_days - 3), (n_days - 2, n_days - 2), (n_days - 1, n_days - 1)))
    if look and n >= 1_000:
        a, b = n * 8 // 10, n * 9 // 10
        return Split(((0, a - 1), (a, b - 1), (b, n - 1)), by_rows=True)
    there = "a single day" if n_days == 1 else "2 days"
    raise DataError(
        f"{source}: column {mapped.columns.day or 'day'!r} has {there}, "
        f"{' and '.join(mapped.days)}; at least 3 are needed: to train, to tune, to test on."
    )


def check_labels(log: Log, part: str, when: str, source: str) -> None:
    """Each label needs ones and zeros in each part."""
    for name, positives in zip(log.objectives, log.labels.sum(0, dtype=float).tolist()):
        n = len(log)
        if 0 < positives < n:
            continue
        what = "no 1" if positives == 0 else "no 0"
        raise DataError(
            f"{source}: column {name!r} has {what} in any of the {n:,} rows of {when} ({part}); "
            "leave this label out, or that day."
        )


def prepared(log: Log, like: tuple[np.ndarray, np.ndarray, np.ndarray] | None):
    """The log with its dense features scaled as the training window's are, and that scale.

    Features that go beyond 50 in size are taken as sign(x) log(1 + |x|) first.
    """
    x = log.dense.numpy().astype(np.float64)
    if like is None:
        wide = np.abs(x).max(axis=0, initial=0) > 50
        x = np.where(wide, np.sign(x) * np.log1p(np.abs(x)), x)
        spread = x.std(axis=0)
        like = wide, x.mean(axis=0), np.where(spread > 0, spread, 1)
    else:
        x = np.where(like[0], np.sign(x) * np.log1p(np.abs(x)), x)
    x = np.clip((x - like[1]) / like[2], -10, 10)
    return replace(log, dense=torch.from_numpy(x.astype(np.float32))), like

"""The plan of a comparison: the split by day, the lines, and the trials of each."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch

from multiepoch_compare.readers import WholeLog
from multiepoch_lab.data.log import DataError, Log
from multiepoch_lab.methods import METHODS, Hyperparameter

DENSE_LR = 1e-3
STEP = 10**0.5
PARTS = ("train", "validation", "test")
LEAST_STEPS, LARGEST_BATCH = 200, 2048
MOST, NEARLY_EMPTY = 0.25, 0.05  # of all impressions: the share of a part, and of a day in it


class Candidate(NamedTuple):
    """How a line with a learning rate for the tables is built and tuned.

    method: A key of METHODS. second: The second value of its hyperparameter that is tried. rule:
    How tables are updated. model: "full", DROPPED or ADDITIVE. serve: As of a trial.
    """

    method: str = "plain"
    second: Hyperparameter = None
    rule: str = "rowwise_adagrad"
    model: str = "full"
    serve: str = "end"


PLAIN, ADAGRAD, TAIL, MEDA = "plain", "row-wise Adagrad", "tail rewind", "MEDA"
DROPPED, ADDITIVE = "sparsest dropped", "additive"
ENDS = "mean of ends"  # of a reset: what is served is the mean over ends from epoch 2 on
PAIR = "two models averaged"
SPARSE, FAL = "sparse optimizer", "FAL"
REPEATED = "plain repeated"  # several epochs of plain training, tuned for several
LINES = {
    ADAGRAD: Candidate(),
    PAIR: Candidate(serve="pair"),
    MEDA: Candidate("meda"),
    TAIL: Candidate("tail_rewind", 20),
    ENDS: Candidate(serve="mean"),
    DROPPED: Candidate(model=DROPPED),
    ADDITIVE: Candidate(rule="adam", model=ADDITIVE),
    SPARSE: Candidate(rule="adam"),
    FAL: Candidate("fal", "square root"),
}
ON_REQUEST = (SPARSE, FAL)  # only if --methods names it
RESETS = (MEDA, TAIL)  # in one epoch, these are row-wise Adagrad
# Trained for one epoch, and searched by themselves or around the best one of row-wise Adagrad.
ONE_EPOCH = (PAIR, DROPPED, ADDITIVE)
AROUND = (PAIR, DROPPED, ENDS, *RESETS)
ONCE = (PLAIN, ADAGRAD, SPARSE, *ONE_EPOCH)  # judged after one epoch
# By what they hold in memory and serve, the least first: one column less; a number a row; that and
# counts; what a reset needs to know; two numbers for each float; a second copy; a second model.
BY_COST = (DROPPED, ADAGRAD, FAL, TAIL, MEDA, SPARSE, ENDS, PAIR)


@dataclass(frozen=True)
class Trial:
    """One model trained once.

    Attributes:
        label: The line in tables and figures.
        method: A key of METHODS.
        epochs: To train for.
        serve: What is measured: "end", the model as it is; "mean", the mean of the ends of epochs
            from the second on; "pair", the mean of the predictions of two models after one epoch.
    """

    label: str
    method: str
    dense_lr: float
    embedding_lr: float
    hyperparameter: Hyperparameter = None
    seed: int = 0
    rule: str = "adam"
    model: str = "full"
    eps: float = 1e-8
    epochs: int = 1
    serve: str = "end"

    def __str__(self) -> str:
        return f"{self.label}, {self.in_words()}, seed {self.seed}"

    def in_words(self) -> str:
        """Describes the learning rates and the hyperparameter."""
        words = f"learning rate {self.dense_lr:.2g}"
        if self.dense_lr != self.embedding_lr:
            words += f", {self.embedding_lr:.2g} for the tables"
        if self.eps != Trial.eps:
            words += f", epsilon {self.eps:.1g}"
        if self.hyperparameter is not None:
            words += f", {METHODS[self.method].hyperparameter} {self.hyperparameter}"
        return words

    @property
    def training(self) -> Trial:
        """What is trained: trials that differ in what they serve, or are called, share it."""
        return replace(self, label="", epochs=0, serve="end")

    @property
    def first_epoch(self) -> Trial:
        """What is trained in the first epoch, in which nothing is reset."""
        resets = [LINES[label].method for label in RESETS]
        start = {"method": "plain", "hyperparameter": None} if self.method in resets else {}
        return replace(self.training, **start)


def lines(methods: Collection[str] = ()) -> list[str]:
    """Returns the lines beside plain: those named, or all but ON_REQUEST.

    Row-wise Adagrad comes with what is searched around it, and a reset with the mean of its ends.
    """
    found = {k for k in LINES if (k in methods if methods else k not in ON_REQUEST)}
    if not found.isdisjoint(AROUND):
        found.add(ADAGRAD)
    if ENDS in found and found.isdisjoint(RESETS):
        found.update(RESETS)
    return [label for label in LINES if label in found]


def trials(epochs: int, methods: Collection[str] = (), budget: int = 6) -> dict[str, list[Trial]]:
    """Returns the trials of plain and of each line that is searched by itself, by its label.

    These are rates of the tables, of row-wise Adagrad in half decades, and a second value of the
    hyperparameter or of the dense rate; the most promising first.
    """
    shared = [DENSE_LR * STEP**k for k in (0, 1, -1, 2, 3)]
    found = {PLAIN: [Trial(PLAIN, "plain", lr, lr, epochs=epochs) for lr in shared]}
    for label in lines(methods):
        if label in AROUND:
            continue
        method, second, rule, model, _ = LINES[label]
        default = METHODS[method].grid[0]
        its = {"rule": rule, "model": model, "epochs": 1 if label in ONE_EPOCH else epochs}
        first = Trial(label, method, DENSE_LR, 0.0, default, **its)
        # Between logs, the best rate of row-wise Adagrad differs by a factor of several hundred.
        steps = (2, 1, 3) if rule == "adam" else (5, 3, 4, 2, 1)
        several = [replace(first, embedding_lr=DENSE_LR * STEP**k) for k in steps]
        other = {"dense_lr": DENSE_LR * STEP} if second is None else {"hyperparameter": second}
        found[label] = [*several, replace(several[0], **other)]
    return {label: several[:budget] for label, several in found.items()}


def around(
    best: Trial, eps: float, epochs: int, methods: Collection[str] = (), budget: int = 6
) -> dict[str, list[Trial]]:
    """Returns further trials of row-wise Adagrad, and those of AROUND, by label.

    best: The best rates of one epoch of row-wise Adagrad. eps: Makes a row's first step small.
    """
    small = replace(best, eps=eps, epochs=epochs)
    slower = replace(best, embedding_lr=best.embedding_lr / STEP)
    found = {ADAGRAD: [small, replace(small, embedding_lr=best.embedding_lr * STEP)]}
    for label in lines(methods):
        if label not in AROUND:
            continue
        method, second, _, model, serve = LINES[label]
        its = {"label": label, "model": model, "serve": serve}
        its["epochs"] = 1 if label in ONE_EPOCH else epochs
        kinds = [(method, METHODS[method].grid[0] if second is None else second)]
        if label == ENDS:  # of each reset that is tried
            kinds = [LINES[k][:2] for k in RESETS if k in lines(methods)]
        found[label] = [
            replace(one, method=kind, hyperparameter=value, **its)
            for kind, value in kinds
            for one in (best, slower, small)[: max(1, budget // 2)]
        ]
    return found


def at_the_edge(chosen: Trial, tried: Sequence[Trial]) -> bool:
    """Tells if no higher, or no lower, rate of the tables was tried than the one chosen.

    What is searched around the best rate of row-wise Adagrad has no edge of its own.
    """
    if chosen.label in AROUND:
        return False
    rates = {round(math.log10(one.embedding_lr), 6) for one in tried}
    return len(rates) > 1 and round(math.log10(chosen.embedding_lr), 6) in (min(rates), max(rates))


# The split ----------------------------------------------------------------------------------------


def batch_size(n: int) -> int:
    """Returns the largest power of two that leaves LEAST_STEPS steps an epoch over n impressions.

    In fewer steps, a model hardly learns anything from an epoch, so that nothing can collapse. As
    the number of steps is then about the same for every small log, so are the rates to search.
    """
    most = max(1, n // LEAST_STEPS)
    return min(LARGEST_BATCH, 1 << (most.bit_length() - 1))


@dataclass(frozen=True)
class Split:
    """The first and last day of each of PARTS, both included."""

    ends: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]

    def rows(self, log: WholeLog, part: str) -> np.ndarray:
        first, last = self.ends[PARTS.index(part)]
        return np.flatnonzero((log.day >= first) & (log.day <= last))

    def in_words(self, log: WholeLog) -> dict[str, str]:
        """Describes each part by its days."""
        ends = ((log.days[a], log.days[b]) for a, b in self.ends)
        return {part: a if a == b else f"{a} to {b}" for part, (a, b) in zip(PARTS, ends)}


def days_to_test(counts: np.ndarray, needed: int) -> tuple[int, int]:
    """Returns how many days to tune on, and how many after them, the last, to test on.

    These are the fewest with enough impressions, for tuning half as many; if that takes more than
    MOST of the log, then as many as it holds. A nearly empty day always gets company.

    counts: The impressions of each day, (n_days,). needed: As from `outlook.rows_needed`.
    """
    total = counts.sum()

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


def split(log: WholeLog, source: str, needed: int, n_test: int | None = None) -> Split:
    """Splits a log into the last n_test days to test on, as many before to tune on, and the rest.

    If n_test is None, `days_to_test` chooses both. Raises DataError if a part has no day, or a
    label has no ones or no zeros in one.
    """
    n_days, n_tune = len(log.days), n_test
    if n_test is None:
        n_tune, n_test = days_to_test(log.day_counts, needed)
    first = n_days - n_tune - n_test
    if first < 1:
        ends = " and ".join(log.days) if n_days < 3 else f"{log.days[0]} to {log.days[-1]}"
        there = f"{'a single day' if n_days == 1 else f'{n_days} days'}, {ends}"
        remedy = f"at least {n_tune + n_test + 1} are needed: to train, to tune and to test on"
        raise DataError(f"{source}: column {log.columns.day!r} has {there}; {remedy}.")
    parts = (0, first - 1), (first, first + n_tune - 1), (n_days - n_test, n_days - 1)
    found = Split(parts)
    for part, when in found.in_words(log).items():
        rows = found.rows(log, part)
        for name, column in log.labels.items():
            if not 0 < (positives := int(column[rows].sum())) < len(rows):
                what = f"no {int(positives == 0)} in any of the {len(rows):,} rows of {when}"
                remedy = "leave out this label or those days"
                raise DataError(f"{source}: column {name!r} has {what} ({part}); {remedy}.")
    return found


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

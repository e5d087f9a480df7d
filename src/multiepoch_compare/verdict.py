"""Judges the results: which methods get worse with more epochs, and which one to train with.

Two things make a difference on one test day uncertain: the seed of the training, and the
impressions that the day happens to hold. The first is measured over seeds, the second over blocks
of the day with different users. The squared half widths of the two intervals add up.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from multiepoch.stats import interval
from multiepoch.train.metrics import entropy
from multiepoch_compare.plan import Trial

RETUNED = "plain (retuned)"
COLLAPSE = 0.5  # %: a rise of the logloss by at least this, clearly above 0, is a collapse


@dataclass(frozen=True)
class Estimate:
    """A mean in % with its 95 % interval; for one seed, the bounds are infinite (in JSON, None)."""

    mean: float
    low: float | None
    high: float | None

    def __str__(self) -> str:
        if self.low is None or not math.isfinite(self.low):
            return f"{self.mean:+.2f} % (one seed, no interval)"
        return f"{self.mean:+.2f} % [{self.low:+.2f}, {self.high:+.2f}]"


def estimate(by_seed: np.ndarray, by_block: np.ndarray) -> Estimate:
    """Combines relative differences in % by seed, (n_seeds,), and by block, (n_blocks,)."""
    mean, low, _ = interval(by_seed)
    _, block_low, _ = interval(by_block)
    half = math.hypot(mean - low, float(np.mean(by_block)) - block_low)
    return Estimate(mean, mean - half, mean + half)


def score(result: dict, rates: dict[str, float]) -> np.ndarray:
    """Returns the mean normalized entropy on the validation day after each epoch, (epochs,).

    `rates` holds the share of positives of each label on that day.
    """
    if result["status"] != "ok":
        return np.full(1, np.inf)
    found: dict[int, list[float]] = {}
    for part, epoch, objective, metric, value in result["points"]:
        if part == "validation" and metric == "logloss" and epoch == int(epoch):
            found.setdefault(int(epoch), []).append(value / entropy(rates[objective]))
    return np.array([np.mean(found[epoch]) for epoch in sorted(found)])


@dataclass(frozen=True)
class Choice:
    """The trial and the number of epochs that tuning chose for a method."""

    trial: Trial
    epochs: int
    score: float


def choose(results: list[dict], rates: dict, for_one_epoch: bool = False) -> Choice | None:
    """Chooses the trial and epoch with the lowest validation score; None if every trial diverged.

    With `for_one_epoch`, the trial is the best after its first epoch, taken at its best epoch.
    """
    scores = [score(result, rates) for result in results]
    best = int(np.argmin([s[0] if for_one_epoch else s.min() for s in scores]))
    if not np.isfinite(scores[best].min()):
        return None
    trial = Trial(**results[best]["trial"])
    return Choice(trial, int(np.argmin(scores[best])) + 1, float(scores[best].min()))


class Losses:
    """The test losses of one method over its seeds."""

    def __init__(self, results: list[dict], sizes: np.ndarray) -> None:
        # Summed over each block: (n_seeds, epochs, n_objectives, n_blocks).
        self.sums = np.array([result["blocks"] for result in results])
        self.sizes = sizes  # impressions of each block, (n_blocks,)

    def at(self, epochs: int, objectives: slice = slice(None)) -> tuple[np.ndarray, np.ndarray]:
        """Returns the mean logloss by seed, (n_seeds, n_objectives), and the sum over each block,
        averaged over seeds, (n_objectives, n_blocks)."""
        sums = self.sums[:, epochs - 1, objectives]
        return sums.sum(axis=2) / self.sizes.sum(), sums.mean(axis=0)


def difference(
    ours: Losses, epochs: int, theirs: Losses, their_epochs: int, objective: int | None = None
) -> Estimate:
    """Returns by how many % our test logloss is above theirs, paired by seed and by block.

    The result is for one objective, or the mean over all of them.
    """
    pick = slice(None) if objective is None else slice(objective, objective + 1)
    mine, my_blocks = ours.at(epochs, pick)
    other, their_blocks = theirs.at(their_epochs, pick)
    by_seed = 100 * (mine / other - 1).mean(axis=1)
    full = ours.sizes > 0
    mean_loss = their_blocks.sum(axis=1, keepdims=True) / ours.sizes.sum()
    gaps = (my_blocks - their_blocks)[:, full] / ours.sizes[full] / mean_loss
    return estimate(by_seed, 100 * gaps.mean(axis=0))


@dataclass(frozen=True)
class Verdict:
    """Compares the test logloss of one method between epochs, and with plain training."""

    label: str
    choice: Choice
    against_plain: Estimate  # at its best number of epochs, relative to the best plain training
    later: Estimate | None  # after the last epoch, relative to the best; None if that is the last
    second: Estimate  # after the second epoch, relative to the first

    @property
    def collapses(self) -> bool | None:
        """Whether more epochs raise the logloss by COLLAPSE; None if the data do not show it."""
        if self.later is None:
            return False
        if self.later.low > 0:
            return self.later.mean >= COLLAPSE
        return None if self.later.high > COLLAPSE else False

    def in_words(self, epochs: int) -> str:
        if self.later is None:
            return f"no collapse in {epochs} epochs"
        words = "no clear change"
        if self.later.low > 0:
            words = "collapses" if self.collapses else "gets slightly worse"
        return f"{words} after epoch {self.choice.epochs}: {self.later} by epoch {epochs}"


def baseline(labels: Iterable[str]) -> str:
    """Returns the label of the best plain training: the retuned one if there is one."""
    return RETUNED if RETUNED in labels else "plain"


def verdicts(choices: dict[str, Choice], losses: dict[str, Losses], epochs: int) -> list[Verdict]:
    label, found = baseline(choices), []
    plain = losses[label], choices[label].epochs
    for label, choice in choices.items():
        own, best = losses[label], choice.epochs
        later = difference(own, epochs, own, best) if best < epochs else None
        second = difference(own, 2, own, 1)
        found.append(Verdict(label, choice, difference(own, best, *plain), later, second))
    return found


def recommend(found: list[Verdict], losses: dict[str, Losses]) -> tuple[str, list[str]]:
    """Returns one sentence of advice, and the methods that tie with the one it names."""
    by_label = {v.label: v for v in found}
    plain = by_label[baseline(by_label)].choice
    against = f"plain training at one shared learning rate ({plain.trial.dense_lr:.2g}) "
    against += f"for {_epochs(plain.epochs)}"
    others = [v for v in found if v.label not in ("plain", RETUNED)]
    better = [v for v in others if v.against_plain.high < 0]
    best = min(better or others, key=lambda v: v.against_plain.mean)
    if not better:
        return (
            f"These data show no method to be better than {against}: the test logloss of the best "
            f"of them, {best.label}, differs by {best.against_plain}."
        ), []
    ties = []
    for v in better:
        gap = difference(losses[v.label], v.choice.epochs, losses[best.label], best.choice.epochs)
        if v is not best and gap.low <= 0:
            ties.append(v.label)
    gain = best.against_plain
    return (
        f"Train for {_epochs(best.choice.epochs)} with {best.label}: its test logloss is "
        f"{-gain.mean:.2f} % [{-gain.high:.2f}, {-gain.low:.2f}] lower than that of {against}."
    ), ties


def _epochs(n: int) -> str:
    return f"{n} epoch" if n == 1 else f"{n} epochs"

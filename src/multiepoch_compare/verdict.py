"""From results to a verdict: who gets worse with more epochs, what to train with, how sure that is.

Two things make a difference on one test day uncertain: the seed of the training, and which
impressions the day happens to hold. The first is measured over seeds, the second over blocks of
the day with other users each; the half widths of the two intervals add as squares.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from multiepoch.stats import interval
from multiepoch.train.metrics import entropy
from multiepoch_compare.plan import Trial

RETUNED = "plain (retuned)"
COLLAPSE = 0.5  # %: a rise of the logloss by so much and clearly above 0 is called a collapse


@dataclass(frozen=True)
class Estimate:
    """In %, with its 95 % interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        if not math.isfinite(self.low):
            return f"{self.mean:+.2f} % (one seed, no interval)"
        return f"{self.mean:+.2f} % [{self.low:+.2f}, {self.high:+.2f}]"


def estimate(by_seed: np.ndarray, by_block: np.ndarray) -> Estimate:
    """From relative differences in %, (n_seeds,) and (n_blocks,)."""
    mean, low, _ = interval(by_seed)
    _, block_low, _ = interval(by_block)
    half = math.hypot(mean - low, float(np.mean(by_block)) - block_low)
    return Estimate(mean, mean - half, mean + half)


def score(result: dict, rates: dict[str, float]) -> np.ndarray:
    """Mean normalized entropy of the labels on the validation day after each epoch, (epochs,).

    rates: of each label's positives on that day.
    """
    if "failed" in result:
        return np.full(1, np.inf)
    found: dict[int, list[float]] = {}
    for part, epoch, objective, metric, value in result["points"]:
        if part == "validation" and metric == "logloss" and epoch == int(epoch):
            found.setdefault(int(epoch), []).append(value / entropy(rates[objective]))
    return np.array([np.mean(found[epoch]) for epoch in sorted(found)])


@dataclass(frozen=True)
class Choice:
    """What tuning chose for a method: the trial, and the number of epochs that was best."""

    trial: Trial
    epochs: int
    score: float


def choose(
    results: list[dict], rates: dict[str, float], for_one_epoch: bool = False
) -> Choice | None:
    """The trial and the epoch of the lowest validation score; None where every trial failed.

    for_one_epoch: the trial is the one that is best after its first epoch, and the epoch its best.
    """
    scores = [score(result, rates) for result in results]
    best = int(np.argmin([s[0] if for_one_epoch else s.min() for s in scores]))
    if not np.isfinite(scores[best].min()):
        return None
    trial = Trial(**results[best]["trial"])
    return Choice(trial, int(np.argmin(scores[best])) + 1, float(scores[best].min()))


class Losses:
    """Test losses of one method over its seeds.

    sums: (n_seeds, epochs, n_objectives, n_blocks), summed over the impressions of each block.
    """

    def __init__(self, results: list[dict], sizes: np.ndarray) -> None:
        self.sums = np.array([result["blocks"] for result in results])
        self.sizes = sizes

    def at(self, epochs: int) -> tuple[np.ndarray, np.ndarray]:
        """Mean logloss by seed and objective, (n_seeds, n_objectives), and by block, summed over
        nothing but the impressions of it, (n_objectives, n_blocks), mean over seeds."""
        sums = self.sums[:, epochs - 1]
        return sums.sum(axis=2) / self.sizes.sum(), sums.mean(axis=0)


def difference(ours: Losses, epochs: int, theirs: Losses, their_epochs: int,
               objective: int | None = None) -> Estimate:  # fmt: skip
    """How much higher our test logloss is than theirs, in %; mean over objectives, or one of them.

    Paired by seed and by block.
    """
    pick = slice(None) if objective is None else slice(objective, objective + 1)
    mine, my_blocks = (x[..., pick] if k == 0 else x[pick] for k, x in enumerate(ours.at(epochs)))
    other, their_blocks = (
        x[..., pick] if k == 0 else x[pick] for k, x in enumerate(theirs.at(their_epochs))
    )
    by_seed = 100 * (mine / other - 1).mean(axis=1)
    full = ours.sizes > 0
    mean_loss = their_blocks.sum(axis=1, keepdims=True) / ours.sizes.sum()
    gaps = (my_blocks - their_blocks)[:, full] / ours.sizes[full] / mean_loss
    return estimate(by_seed, 100 * gaps.mean(axis=0))


@dataclass(frozen=True)
class Verdict:
    """What came of one method.

    against_plain: its logloss at its best number of epochs against that of the best plain.
    later: its logloss after the last epoch against that after its best; None where that is the last.
    second: its logloss after the second epoch against that after the first.
    """

    label: str
    choice: Choice
    against_plain: Estimate
    later: Estimate | None
    second: Estimate

    @property
    def collapses(self) -> bool | None:
        """None where the data cannot tell."""
        if self.later is None:
            return False
        if self.later.low > 0:
            return self.later.mean >= COLLAPSE
        return None if self.later.high > COLLAPSE else False

    def in_words(self, epochs: int) -> str:
        p = self.choice.epochs
        if self.later is None:
            return f"no collapse in {epochs} epochs"
        after = f"after epoch {p}"
        if self.collapses:
            return f"collapses {after}: {self.later} by epoch {epochs}"
        if self.later.low > 0:
            return f"gets slightly worse {after}: {self.later} by epoch {epochs}"
        return f"no clear change {after}: {self.later} by epoch {epochs}"


def baseline(choices: dict[str, Choice]) -> str:
    """The label of the best plain: retuned for several epochs where that is another one."""
    return RETUNED if RETUNED in choices else "plain"


def verdicts(choices: dict[str, Choice], losses: dict[str, Losses], epochs: int) -> list[Verdict]:
    label = baseline(choices)
    plain = losses[label], choices[label].epochs
    found = []
    for label, choice in choices.items():
        own = losses[label]
        later = None
        if choice.epochs < epochs:
            later = difference(own, epochs, own, choice.epochs)
        found.append(Verdict(label, choice, difference(own, choice.epochs, *plain), later,
                             difference(own, 2, own, 1)))  # fmt: skip
    return found


def recommend(found: list[Verdict], losses: dict[str, Losses]) -> tuple[str, list[str]]:
    """One sentence, and the methods that cannot be told apart from the one it names."""
    plain = next(v for v in found if v.label == baseline({v.label: v.choice for v in found}))
    others = [v for v in found if v.label not in ("plain", RETUNED)]
    better = [v for v in others if v.against_plain.high < 0]
    epochs = _epochs(plain.choice.epochs)
    if not better:
        first = min(others, key=lambda v: v.against_plain.mean)
        sentence = (
            f"No difference that these data can show between plain training at one shared rate "
            f"({plain.choice.trial.dense_lr:.2g}) for {epochs} and the others: the best of them, "
            f"{first.label}, has a test logloss of {first.against_plain} against it."
        )
        return sentence, []
    best = min(better, key=lambda v: v.against_plain.mean)
    ties = []
    for v in better:
        if v is best:
            continue
        gap = difference(losses[v.label], v.choice.epochs, losses[best.label], best.choice.epochs)
        if gap.low <= 0:
            ties.append(v.label)
    return (f"Train {_epochs(best.choice.epochs)} with {best.label}: its test logloss is "
            f"{-best.against_plain.mean:.2f} % [{-best.against_plain.high:.2f}, "
            f"{-best.against_plain.low:.2f}] below that of plain training at one shared rate "
            f"({plain.choice.trial.dense_lr:.2g}) for {epochs}."), ties  # fmt: skip


def _epochs(n: int) -> str:
    return f"{n} epoch" if n == 1 else f"{n} epochs"

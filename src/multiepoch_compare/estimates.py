"""Differences in test loss with their intervals, over seeds and over impressions.

Two things make a difference on one test day uncertain: the seed of the training, and the
impressions that the day happens to hold. The first is measured over seeds, the second over blocks
of the day with different users. The squared half widths of the two intervals add up.

Differences are means of log ratios, so they add up, and their half widths obey the triangle
inequality. Hence if A is clearly better than B and B than C, A is clearly better than C: the best
of those that clearly beat plain training is not clearly beaten by any other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from multiepoch_compare.plan import COLLAPSE
from multiepoch_lab.stats import interval

# The verdicts by the kind of a difference in logloss: on more epochs, and on a method against
# another. `Estimate.kind` tells the kind by the interval.
WORDS = {
    "rise": ("collapses", "worse"),
    "slight rise": ("gets slightly worse", "slightly worse"),
    "same": ("no change", "no difference"),
    "no rise": ("no collapse", "not worse"),
    "open": ("open", "open"),
    "slight fall": ("improves slightly", "slightly better"),
    "fall": ("improves", "better"),
}


@dataclass(frozen=True)
class Estimate:
    """A difference in % with its 95 % interval; for one seed, the bounds are None."""

    mean: float
    low: float | None
    high: float | None

    def __str__(self) -> str:
        if self.low is None:
            return f"{self.mean:+.2f} % (one seed, no interval)"
        return f"{self.mean:+.2f} % [{self.low:+.2f}, {self.high:+.2f}]"

    @property
    def kind(self) -> str:
        """Classifies the difference by its interval, as a key of WORDS."""
        if self.low is None:
            return "open"
        if self.low > 0:
            return "rise" if self.mean >= COLLAPSE else "slight rise"
        if self.high < 0:
            return "fall" if self.mean <= -COLLAPSE else "slight fall"
        if self.high >= COLLAPSE:
            return "open"
        return "same" if self.low > -COLLAPSE else "no rise"

    @property
    def falls(self) -> bool:
        return self.high is not None and self.high < 0

    @property
    def size(self) -> str:
        """Describes a rise or fall without its sign."""
        low, high = sorted((abs(self.low), abs(self.high)))
        return f"{abs(self.mean):.2f} % [{low:.2f}, {high:.2f}]"


def estimate(by_seed: np.ndarray, by_block: np.ndarray) -> Estimate:
    """Combines log ratios by seed, (n_seeds,), and by block, (n_blocks,), to a difference in %."""
    mean, low, _ = interval(by_seed)
    _, block_low, _ = interval(by_block)
    half = math.hypot(mean - low, float(np.mean(by_block)) - block_low)
    if not math.isfinite(half):
        return Estimate(100 * math.expm1(mean), None, None)
    return Estimate(*(100 * math.expm1(min(x, 50)) for x in (mean, mean - half, mean + half)))


class Losses:
    """The losses of one method over its seeds, by block of the test days or, by name, others.

    sizes: The impressions of each block by the same names, (n_blocks,).
    """

    def __init__(
        self, results: list[dict], sizes: dict[str, np.ndarray], of: str = "blocks"
    ) -> None:
        # Seeds may have stopped after different epochs; those that all have are compared.
        self.epochs = min(len(result[of]) for result in results)
        # Summed over each block: (n_seeds, epochs, n_objectives, n_blocks).
        self.sums = np.array([result[of][: self.epochs] for result in results])
        self.sizes = sizes[of]

    def at(self, epochs: int, objectives: slice = slice(None)) -> tuple[np.ndarray, np.ndarray]:
        """Returns the mean logloss by seed, (n_seeds, n_objectives), and the sum over each block,
        averaged over seeds, (n_objectives, n_blocks)."""
        sums = self.sums[:, epochs - 1, objectives]
        means = np.maximum(sums.sum(axis=2) / self.sizes.sum(), 1e-12)  # its logarithm is taken
        return means, sums.mean(axis=0)


def difference(
    ours: Losses, epochs: int, theirs: Losses, their_epochs: int, objective: int | None = None
) -> Estimate:
    """Returns by how many % our test logloss is above theirs, paired by seed and by block.

    The result is for one objective, or the geometric mean over all of them.
    """
    pick = slice(None) if objective is None else slice(objective, objective + 1)
    full = ours.sizes > 0

    def parts(losses: Losses, epochs: int) -> tuple[np.ndarray, np.ndarray]:
        means, blocks = losses.at(epochs, pick)
        relative = blocks[:, full] / losses.sizes[full] / means.mean(axis=0)[:, None]
        return np.log(means).mean(axis=1), relative.mean(axis=0)

    mine, other = parts(ours, epochs), parts(theirs, their_epochs)
    return estimate(mine[0] - other[0], mine[1] - other[1])

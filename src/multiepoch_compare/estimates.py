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

from multiepoch_compare.outlook import COLLAPSE
from multiepoch_lab.stats import interval


@dataclass(frozen=True)
class Estimate:
    """A difference in % with its 95 % interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:+.2f} % [{self.low:+.2f}, {self.high:+.2f}]"

    @property
    def rises(self) -> bool:
        return self.low > 0

    @property
    def falls(self) -> bool:
        return self.high < 0

    @property
    def word(self) -> str:
        """Says what the interval shows."""
        if self.rises or self.falls:
            return "worse" if self.rises else "better"
        return "no difference" if max(-self.low, self.high) < COLLAPSE else "open"

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
    return Estimate(*(100 * math.expm1(min(x, 50)) for x in (mean, mean - half, mean + half)))


class Losses:
    """The losses of one line over its seeds, by block of the test days or, by name, of others.

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

    def at(self, epochs: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the mean logloss by seed, (n_seeds, n_objectives), and the sum over each block,
        averaged over seeds, (n_objectives, n_blocks)."""
        sums = self.sums[:, epochs - 1]
        means = np.maximum(sums.sum(axis=2) / self.sizes.sum(), 1e-12)  # its logarithm is taken
        return means, sums.mean(axis=0)


def difference(ours: Losses, epochs: int, theirs: Losses, their_epochs: int) -> Estimate:
    """Returns by how many % our test logloss is above theirs, paired by seed and by block.

    Of several objectives, it is the geometric mean.
    """
    full = ours.sizes > 0

    def parts(losses: Losses, epochs: int) -> tuple[np.ndarray, np.ndarray]:
        means, blocks = losses.at(epochs)
        relative = blocks[:, full] / losses.sizes[full] / means.mean(axis=0)[:, None]
        return np.log(means).mean(axis=1), relative.mean(axis=0)

    mine, other = parts(ours, epochs), parts(theirs, their_epochs)
    return estimate(mine[0] - other[0], mine[1] - other[1])

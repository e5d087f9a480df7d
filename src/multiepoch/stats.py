"""Mean and confidence interval over seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import stdtrit


def interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float, float]:
    """Returns mean, low and high of the two-sided Student-t interval of the mean.

    Args:
        values: One value per seed. A single value has an infinite interval.
        level: The probability that the interval covers the true mean.

    Raises:
        ValueError: If there is no value, or one is not finite.
    """
    values = np.asarray(values, dtype=float)
    if len(values) == 0 or not np.isfinite(values).all():
        raise ValueError(f"interval: needs at least one value, all finite; got {values.tolist()}.")
    mean = float(values.mean())
    if len(values) < 2:
        return mean, -math.inf, math.inf
    t = float(stdtrit(len(values) - 1, (1 + level) / 2))
    half = t * float(values.std(ddof=1)) / math.sqrt(len(values))
    return mean, mean - half, mean + half

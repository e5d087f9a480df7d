"""Mean and confidence interval over seeds."""

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import stdtrit


def interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float, float]:
    """Returns the mean of the values and its two-sided Student-t interval: mean, low, high.

    Args:
        values: One value per seed. With one value, the interval is the whole line.
        level: The probability that the interval covers the true mean.

    Raises:
        ValueError: If there is no value, or one is not finite.
    """
    x = np.asarray(values, dtype=float)
    if len(x) == 0 or not np.isfinite(x).all():
        raise ValueError(f"interval: needs at least one value, all finite; got {x.tolist()}.")
    mean = float(x.mean())
    if len(x) < 2:
        return mean, -math.inf, math.inf
    t = float(stdtrit(len(x) - 1, (1 + level) / 2))
    half = t * float(x.std(ddof=1)) / math.sqrt(len(x))
    return mean, mean - half, mean + half

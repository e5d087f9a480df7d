"""Mean and confidence interval over seeds, and tests at several points at once."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import stdtr, stdtrit


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


def t_test(values: Sequence[float], mean: float) -> float:
    """Returns the two-sided p-value of Student's t-test that the values' mean is `mean`.

    With one value, nothing can be told: the p-value is 1.
    """
    x = np.asarray(values, dtype=float)
    if len(x) < 2:
        return 1.0
    error = x.std(ddof=1) / math.sqrt(len(x))
    distance = abs(x.mean() - mean)
    if error == 0:
        return 1.0 if distance == 0 else 0.0
    return float(2 * stdtr(len(x) - 1, -distance / error))


def holm(p_values: Sequence[float]) -> list[float]:
    """Returns p-values adjusted for their number (Holm, Scand. J. Statist. 6, 1979).

    Rejecting those below 5 % errs in any of them with a probability of at most 5 %.
    """
    p = np.asarray(p_values, dtype=float)
    order = p.argsort()
    adjusted = np.empty_like(p)
    adjusted[order] = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)).clip(max=1)
    return adjusted.tolist()

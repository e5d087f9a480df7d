"""Mean and confidence interval over seeds, and over searches and seeds."""

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


def two_level(values: np.ndarray, level: float = 0.95) -> tuple[float, float, float]:
    """Returns the mean and its interval over two crossed random factors: mean, low, high.

    The variance of the mean is that of a model with a term for each row and column, and is never
    less than that of either alone; degrees of freedom are Satterthwaite's.

    Args:
        values: (searches, seeds), such as the gain of what each search chose on each seed. Of one
            row, the interval is that over its columns.
        level: The probability that the interval covers the true mean.
    """
    x = np.asarray(values, dtype=float)
    n_rows, n_columns = x.shape
    if min(x.shape) < 2:
        return interval(x.ravel().tolist(), level)
    rows, columns, mean = x.mean(axis=1), x.mean(axis=0), float(x.mean())
    residual = x - rows[:, None] - columns + mean
    df = np.array([n_rows - 1, n_columns - 1, (n_rows - 1) * (n_columns - 1)])
    squares = np.array([n_columns * rows.var() * n_rows, n_rows * columns.var() * n_columns, 0.0])
    squares[2] = (residual**2).sum()
    parts = squares / df / x.size  # of the variance of the mean
    combined = parts[0] + parts[1] - parts[2]
    variance = max(combined, parts[0], parts[1])
    if variance == 0:
        return mean, mean, mean
    used = parts if variance == combined else parts[[int(parts[1] >= parts[0])]]
    df = df if variance == combined else df[[int(parts[1] >= parts[0])]]
    freedom = variance**2 / (used**2 / df).sum()
    half = float(stdtrit(freedom, (1 + level) / 2)) * math.sqrt(variance)
    return mean, mean - half, mean + half

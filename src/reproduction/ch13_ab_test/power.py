"""What an A/B test of a given size sees: power, detectable effect, requests needed.

Two groups of n requests each are compared by their mean payments, in a two-sided test at 5 %. A
payment has the standard deviation `spread` in multiples of its mean; effects are relative to that
mean, too. Requests are taken as independent and the groups as large enough for the normal
distribution; the effect is small, so both groups have the same spread.
"""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr, ndtri

Z = float(ndtri(0.975))


def standard_error(spread: float, n: float) -> float:
    """Returns that of the difference of two groups, in multiples of the mean."""
    return spread * np.sqrt(2 / n)


def power(effect: float, spread: float, n: float) -> float:
    """Returns the probability that the test rejects, whichever the sign."""
    shift = effect / standard_error(spread, n)
    return ndtr(shift - Z) + ndtr(-shift - Z)


def detectable(spread: float, n: float, power: float = 0.8) -> float:
    """Returns the smallest effect that the test detects with that power."""
    return (Z + ndtri(power)) * standard_error(spread, n)


def requests_needed(effect: float, spread: float, power: float = 0.8) -> float:
    """Returns the n at which `effect` is detected with that power."""
    return 2 * ((Z + ndtri(power)) * spread / effect) ** 2

"""One row and a linear head, as formulas and as simulations that agree with them.

A row has n impressions. Their labels, centred, are y = mu + noise: mu is the row's own and has
variance tau2 over rows, the noise has variance sigma2. The row learns a mean of labels, and the
head predicts a * row: `a` is how far it trusts the row. The head sees many rows, so it learns the
regression coefficient of the label on what it reads.

UWSR (Lettich and Gupta, arXiv 2609.34083) explains the second epoch by the same cause.
"""

from collections.abc import Callable, Iterator
from itertools import product

import numpy as np

# What impression k reads of the n labels y of its row.
Read = Callable[[np.ndarray, int], float]
READS: dict[str, Read] = {
    "epoch 1": lambda y, k: y[:k].mean() if k else 0.0,  # an ordered statistic, as CatBoost's
    "epoch 2": lambda y, k: y.mean(),
    "leave one out": lambda y, k: np.delete(y, k).mean(),
    "out of fold": lambda y, k: y[1 - k % 2 :: 2].mean(),
}


def trust(kind: str, n: int, tau2: float, sigma2: float) -> float:
    """Returns where the head's weight on the row goes, by what it reads; n is even."""
    if kind == "epoch 1":  # the k-th impression reads k - 1 others, the first one none
        harmonic = sum(1 / m for m in range(1, n)) / (n - 1)
        return tau2 / (tau2 + sigma2 * harmonic)
    if kind == "epoch 2":  # the own label is in the mean, with weight 1/n
        return 1.0
    others = {"leave one out": n - 1, "out of fold": n // 2}[kind]
    return tau2 / (tau2 + sigma2 / others)


def best_trust(n: int, tau2: float, sigma2: float) -> float:
    """Returns the weight that predicts fresh impressions of the row best."""
    return tau2 / (tau2 + sigma2 / n)


def fresh_loss(a: float, n: int, tau2: float, sigma2: float) -> float:
    """Returns the squared error on fresh impressions, which read the mean of all n labels."""
    return tau2 + sigma2 - 2 * a * tau2 + a**2 * (tau2 + sigma2 / n)


def all_rows(n: int, rates: tuple[float, ...]) -> Iterator[tuple[float, np.ndarray]]:
    """Yields every row there can be: its probability and its n labels, 0 or 1 less the mean rate.

    A row's rate of positives is each of `rates` with the same probability.
    """
    for rate in rates:
        for labels in product((0, 1), repeat=n):
            p = np.prod([rate if y else 1 - rate for y in labels]) / len(rates)
            yield float(p), np.array(labels) - np.mean(rates)


def simulated_trust(read: Read, n: int, rates: tuple[float, ...]) -> float:
    """Fits the head to what the impressions of every row read."""
    products = squares = 0.0
    for p, y in all_rows(n, rates):
        for k in range(n):
            x = read(y, k)
            products, squares = products + p * x * y[k], squares + p * x * x
    return products / squares


def simulated_fresh_loss(a: float, n: int, rates: tuple[float, ...]) -> float:
    """Predicts one more label of every row."""
    return sum(p * (y[-1] - a * y[:-1].mean()) ** 2 for p, y in all_rows(n + 1, rates))


def variances(rates: tuple[float, ...]) -> tuple[float, float]:
    """Returns tau2 and sigma2 of rows with these rates."""
    p = np.array(rates)
    return float(p.var()), float((p * (1 - p)).mean())

"""One row under Adam and a penalty, and a rule of thumb that follows from it.

While a row waits, the gradient of an L2 penalty is all that Adam sees of it. Adam divides it by its
own root: the mean m is lambda w after some ten steps, and the root of v shrinks towards the same
lambda |w|, by sqrt(beta2) a step. So the row moves towards zero by

    lr * lambda |w| / (sqrt(v) + eps),    sqrt(v) = |g| sqrt(1 - beta2) beta2 ** (t / 2)

a step, t steps after a gradient g; and, once lambda |w| is the larger, by lr, however small lambda
is. Only eps is a floor: lambda |w| far below it leaves lr * lambda |w| / eps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BETAS, EPS = (0.9, 0.999), 1e-8


def wait(
    steps: int,
    gradient: float,
    lr: float,
    l2: float = 0.0,
    weight_decay: float = 0.0,
    alpha: float = 0.0,
    lazy: bool = False,
) -> np.ndarray:
    """Returns a weight that has one gradient in step 0 and waits, (steps + 1,).

    Adam starts from nothing, without bias correction, as for a row that is first seen late.

    Args:
        steps: To wait.
        gradient: Of the one impression.
        lr: The learning rate.
        l2: The coefficient of |w|^2 / 2 over whole tables, added to the loss.
        weight_decay: AdamW's.
        alpha: AdamAR's; the decay is shown as if the row were read, and so touched, at that step.
        lazy: Leaves a waiting row alone, as an optimizer with sparse gradients does.
    """
    beta1, beta2 = BETAS
    w, m, v = 0.0, 0.0, 0.0
    found = []
    for step in range(steps + 1):
        if step == 0 or not lazy:
            g = (gradient if step == 0 else 0.0) + l2 * w
            m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g * g
            w = w * (1 - lr * weight_decay) - lr * m / (np.sqrt(v) + EPS)
        found.append(w)
    waited = np.maximum(np.arange(steps + 1) - 1, 0)
    return np.array(found) * np.maximum(0.0, 1 - alpha * waited)


def left(gaps: np.ndarray, **options) -> np.ndarray:
    """Returns what is left of an impression's update after waiting, as a share of its largest."""
    path = np.abs(wait(int(np.max(gaps)), **options))
    return path[np.asarray(gaps, dtype=int)] / path.max()


@dataclass(frozen=True)
class Expected:
    """What to expect of a second epoch.

    Attributes:
        trace: The weight of an impression's own label in the rows that it reads again, mean over
            all lookups: 1 if each row is read once and keeps it, 0 if nothing is left.
        regime: In words.
    """

    trace: float
    regime: str


HARMLESS, HARMFUL = 0.05, 0.2  # of the trace; chosen to agree with the scan of chapter 12


def expect(counts: np.ndarray, steps: int, gradient: float, lr: float, **decay) -> Expected:
    """Says what a second epoch is likely to do, from how often rows are looked up and decayed.

    A row of F lookups in an epoch holds 1/F of a label's update from each, and between two lookups
    it waits steps / F steps. So of an own label, a share left(steps / F) ** F / F is there when it
    is read again.

    Args:
        counts: The lookups in an epoch of each row of the table with the most rows, (n,).
        steps: Steps an epoch.
        gradient: The size of a row's gradient from one impression; that of a mean loss has the
            batch size in its denominator.
        lr, decay: As for `wait`.
    """
    lookups, rows = np.unique(counts[counts > 0], return_counts=True)
    gaps = np.maximum(1, steps // lookups)
    kept = left(gaps, gradient=gradient, lr=lr, **decay) ** lookups
    trace = float((rows * kept).sum() / (rows * lookups).sum())
    regime = "measure it: between the two"
    if trace < HARMLESS:
        regime = "harmless: little of an impression's own label is left when it is read again"
    elif trace > HARMFUL:
        regime = "harmful, unless the tables' rate is low: rows know the label they help to predict"
    return Expected(trace, regime)

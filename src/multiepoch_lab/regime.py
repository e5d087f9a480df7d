"""A rule of thumb: what a second epoch is likely to do, before any training.

In epoch 2 a row still holds the label of the impression that reads it, and the dense layers learn
to trust it (leave-one-out rows). How much that matters follows from the *trace*, the weight of an
impression's own label in the row that it reads again, and from the *step*, how far one impression
moves a row.

A decay need not be meant as one (claim C14). While a row waits, the gradient of an L2
penalty on whole tables is all that Adam sees of it, and divides by its own root: the mean m is
lambda w after some ten steps, and the root of v shrinks towards the same size, by sqrt(beta2) a
step. So the row moves towards zero by

    lr * lambda abs(w) / (sqrt(v) + eps),    sqrt(v) = abs(g) sqrt(1 - beta2) beta2 ** (t / 2)

a step, t steps after a gradient g; and, once lambda abs(w) is the larger, by lr, however small
lambda is. Only eps is a floor: lambda abs(w) far below it leaves lr * lambda abs(w) / eps.
"""

import math
from dataclasses import dataclass

import numpy as np

BETAS, EPS = (0.9, 0.999), 1e-8


def wait(
    steps: int,
    gradient: float,
    lr: float,
    rule: str = "adam",
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
        rule: "adam" or "adagrad".
        l2: The coefficient of w ** 2 / 2 over whole tables, added to the loss.
        weight_decay: AdamW's.
        alpha: AdamAR's; the decay is shown as if the row were read, and so touched, at that step.
        lazy: Leaves a waiting row alone, as an optimizer with sparse gradients does.
    """
    if rule not in ("adam", "adagrad"):
        raise ValueError(f"rule is {rule!r}; choose adam or adagrad.")
    beta1, beta2 = BETAS
    w, m, v = 0.0, 0.0, 0.0
    found = []
    for step in range(steps + 1):
        if step == 0 or not lazy:
            g = (gradient if step == 0 else 0.0) + l2 * w
            if rule == "adam":
                m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g * g
            else:
                m, v = g, v + g * g
            w = w * (1 - lr * weight_decay) - lr * m / (math.sqrt(v) + EPS)
        found.append(w)
    waited = np.maximum(np.arange(steps + 1) - 1, 0)
    return np.array(found) * np.maximum(0.0, 1 - alpha * waited)


@dataclass(frozen=True)
class Expected:
    """What to expect of a second epoch.

    Attributes:
        trace: The weight of an impression's own label in a row that it reads again, mean over all
            lookups: 1 if each row is read once and keeps it, 0 if nothing is left.
        step: How far one impression moves a row, in standard deviations of the fresh table.
        rise: By how much the loss at the end of epoch 2 is above that of epoch 1, in %; good to a
            factor of two or three.
        regime: In words.
    """

    trace: float
    step: float
    rise: float
    regime: str


SATURATED = 40.0  # %: the rise where each row is read once and one impression moves it far
HARMLESS, HARMFUL = 0.5, 10.0  # %, of the rise; between them lies most of what it gets wrong
LEAST_STEPS = 100  # an epoch; in fewer, a model learns little of what its rows know
_PHASES = (np.arange(10) + 0.5) / 10


def expect(
    counts: np.ndarray,
    steps: int,
    lr: float,
    *,
    rule: str = "adam",
    size: float = 0.01,
    gradient: float = 2e-5,
    lazy: bool = True,
    **decay: float,
) -> Expected:
    """Says what a second epoch is likely to do, from how often rows are read, moved and decayed.

    A row of F lookups in an epoch holds 1/F of a label's update from each. An impression reads its
    row again after one epoch on average, and after anything from none to two; in between, the row
    waits F times. The rise is SATURATED * trace * step / (1 + step). Its form and its constants
    were set by eye on records, so agreement with these is no proof: of 78 settings of C14, of the
    dose and response under Adam and row-wise Adagrad, and of five real logs, 32 are called harmful,
    and the mean loss rises by more than 5 % in each; 6 are called harmless, and it rises by less
    than 2 % in each. The other 40 are open. In 281 public runs of a benchmark, where the worst
    counts were assumed, 35 of the 38 called harmful are best after their first epoch, and none of
    the 211 called harmless (the tests count both).

    The rule knows neither how much of a label can be predicted, nor how many other tables there
    are, nor how fast the dense layers learn. It overrates AdamAR, and says nothing below
    LEAST_STEPS steps an epoch. Measure what matters: `multiepoch compare`.

    Args:
        counts: The lookups in an epoch of each row, (n,), of the table with the most rows.
        steps: Steps an epoch.
        lr: The learning rate of the tables.
        rule: "adam" or "adagrad".
        size: The standard deviation of a fresh table.
        gradient: The size of a row's gradient from one impression; that of a mean loss has the
            batch size in its denominator. It matters only if there is a decay.
        lazy, decay: As for `wait`; a decay is `l2`, `weight_decay` or `alpha`.

    Raises:
        ValueError: If no row is read, or the rule is unknown.
    """
    counts = np.asarray(counts)
    if steps < 1 or not (counts > 0).any():
        raise ValueError(f"expect: {steps} steps and {counts.sum()} lookups; give some of both.")
    lookups, rows = np.unique(counts[counts > 0], return_counts=True)
    path = np.abs(wait(2 * steps, gradient, lr, rule, lazy=lazy, **decay))
    again = steps * (1 + _PHASES[:, None] - _PHASES).reshape(-1, 1)  # in steps, (100, 1)
    gaps = np.maximum(1, again / lookups).astype(int)
    kept = ((path[gaps] / path.max()) ** lookups).mean(axis=0)
    trace = float((rows * kept).sum() / (rows * lookups).sum())
    step = float(path.max() / size)
    rise = SATURATED * trace * step / (1 + step)
    regime = "open: measure it"
    if steps < LEAST_STEPS:
        regime = "open: measure it, in more steps an epoch"
    elif rise < HARMLESS:
        regime = "harmless: little of an impression's own label is left when it is read again"
    elif rise > HARMFUL:
        regime = "harmful: rows know the label that they help to predict"
    return Expected(trace, step, rise, regime)

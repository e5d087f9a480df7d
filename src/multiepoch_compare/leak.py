"""What a column tells about a label: finds columns that give the answer, and crosses that add.

Shares are of the label's entropy, on rows that the rates were not estimated on. So a column of many
rare values, each of which "determines" the label of its own few rows, explains nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from multiepoch_lab.data.log import Log
from multiepoch_lab.train.metrics import entropy

LEAK = 0.5  # no honest column explains as much of a label
_ROWS = 200_000
_RARE = 5  # values seen less often are pooled, as an order's id that is there only after a purchase
_SHRINK = 10  # impressions that the rate of a cross's parents counts for


def explained(codes: np.ndarray, labels: np.ndarray, fit: np.ndarray) -> float:
    """Returns the share of a label's entropy that a column explains.

    codes: the value of each row as a number, (n,) int. labels: (n,) zeros and ones. fit: the rows
    to estimate the rate of each value on, (n,) bool; the others are predicted.
    """
    counts = np.bincount(codes[fit], minlength=int(codes.max()) + 1)
    codes = np.where(counts[codes] < _RARE, len(counts), codes)
    prior = labels[fit].mean()
    return _share(_rates(codes, labels, fit, prior, 1)[codes], labels, fit)


def binned(x: np.ndarray) -> np.ndarray:
    """Numbers the fiftieths of a dense feature, (n,) to (n,) int."""
    return np.searchsorted(np.unique(np.quantile(x, np.linspace(0, 1, 51))), x)


def cross_gain(a: np.ndarray, b: np.ndarray, labels: np.ndarray, fit: np.ndarray) -> float:
    """Returns the share that the cross explains beyond the two columns, apart and together.

    A cross that is a function of one column is none, and gains nothing. The rates of the cross are
    shrunk to what its parents say, so that rows which a pair shares with its parent count twice; so
    the parents are given the same second look.
    """
    pairs = a.astype(np.int64) * (int(b.max()) + 1) + b
    _, first, pair = np.unique(pairs, return_index=True, return_inverse=True)
    if len(first) in (len(np.unique(a)), len(np.unique(b))):
        return 0.0
    prior = np.clip(labels[fit].mean(), 1e-6, 1 - 1e-6)
    apart = [_rates(codes, labels, fit, prior, _SHRINK)[codes] for codes in (a, b)]
    logits = sum(np.log(p / (1 - p)) for p in apart) - np.log(prior / (1 - prior))
    both = 1 / (1 + np.exp(-logits))
    again = [_rates(codes, labels, fit, _mean_of(both, codes), _SHRINK)[codes] for codes in (a, b)]
    crossed = _rates(pair, labels, fit, both[first], _SHRINK)[pair]
    parents = (*apart, both, *again)
    return _share(crossed, labels, fit) - max(_share(p, labels, fit) for p in parents)


def _mean_of(values: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Returns the mean of the values, (n,), over the rows of each code."""
    counts = np.bincount(codes)
    return np.bincount(codes, values) / np.maximum(counts, 1)


def leaks(train: Log, validation: Log) -> list[str]:
    """Describes each column of a log that almost determines a label of the validation day."""
    train = train[slice(max(0, len(train) - _ROWS), len(train))]
    fit = np.arange(len(train) + len(validation)) < len(train)
    columns = {
        name: torch.cat([train.ids[name], validation.ids[name]]).numpy() for name in train.ids
    }
    for k, name in enumerate(train.schema.dense):
        both = (train.dense[:, k].numpy(), validation.dense[:, k].numpy())
        columns[name] = binned(np.concatenate(both))
    labels = np.concatenate([train.labels.numpy(), validation.labels.numpy()]).astype(float)
    return [
        in_words(name, train.objectives, shares)
        for name, codes in columns.items()
        if max(shares := [explained(codes, label, fit) for label in labels.T]) >= LEAK
    ]


def in_words(name: str, objectives: Sequence[str], shares: Sequence[float]) -> str:
    k = int(np.argmax(shares))
    share = f"explains {100 * shares[k]:.0f} % of the entropy of {objectives[k]!r}"
    return f"column {name!r} {share}: is it known only after the impression?"


def _rates(codes, labels, fit, prior, weight: float) -> np.ndarray:
    """Returns the rate of each code, shrunk to a prior that counts for `weight` rows."""
    size = int(codes.max()) + 1
    counts = np.bincount(codes[fit], minlength=size)
    ones = np.bincount(codes[fit], labels[fit], minlength=size)
    return np.clip((ones + weight * prior) / (counts + weight), 1e-6, 1 - 1e-6)


def _share(p: np.ndarray, labels: np.ndarray, fit: np.ndarray) -> float:
    p, y = p[~fit], labels[~fit]
    most = entropy(float(y.mean()))
    loss = -np.where(y == 1, np.log(p), np.log1p(-p)).mean()
    return 1 - loss / most if most else 0.0

"""What a column tells about a label: finds columns that give the answer.

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


def explained(codes: np.ndarray, labels: np.ndarray, fit: np.ndarray) -> float:
    """Returns the share of a label's entropy that a column explains.

    codes: the value of each row as a number, (n,) int. labels: (n,) zeros and ones. fit: the rows
    to estimate the rate of each value on, (n,) bool; the others are predicted.
    """
    counts = np.bincount(codes[fit], minlength=int(codes.max()) + 1)
    codes = np.where(counts[codes] < _RARE, len(counts), codes)
    prior = labels[fit].mean()
    counts = np.bincount(codes[fit], minlength=int(codes.max()) + 1)
    ones = np.bincount(codes[fit], labels[fit], minlength=len(counts))
    rate = np.clip((ones + prior) / (counts + 1), 1e-6, 1 - 1e-6)
    p, y = rate[codes[~fit]], labels[~fit]
    most = entropy(float(y.mean()))
    loss = -np.where(y == 1, np.log(p), np.log1p(-p)).mean()
    return 1 - loss / most if most else 0.0


def binned(x: np.ndarray) -> np.ndarray:
    """Numbers the fiftieths of a dense feature, (n,) to (n,) int."""
    return np.searchsorted(np.unique(np.quantile(x, np.linspace(0, 1, 51))), x)


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

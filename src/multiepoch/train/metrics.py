"""How good predictions are: AUC, logloss, normalized entropy, calibration, boundary jump.

Every metric takes one objective at a time: `logits` and `labels` of shape (n,), on any one device,
and gives a Python float computed in double precision. Logits, not probabilities, because the
logloss of a confident prediction is exact from a logit and lost to rounding from a probability.
"""

from __future__ import annotations

import math

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from multiepoch.data.log import DataError, Log


def auc(scores: Tensor, labels: Tensor) -> float:
    """The chance that a positive scores above a negative; a tie counts one half.

    scores may be logits, probabilities or any other increasing function of them.
    ValueError where the labels are all of one class, or a score is NaN.
    """
    _check(scores, labels, both_classes_for="AUC")
    if torch.isnan(scores).any():
        raise ValueError("auc: a score is NaN; AUC needs scores that can be put in order.")
    positives, negatives = scores[labels == 1].sort().values, scores[labels == 0].sort().values
    below = torch.searchsorted(negatives, positives)
    up_to = torch.searchsorted(negatives, positives, right=True)
    # Whole numbers, so the count of ordered pairs is exact.
    return (below + up_to).sum().item() / (2 * len(positives) * len(negatives))


def logloss(logits: Tensor, labels: Tensor) -> float:
    """Mean cross-entropy in nats."""
    _check(logits, labels)
    return F.binary_cross_entropy_with_logits(logits.double(), labels.double()).item()


def normalized_entropy(logits: Tensor, labels: Tensor) -> float:
    """Logloss over that of the constant that predicts the labels' own rate (He et al., 2014).

    Below 1 is better than knowing the rate alone. ValueError where the labels are of one class.
    """
    _check(logits, labels, both_classes_for="Normalized entropy")
    return logloss(logits, labels) / entropy(labels.double().mean().item())


def calibration(logits: Tensor, labels: Tensor) -> float:
    """Sum of predicted probabilities over number of positives; 1 is right, above 1 promises more.

    ValueError where there is no positive.
    """
    _check(logits, labels)
    n_positive = labels.double().sum().item()
    if n_positive == 0:
        raise ValueError("Calibration needs at least one positive label, and there is none.")
    return torch.sigmoid(logits.double()).sum().item() / n_positive


def boundary_jump(before: float, after: float) -> float:
    """Relative change of a loss across an epoch boundary: after / before - 1."""
    return after / before - 1


def share_of_gap(loss: float, constant_loss: float, bayes_loss: float) -> float:
    """How much of what can be learned was learned: 0 at the constant predictor, 1 at the optimum.

    Compare losses over the same labels: the luck of the draw then cancels out of the ratio.
    """
    return (constant_loss - loss) / (constant_loss - bayes_loss)


def entropy(p: float) -> float:
    """Logloss, in nats, of predicting p where the true rate is p."""
    return 0.0 if p in (0.0, 1.0) else -p * math.log(p) - (1 - p) * math.log1p(-p)


def bayes_optimum(log: Log) -> pd.DataFrame:
    """What the best possible predictor, the truth itself, gets on a log that carries `p_true`.

    One row an objective. `constant_logloss`, `bayes_logloss` and `bayes_auc` are over the labels
    drawn, to be compared with a model's on the same log; `expected_logloss` (the mean entropy of
    p_true) and `expected_auc` are their expectations over all draws of the labels.
    DataError where nobody knows the truth.
    """
    if log.p_true is None:
        raise DataError("bayes_optimum: the log has no p_true; only a synthetic world knows it.")
    rows = {}
    for k, objective in enumerate(log.objectives):
        p, labels = log.p_true[:, k].double(), log.labels[:, k].double()
        mean_entropy = (torch.special.entr(p) + torch.special.entr(1 - p)).mean().item()
        # No impression forms a pair with itself, though it is partly positive, partly negative.
        both = (p * (1 - p)).sum().item()
        pairs = p.sum().item() * (1 - p).sum().item()
        rows[objective] = {
            "positive_rate": labels.mean().item(),
            "constant_logloss": entropy(labels.mean().item()),
            "bayes_logloss": F.binary_cross_entropy(p, labels).item(),
            "bayes_auc": auc(p, labels),
            "expected_logloss": mean_entropy,
            "expected_auc": (_ordered_pairs(p, p, 1 - p) * pairs - both / 2) / (pairs - both),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("objective")


def _ordered_pairs(scores: Tensor, positive: Tensor, negative: Tensor) -> float:
    """Share of (positive, negative) pairs in the right order, each impression weighted by both."""
    scores, order = scores.sort()
    last_of_tie = torch.ones_like(scores, dtype=torch.bool)
    last_of_tie[:-1] = scores[1:] != scores[:-1]
    # From sums at the end of each run of equal scores to what is in the run.
    positives = positive[order].cumsum(0)[last_of_tie]
    negatives = negative[order].cumsum(0)[last_of_tie]
    in_run = torch.diff(positives, prepend=torch.zeros_like(positives[:1]))
    below = torch.cat([torch.zeros_like(negatives[:1]), negatives[:-1]])
    # A positive is above the negatives below its run, and half above those in it.
    twice = (in_run * (below + negatives)).sum()
    return twice.item() / (2 * positives[-1].item() * negatives[-1].item())


def _check(logits: Tensor, labels: Tensor, both_classes_for: str | None = None) -> None:
    if logits.shape != labels.shape or logits.dim() != 1 or len(labels) == 0:
        raise ValueError(
            f"Metrics take one objective of at least one impression: logits and labels of one "
            f"shape (n,), not {tuple(logits.shape)} and {tuple(labels.shape)}."
        )
    if both_classes_for and labels.min() == labels.max():
        raise ValueError(
            f"{both_classes_for} needs labels of both classes, and all {len(labels)} are "
            f"{labels[0].item():g}; give it more impressions or leave this part out."
        )

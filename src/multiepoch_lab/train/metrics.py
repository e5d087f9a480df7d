"""Metrics of predictions: AUC, logloss, normalized entropy, calibration, boundary jump.

Every metric takes one objective: `logits` and `labels` of shape (n,), on the same device. It
returns a Python float computed in double precision. Logits are used instead of probabilities
because a confident probability is rounded, which distorts its logloss.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def auc(scores: Tensor, labels: Tensor) -> float:
    """Returns the chance that a positive scores above a negative; a tie counts one half.

    The scores are logits or any increasing function of them.

    Raises:
        ValueError: If all labels are of one class, or a score is NaN.
    """
    _check(scores, labels, both_classes_for="AUC")
    if torch.isnan(scores).any():
        raise ValueError("auc: a score is NaN; AUC needs scores that can be ordered.")
    positives, negatives = (scores[labels == k].sort().values for k in (1, 0))
    below = torch.searchsorted(negatives, positives)
    up_to = torch.searchsorted(negatives, positives, right=True)
    # Whole numbers, so the count of ordered pairs is exact.
    return (below + up_to).sum().item() / (2 * len(positives) * len(negatives))


def logloss(logits: Tensor, labels: Tensor) -> float:
    """Returns the mean cross-entropy, in nats."""
    _check(logits, labels)
    return F.binary_cross_entropy_with_logits(logits.double(), labels.double()).item()


def expected_logloss(logits: Tensor, p_true: Tensor) -> float:
    """Returns the logloss expected over all draws of the labels, in nats.

    This is the mean of -(p log q + (1 - p) log(1 - q)), where q is predicted and the labels were
    drawn with p. It is free of the noise of the draw.
    """
    return logloss(logits, p_true)


def normalized_entropy(logits: Tensor, labels: Tensor) -> float:
    """Divides the logloss by that of the best constant, the labels' own rate (He et al., 2014).

    Raises:
        ValueError: If all labels are of one class.
    """
    _check(logits, labels, both_classes_for="Normalized entropy")
    return logloss(logits, labels) / entropy(labels.double().mean().item())


def calibration(logits: Tensor, labels: Tensor) -> float:
    """Divides the sum of predicted probabilities by the number of positives; 1 is calibrated.

    Raises:
        ValueError: If there is no positive.
    """
    _check(logits, labels)
    if not labels.any():
        raise ValueError("Calibration needs at least one positive label, and there is none.")
    return torch.sigmoid(logits.double()).mean().item() / labels.double().mean().item()


def share_of_gap(loss: float, constant_loss: float, bayes_loss: float) -> float:
    """Returns the share of the achievable gain: 0 for the best constant, 1 for the Bayes optimum.

    Use losses over the same labels, so that the luck of the draw cancels out.
    """
    return (constant_loss - loss) / (constant_loss - bayes_loss)


def entropy(p: float) -> float:
    """Returns the logloss of predicting the true rate p, in nats."""
    return 0.0 if p in (0.0, 1.0) else -p * math.log(p) - (1 - p) * math.log1p(-p)


def bayes_optimum(labels: Tensor, p_true: Tensor) -> dict[str, float]:
    """Scores the truth itself, p_true, which no predictor can beat.

    Returns:
        positive_rate; constant_logloss, bayes_logloss and bayes_auc over the drawn labels, to be
        compared with a model's on the same labels; and bayes_expected_logloss, expected over all
        draws of the labels: the mean entropy of p_true.
    """
    p, labels = p_true.double(), labels.double()
    return {
        "positive_rate": labels.mean().item(),
        "constant_logloss": entropy(labels.mean().item()),
        "bayes_logloss": F.binary_cross_entropy(p, labels).item(),
        "bayes_auc": auc(p, labels),
        "bayes_expected_logloss": (torch.special.entr(p) + torch.special.entr(1 - p)).mean().item(),
    }


def _check(logits: Tensor, labels: Tensor, both_classes_for: str | None = None) -> None:
    if logits.shape != labels.shape or logits.dim() != 1 or len(labels) == 0:
        found = f"{tuple(logits.shape)} and {tuple(labels.shape)}"
        raise ValueError(f"Metrics need logits and labels of one shape (n,), n >= 1, not {found}.")
    if both_classes_for and labels.min() == labels.max():
        found = f"labels of both classes, and all {len(labels)} are {labels[0].item():g}"
        remedy = "give it more impressions or leave this part out"
        raise ValueError(f"{both_classes_for} needs {found}; {remedy}.")

"""Training over a fixed window or day after day, evaluation, metrics and checkpoints."""

from multiepoch.train.evaluation import evaluate, frequency_edges, frequency_groups, predict
from multiepoch.train.loop import BetweenPasses, train, train_days

__all__ = [
    "BetweenPasses",
    "evaluate",
    "frequency_edges",
    "frequency_groups",
    "predict",
    "train",
    "train_days",
]

"""Training over a fixed window or day after day, evaluation, metrics and checkpoints."""

from multiepoch.train.evaluation import evaluate, frequency_edges, frequency_groups, predict
from multiepoch.train.loop import BetweenEpochs, train, train_days

__all__ = [
    "BetweenEpochs",
    "evaluate",
    "frequency_edges",
    "frequency_groups",
    "predict",
    "train",
    "train_days",
]

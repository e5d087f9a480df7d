"""Training over a fixed window or day after day, evaluation, metrics and checkpoints."""

try:
    import pandas  # noqa: F401
except ImportError as error:
    raise ImportError("multiepoch.train needs pandas: pip install 'multiepoch[data]'.") from error

from multiepoch.train.config import BetweenEpochs, TrainConfig
from multiepoch.train.evaluation import (
    bayes_optimum,
    evaluate,
    frequency_edges,
    frequency_groups,
    predict,
)
from multiepoch.train.loop import NonFiniteLoss, train, train_days

__all__ = [
    "BetweenEpochs",
    "NonFiniteLoss",
    "TrainConfig",
    "bayes_optimum",
    "evaluate",
    "frequency_edges",
    "frequency_groups",
    "predict",
    "train",
    "train_days",
]

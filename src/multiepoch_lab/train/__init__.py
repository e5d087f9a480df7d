"""Training over a fixed window or day after day, evaluation and metrics."""

try:
    import pandas  # noqa: F401
except ImportError as error:
    raise ImportError(
        "multiepoch_lab.train needs pandas: pip install 'multiepoch[lab]'."
    ) from error

from multiepoch_lab.train.config import BetweenEpochs, TrainConfig
from multiepoch_lab.train.evaluation import (
    bayes_optimum,
    evaluate,
    frequency_edges,
    frequency_groups,
    predict,
)
from multiepoch_lab.train.loop import NonFiniteLoss, train, train_days

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

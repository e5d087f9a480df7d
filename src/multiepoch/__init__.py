"""Remedies against multi-epoch overfitting of embedding tables in ads conversion models.

    from multiepoch import SparseOptimizer, tail_rewind

It needs torch and NumPy alone. What the book trains with is in `multiepoch_lab`.
"""

from multiepoch.optim import (
    AdaptiveRegularization,
    EmbeddingOptimizer,
    FrequencyAdaptiveLR,
    SparseOptimizer,
)
from multiepoch.remedies import meda, tail_rewind

__version__ = "0.2.0"

__all__ = [
    "AdaptiveRegularization",
    "EmbeddingOptimizer",
    "FrequencyAdaptiveLR",
    "SparseOptimizer",
    "meda",
    "tail_rewind",
]

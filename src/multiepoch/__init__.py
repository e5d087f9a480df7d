"""Remedies against multi-epoch overfitting of embedding tables in ads conversion models.

    from multiepoch import SparseOptimizer, tail_rewind

Everything here needs torch and NumPy alone. `multiepoch.train` and the KuaiRand part of
`multiepoch.data` need the extra `data`.
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

"""Optimizers for embedding tables, and for tables and dense layers as one."""

from multiepoch.optim.adamar import AdaptiveRegularization
from multiepoch.optim.embedding import EmbeddingOptimizer
from multiepoch.optim.fal import FrequencyAdaptiveLR
from multiepoch.optim.sparse import SparseOptimizer

__all__ = ["AdaptiveRegularization", "EmbeddingOptimizer", "FrequencyAdaptiveLR", "SparseOptimizer"]

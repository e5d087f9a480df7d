"""Optimizers for embedding tables, and for tables and dense layers as one."""

from multiepoch.optim.embedding import EmbeddingOptimizer
from multiepoch.optim.frequency import FrequencyAdaptiveLR
from multiepoch.optim.sparse import SparseOptimizer
from multiepoch.regularize import AdaptiveRegularization

__all__ = ["AdaptiveRegularization", "EmbeddingOptimizer", "FrequencyAdaptiveLR", "SparseOptimizer"]

"""Optimizers for embedding tables, alone or together with the dense layers."""

from multiepoch.optim.adamar import AdaptiveRegularization
from multiepoch.optim.clipping import clip_grad_norm_
from multiepoch.optim.embedding import EmbeddingOptimizer
from multiepoch.optim.fal import FrequencyAdaptiveLR
from multiepoch.optim.first_step import lookup_gradients
from multiepoch.optim.lookups import accumulate_lookups, gather_lookups
from multiepoch.optim.parts import make_sparse
from multiepoch.optim.sparse import SparseOptimizer

__all__ = [
    "AdaptiveRegularization",
    "EmbeddingOptimizer",
    "FrequencyAdaptiveLR",
    "SparseOptimizer",
    "accumulate_lookups",
    "clip_grad_norm_",
    "gather_lookups",
    "lookup_gradients",
    "make_sparse",
]

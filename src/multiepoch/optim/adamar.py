"""AdamAR: weight decay for embedding rows that grows with the time since their last update."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class AdaptiveRegularization:
    """Decays a row more, the longer it has not been trained: AdamAR (arXiv 2511.06374).

    A row last trained at step s and trained again at step k, both counted from 1 by its table, has
    waited I = k - s - 1 steps. It is first shrunk by lambda = min(1, alpha I)::

        w <- w - lambda w - lr * direction

    The learning rate does not multiply lambda. A row that was never trained has s = 0, so its first
    update shrinks its initial values by all the steps since training began. The paper uses Adam;
    since the decay is decoupled from the gradient, it works the same with every rule.

    Args:
        alpha: Decay per step of waiting, in [0, 1]. The paper tries 10^-6.5 to 10^-1.

    Raises:
        ValueError: If alpha is out of range.
    """

    alpha: float

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"AdaptiveRegularization: alpha={self.alpha} must be in [0, 1].")

    def keep(self, last_step: Tensor, step: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Returns 1 - lambda for k rows, (k,). last_step: int32 (k,), s of each row."""
        waited = (step - 1 - last_step).to(dtype)
        return waited.mul_(-self.alpha).add_(1.0).clamp_(min=0.0)

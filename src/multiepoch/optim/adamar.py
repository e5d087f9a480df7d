"""Penalties for embedding rows that the optimizer touches only now and then."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class AdaptiveRegularization:
    """AdamAR (arXiv 2511.06374): a row decays the more, the longer it was not trained.

    A row last trained at step s and trained again at step k, both counted from 1 by its table,
    has waited I = k - s - 1 steps and is first shrunk by lambda = min(1, alpha I):

        w <- w - lambda w - lr * direction

    lambda isn't multiplied by the rate. A row that was never trained has s = 0: its first step
    shrinks its initial values by the steps since training began. The paper pairs this with Adam;
    since the decay is decoupled from the gradient, it is the same beside every rule.

    alpha: per step, at least 0; the paper tries 10^-6.5 to 10^-1.
    """

    alpha: float

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise ValueError(
                f"AdaptiveRegularization: alpha={self.alpha} must lie between 0 and 1; "
                "the paper uses 10^-6.5 to 10^-1."
            )

    def keep(self, last_step: Tensor, step: int) -> Tensor:
        """1 - lambda for k rows, float32 (k,). last_step: int32 (k,), the s of each row."""
        waited = (step - 1 - last_step).float()
        return waited.mul_(-self.alpha).add_(1.0).clamp_(min=0.0)

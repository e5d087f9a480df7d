"""The four update rules, each applied to the gathered rows of a batch.

A rule declares the state of a table (`state_shapes`) and turns the summed gradients of k rows into
a direction (`update`). The caller applies learning rates and decays:
w <- keep * w - lr * factor * direction.
"""

import math

import torch
from torch import Tensor


class Rule:
    """Keeps float32 state tensors, one value per weight or one per row of a table."""

    per_weight: tuple[str, ...] = ()
    per_row: tuple[str, ...] = ()

    def state_shapes(self, n_rows: int, dim: int) -> dict[str, tuple[int, ...]]:
        """Returns name and shape of the state tensors of an (n_rows, dim) table."""
        per_weight = dict.fromkeys(self.per_weight, (n_rows, dim))
        return per_weight | dict.fromkeys(self.per_row, (n_rows,))

    def update(self, grad: Tensor, state: dict, step: int, betas: tuple, eps: float) -> Tensor:
        """Updates the k gathered rows of `state` in place; returns the direction, (k, dim)."""
        raise NotImplementedError


class Adam(Rule):
    """Leaves the moments of absent rows unchanged: lazy Adam (Kingma and Ba 2015).

    The bias correction uses the table's step, so a row in every batch moves as in torch.optim.Adam.
    SparseAdam adds eps to the root before it corrects that: at gradients of 1e-6, its first step
    is 0.76 of the rate, where this one is 0.99.
    """

    per_weight = ("exp_avg", "exp_avg_sq")

    def update(self, grad, state, step, betas, eps):
        beta1, beta2 = betas
        mean = state["exp_avg"].lerp_(grad, 1 - beta1)
        square = state["exp_avg_sq"].mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
        correction1, correction2 = 1 - beta1**step, 1 - beta2**step
        # mean / correction1 over sqrt(square / correction2) + eps, with one fewer division
        denominator = square.sqrt().mul_(correction1 / math.sqrt(correction2))
        denominator.add_(eps * correction1)
        # into existing memory: allocating costs more than dividing
        return torch.div(mean, denominator, out=denominator)


class Adagrad(Rule):
    """Keeps one accumulator per weight: Adagrad (Duchi et al. 2011)."""

    per_weight = ("sum",)

    def update(self, grad, state, step, betas, eps):
        denominator = state["sum"].addcmul_(grad, grad).sqrt().add_(eps)
        return torch.div(grad, denominator, out=denominator)


class RowwiseAdagrad(Rule):
    """Keeps one accumulator per row, of its mean squared gradient (as in FBGEMM)."""

    per_row = ("sum",)

    def update(self, grad, state, step, betas, eps):
        total = state["sum"].add_(grad.square().mean(dim=1))
        return grad / total.sqrt().add_(eps)[:, None]


class SGD(Rule):
    """Follows the gradient: plain stochastic gradient descent."""

    def update(self, grad, state, step, betas, eps):
        return grad


RULES: dict[str, Rule] = {
    "adam": Adam(),
    "adagrad": Adagrad(),
    "rowwise_adagrad": RowwiseAdagrad(),
    "sgd": SGD(),
}

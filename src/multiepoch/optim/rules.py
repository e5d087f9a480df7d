"""The four update rules, each on the gathered rows of a batch.

A rule says which state a table carries (`state_shapes`) and turns the summed gradients of k rows
into the direction that they move against (`update`); rates and decays are applied by the caller,
w <- keep * w - lr * factor * direction.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor


class Rule(Protocol):
    def state_shapes(self, n_rows: int, dim: int) -> dict[str, tuple[int, ...]]:
        """Name and shape of each state tensor of a table of shape (n_rows, dim), all float32."""
        ...

    def update(
        self,
        grad: Tensor,
        state: dict[str, Tensor],
        step: int,
        betas: tuple[float, float],
        eps: float,
    ) -> Tensor:
        """Changes the k gathered rows of `state` in place; the direction, (k, dim) float32."""
        ...


class Adam:
    """Lazy Adam (Kingma and Ba 2015): moments of absent rows stand still.

    The bias correction uses the table's number of steps, so a row that is in every batch moves
    as under torch.optim.Adam.
    """

    def state_shapes(self, n_rows, dim):
        return {"exp_avg": (n_rows, dim), "exp_avg_sq": (n_rows, dim)}

    def update(self, grad, state, step, betas, eps):
        beta1, beta2 = betas
        mean = state["exp_avg"].lerp_(grad, 1 - beta1)
        square = state["exp_avg_sq"].mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
        correction1, correction2 = 1 - beta1**step, 1 - beta2**step
        # mean / correction1 over sqrt(square / correction2) + eps, with one division less
        denominator = square.sqrt().mul_(correction1 / math.sqrt(correction2))
        denominator.add_(eps * correction1)
        # into memory that is there: fresh memory costs more than the division
        return torch.div(mean, denominator, out=denominator)


class Adagrad:
    """Adagrad (Duchi et al. 2011) with an accumulator for each weight."""

    def state_shapes(self, n_rows, dim):
        return {"sum": (n_rows, dim)}

    def update(self, grad, state, step, betas, eps):
        denominator = state["sum"].addcmul_(grad, grad).sqrt().add_(eps)
        return torch.div(grad, denominator, out=denominator)


class RowwiseAdagrad:
    """Adagrad with one accumulator a row: the mean of its squared gradient (as in FBGEMM)."""

    def state_shapes(self, n_rows, dim):
        return {"sum": (n_rows,)}

    def update(self, grad, state, step, betas, eps):
        total = state["sum"].add_(grad.square().mean(dim=1))
        return grad / total.sqrt().add_(eps)[:, None]


class SGD:
    """Plain stochastic gradient descent."""

    def state_shapes(self, n_rows, dim):
        return {}

    def update(self, grad, state, step, betas, eps):
        return grad


RULES: dict[str, Rule] = {
    "adam": Adam(),
    "adagrad": Adagrad(),
    "rowwise_adagrad": RowwiseAdagrad(),
    "sgd": SGD(),
}

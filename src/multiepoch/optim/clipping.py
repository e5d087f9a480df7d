"""Gradient clipping for models whose tables have sparse gradients, beside dense layers.

torch's own functions refuse sparse gradients. These give what torch's would give if every gradient
were dense: a row's gradient is the sum over its lookups. They keep the list of lookups, which FAL
and tail rewind count.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from multiepoch.optim.batch import TouchedRows
from multiepoch.optim.lookups import gradient_of


@torch.no_grad()
def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
) -> Tensor:
    """Scales all gradients down to a total norm of `max_norm`, as torch.nn.utils.clip_grad_norm_.

    Args:
        parameters: The parameters, or one; those without a gradient are skipped.
        max_norm: The largest total norm.
        norm_type: The order p of the norm, above 0; math.inf takes the largest entry.
        error_if_nonfinite: Raises a RuntimeError if the total norm is NaN or infinite.

    Returns:
        The total norm of the gradients before they were clipped, a scalar.
    """
    pairs = _with_gradient(parameters)
    if not pairs:
        return torch.tensor(0.0)
    norms = [torch.linalg.vector_norm(_entries(grad), norm_type) for _, grad in pairs]
    together = torch.stack([norm.to(norms[0].device) for norm in norms])
    total = torch.linalg.vector_norm(together, norm_type)
    if error_if_nonfinite and not total.isfinite():
        raise RuntimeError(
            f"clip_grad_norm_: the total norm of the gradients is {total.item()}, so they cannot "
            "be clipped; lower the learning rate or look for an overflow in the loss."
        )
    scale = (max_norm / (total + 1e-6)).clamp(max=1.0)
    for p, grad in pairs:
        here = scale.to(grad.device)
        if grad.is_sparse:
            p.grad = _with_values(grad, grad._values() * here)
        else:
            grad.mul_(here)
    return total


@torch.no_grad()
def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float) -> None:
    """Clamps every entry of the gradients, as torch.nn.utils.clip_grad_value_.

    One lookup of each row then carries the row's clamped sum, and the others carry zeros.

    Args:
        parameters: The parameters, or one; those without a gradient are skipped.
        clip_value: Entries are clamped to [-clip_value, clip_value].
    """
    for p, grad in _with_gradient(parameters):
        if not grad.is_sparse:
            grad.clamp_(-clip_value, clip_value)
            continue
        ids, values = grad._indices()[0], grad._values()
        touched = TouchedRows.unique(ids, values)
        assert touched.slot is not None
        one_of = torch.empty_like(touched.rows)
        one_of.scatter_(0, touched.slot, torch.arange(len(ids), device=ids.device))
        clamped = touched.gradient().clamp_(-clip_value, clip_value).to(values.dtype)
        p.grad = _with_values(grad, torch.zeros_like(values).index_copy_(0, one_of, clamped))


def _with_gradient(parameters: Tensor | Iterable[Tensor]) -> list[tuple[Tensor, Tensor]]:
    every = [parameters] if isinstance(parameters, Tensor) else parameters
    return [(p, p.grad) for p in every if p.grad is not None]


def _entries(grad: Tensor) -> Tensor:
    """Returns what a gradient has beside zeros: of a sparse one, each row's sum, (k, dim)."""
    if not grad.is_sparse:
        return grad
    values = grad._values()
    if grad.is_coalesced():
        return values
    return TouchedRows.unique(grad._indices()[0], values).gradient().to(values.dtype)


def _with_values(grad: Tensor, values: Tensor) -> Tensor:
    """Returns a new gradient, since torch may share the old values with other tensors."""
    return gradient_of(grad._indices(), values, grad.shape)

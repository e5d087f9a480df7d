"""Gradient clipping for models whose tables have sparse gradients, beside dense layers.

torch's own function refuses sparse gradients. This one gives what torch's would give if every
gradient were dense: a row's gradient is the sum over its lookups. It keeps the list of lookups,
which FAL and tail rewind count.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from multiepoch.optim import compiled
from multiepoch.optim.eager import at_least_float32, touched_rows
from multiepoch.optim.lookups import gradient_of


@torch.no_grad()
def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
) -> Tensor:
    """Scales all gradients down to a total norm of `max_norm`, as `torch.nn.utils.clip_grad_norm_`.

    The norm is computed in at least float32. Dense gradients may be DTensors, as FSDP2 makes them;
    then every process must call this.

    Args:
        parameters: The parameters, or one; those without a gradient are skipped.
        max_norm: The largest total norm.
        norm_type: The order p of the norm, above 0; math.inf takes the largest entry.
        error_if_nonfinite: Raises a RuntimeError if the total norm is NaN or infinite.

    Returns:
        The total norm of the gradients before they were clipped, a scalar.
    """
    every = [parameters] if isinstance(parameters, Tensor) else parameters
    pairs = [(p, p.grad) for p in every if p.grad is not None]
    norm_type, norms = float(norm_type), []
    for p, grad in pairs:
        summed = _sums(p, grad) if grad.is_sparse else grad
        if summed.numel():
            dtype = at_least_float32(summed.dtype)
            norm = torch.linalg.vector_norm(summed, norm_type, dtype=dtype)
            norms.append(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)
    if not norms:
        return torch.tensor(0.0)
    norms = [norm.to(norms[0].device) for norm in norms]
    total = torch.linalg.vector_norm(torch.stack(norms), norm_type)
    if error_if_nonfinite and not total.isfinite():
        norm = f"the total norm of the gradients is {total.item()}, so they cannot be clipped"
        remedy = "lower the learning rate or look for an overflow in the loss"
        raise RuntimeError(f"clip_grad_norm_: {norm}; {remedy}.")
    scale = (float(max_norm) / (total + 1e-6)).clamp(max=1.0)
    for p, grad in pairs:
        factor = scale.to(grad.device)
        if grad.is_sparse:
            # A new gradient, since torch may share the values with other tensors.
            p.grad = gradient_of(grad._indices(), grad._values() * factor, grad.shape)
        else:
            grad.mul_(factor)
    return total


def _sums(p: Tensor, grad: Tensor) -> Tensor:
    """Returns the sum over the lookups of each row, (k, dim), which may overflow in float16."""
    ids, values = grad._indices()[0], grad._values()
    if len(ids) < 2 or grad.is_coalesced():
        return values
    found = compiled.touched_rows(ids, values, len(p)) if compiled.usable(p, values) else None
    if found is not None:
        return compiled.sum_rows(found)
    return touched_rows(ids, values, padded=False).gradient()

"""Gradient clipping for models whose tables have sparse gradients, beside dense layers.

torch's own functions refuse sparse gradients. These give what torch's would give if every gradient
were dense: a row's gradient is the sum over its lookups. They keep the list of lookups, which FAL
and tail rewind count.
"""

from collections.abc import Hashable, Iterable

import torch
from torch import Tensor, nn

from multiepoch.optim import compiled
from multiepoch.optim.eager import TouchedRows, at_least_float32
from multiepoch.optim.lookups import gradient_of


@torch.no_grad()
def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """Scales all gradients down to a total norm of `max_norm`, as `torch.nn.utils.clip_grad_norm_`.

    The norm is computed in at least float32. Dense gradients may be DTensors, as FSDP2 makes them;
    then every process must call this.

    Args:
        parameters: The parameters, or one; those without a gradient are skipped.
        max_norm: The largest total norm.
        norm_type: The order p of the norm, above 0; math.inf takes the largest entry.
        error_if_nonfinite: Raises a RuntimeError if the total norm is NaN or infinite.
        foreach: False takes the dense gradients one by one, else all of a kind at once.

    Returns:
        The total norm of the gradients before they were clipped, a scalar.
    """
    pairs, max_norm, norm_type = _with_gradient(parameters), float(max_norm), float(norm_type)
    if not pairs:
        return torch.tensor(0.0)
    dense: dict[Hashable, list[Tensor]] = {}
    norms = []
    for p, grad in pairs:
        if grad.is_sparse:
            sums = grad._values() if grad.is_coalesced() else _rows(p, grad)[1]
            norms.append(_norms([sums], norm_type)[0])
        else:
            kind = id(grad) if foreach is False else (type(grad), grad.device, grad.dtype)
            dense.setdefault(kind, []).append(grad)
    norms += [norm for grads in dense.values() for norm in _norms(grads, norm_type)]
    total = torch.linalg.vector_norm(torch.stack([n.to(norms[0].device) for n in norms]), norm_type)
    if error_if_nonfinite and not total.isfinite():
        norm = f"the total norm of the gradients is {total.item()}, so they cannot be clipped"
        remedy = "lower the learning rate or look for an overflow in the loss"
        raise RuntimeError(f"clip_grad_norm_: {norm}; {remedy}.")
    scale = (max_norm / (total + 1e-6)).clamp(max=1.0)
    for grads in dense.values():
        torch._foreach_mul_(grads, scale.to(grads[0].device))
    for p, grad in pairs:
        if grad.is_sparse:
            # A new gradient, since torch may share the values with other tensors.
            values = grad._values() * scale.to(grad.device)
            p.grad = gradient_of(grad._indices(), values, grad.shape)
    return total


@torch.no_grad()
def clip_grad_value_(
    parameters: Tensor | Iterable[Tensor], clip_value: float, foreach: bool | None = None
) -> None:
    """Clamps every entry of the gradients, as `torch.nn.utils.clip_grad_value_`.

    One lookup of each row then carries the row's clamped sum, and the others carry zeros.

    Args:
        parameters, foreach: As for `clip_grad_norm_`.
        clip_value: Entries are clamped to [-clip_value, clip_value].
    """
    pairs = _with_gradient(parameters)
    dense = [p for p, grad in pairs if not grad.is_sparse]
    if dense:
        nn.utils.clip_grad_value_(dense, clip_value, foreach=foreach)
    for p, grad in pairs:
        if grad.is_sparse:
            lookups, sums = _rows(p, grad)
            values = torch.zeros_like(grad._values())
            clamped = sums.clamp_(-clip_value, clip_value).to(values.dtype)
            values.index_copy_(0, lookups, clamped)
            p.grad = gradient_of(grad._indices(), values, grad.shape)


def _with_gradient(parameters: Tensor | Iterable[Tensor]) -> list[tuple[Tensor, Tensor]]:
    every = [parameters] if isinstance(parameters, Tensor) else parameters
    return [(p, p.grad) for p in every if p.grad is not None]


def _norms(grads: list[Tensor], norm_type: float) -> list[Tensor]:
    """Returns the norm of each gradient; they are of one kind, device and dtype."""
    dtype = at_least_float32(grads[0].dtype)
    some = [grad.to(dtype) if grad.numel() else grad.new_zeros(1, dtype=dtype) for grad in grads]
    norms = torch._foreach_norm(some, norm_type)
    return [norm.full_tensor() if hasattr(norm, "full_tensor") else norm for norm in norms]


def _rows(p: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the place of one lookup of each row, int64 (k,), and the row's sum, (k, dim)."""
    ids, values = grad._indices()[0], grad._values()
    if compiled.usable(p, values):
        fused = compiled.touched_rows(ids, values, len(p))
        if fused is not None and fused.order is not None and fused.start is not None:
            return fused.order[fused.start[:-1]].long(), compiled.sum_rows(fused)
    touched = TouchedRows.unique(ids, values)
    assert touched.slot is not None
    lookups = torch.empty_like(touched.rows)
    lookups.scatter_(0, touched.slot, torch.arange(len(ids), device=ids.device))
    return lookups, touched.gradient()  # in at least float32, as sums of float16 may overflow

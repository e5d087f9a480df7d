"""Random rows that depend on the row's number alone, so that each can be drawn on any machine."""

import torch
from torch import Tensor


def normal_rows(seed: int, rows: Tensor, dim: int) -> Tensor:
    """Draws standard normal rows, float32 (k, dim), each from the seed and its number in `rows`.

    The numbers are hashed with SplitMix64 (Steele, Lea and Flood 2014), and pairs of the uniforms
    become normals by the method of Box and Muller.
    """
    at = torch.arange(2 * dim, device=rows.device) + 2 * dim * rows[:, None]  # (k, 2 dim)
    bits = _hashed(at + _signed(seed * 0x9E3779B97F4A7C15))
    uniform = ((bits >> 11) & ((1 << 53) - 1)).double().add_(0.5).mul_(2.0**-53)  # in (0, 1)
    radius, angle = uniform.split(dim, dim=1)
    return radius.log().mul_(-2).sqrt_().mul_(angle.mul(2 * torch.pi).cos_()).float()


def _hashed(x: Tensor) -> Tensor:
    """Mixes the bits of each number, int64, by SplitMix64."""
    x = x * _signed(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = (x ^ _shifted(x, shift)) * _signed(factor)
    return x ^ _shifted(x, 31)


def _shifted(x: Tensor, by: int) -> Tensor:
    """Shifts right and fills with zeros, where `>>` would repeat the sign."""
    return (x >> by) & ((1 << (64 - by)) - 1)


def _signed(number: int) -> int:
    """Returns the int64 with the lower 64 bits of a number."""
    return (number + 2**63) % 2**64 - 2**63

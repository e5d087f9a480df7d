"""The reference against torch's own dense optimizers and against numbers worked out by hand."""

import pytest
import torch

from multiepoch.optim import AdaptiveRegularization, FrequencyAdaptiveLR
from multiepoch.optim.reference import fal_factor, new_state, reference_step


@pytest.mark.parametrize(
    ("rule", "dense"),
    [
        ("adam", lambda params: torch.optim.Adam(params, lr=0.1)),
        ("adagrad", lambda params: torch.optim.Adagrad(params, lr=0.1, eps=1e-8)),
        ("sgd", lambda params: torch.optim.SGD(params, lr=0.1)),
    ],
)
def test_agrees_with_torch_where_every_row_is_touched(rule, dense):
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(6, 3, generator=generator, dtype=torch.float64)
    other = table.clone().requires_grad_()
    optimizer, state = dense([other]), new_state(table)
    for _ in range(5):
        grad = torch.randn(6, 3, generator=generator, dtype=torch.float64)
        other.grad = grad.clone()
        optimizer.step()
        reference_step(table, grad, torch.ones(6, dtype=torch.float64), state, 0.1, rule)
    torch.testing.assert_close(table, other.detach(), rtol=1e-12, atol=1e-12)


def test_rowwise_adagrad_by_hand():
    table = torch.zeros(2, 2, dtype=torch.float64)
    state = new_state(table)
    grad = torch.tensor([[3.0, 4.0], [0.0, 0.0]], dtype=torch.float64)
    reference_step(table, grad, torch.tensor([1.0, 0.0]), state, 1.0, "rowwise_adagrad", eps=0.0)
    # mean of squares (9 + 16) / 2, so both weights are divided by sqrt(12.5)
    expected = torch.tensor([[-3.0, -4.0], [0.0, 0.0]], dtype=torch.float64) / 12.5**0.5
    torch.testing.assert_close(table, expected)


def test_scales_by_hand():
    count = torch.tensor([0.0, 1.0, 3.0, 15.0], dtype=torch.float64)

    def factor(epoch=0, **options):
        return fal_factor(count, FrequencyAdaptiveLR(**options), epoch).tolist()

    assert factor(scale="log") == pytest.approx([0, 1 / 4, 1 / 2, 1])
    assert factor(scale="linear") == pytest.approx([0, 1 / 15, 1 / 5, 1])
    assert factor(scale="power", exponent=2.0) == pytest.approx([0, 1 / 225, 1 / 25, 1])
    assert factor(scale="threshold", threshold=3, reduced=0.2) == pytest.approx([0.2, 0.2, 1, 1])
    # the gap halves with each epoch
    assert factor(scale="log", gap_decay=0.5, epoch=2) == pytest.approx([3 / 4, 13 / 16, 7 / 8, 1])


def test_adaptive_regularization_by_hand():
    """A row that waits two steps keeps 1 - 2 alpha of its weight; in a row, it keeps all."""
    table = torch.ones(1, 1, dtype=torch.float64)
    state, none = new_state(table), torch.zeros(1, 1, dtype=torch.float64)
    decay = AdaptiveRegularization(0.1)
    for seen, expected in ((1, 1.0), (1, 1.0), (0, 1.0), (0, 1.0), (1, 0.8), (1, 0.8)):
        reference_step(table, none, torch.tensor([float(seen)]), state, 1.0, row_decay=decay)
        assert table.item() == pytest.approx(expected)

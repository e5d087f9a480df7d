"""How large the gradient of a lookup is: `lookup_gradients`."""

import pytest
import torch
from torch import nn

from multiepoch.optim import EmbeddingOptimizer, lookup_gradients

FACTORS = (1.0, 3.0, 10.0)  # of the lookups' gradients, by batch


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.user = nn.Embedding(9, 2, sparse=True)
        self.item = nn.Embedding(9, 4, sparse=True)
        self.other = nn.Embedding(9, 2)

    def losses(self):
        ids = torch.tensor([1, 1, 2])
        weights = torch.tensor([1.0, 3.0, 2.0])[:, None]
        for factor in FACTORS:
            rows = self.user(ids), 2 * self.item(ids), self.other(ids)
            yield factor * sum((weights * row).sum() for row in rows)


@pytest.mark.parametrize("batches, median", [(300, 3.0), (1, 1.0)])
def test_the_median_of_the_squares_is_measured_and_no_weight_changes(batches, median, capsys):
    model = Model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = lookup_gradients(model, model.losses(), batches, c=4.0)
    # by batch the median lookup has the weight 2
    square = (2 * median) ** 2
    assert found == pytest.approx({"user.weight": square, "item.weight": 4 * square})
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    assert all(parameter.grad is None for parameter in model.parameters())
    head, user, item, both = capsys.readouterr().out.splitlines()
    assert head.split()[-2:] == ["eps", "initial_accumulator_value"]
    lookups = str(3 * min(batches, len(FACTORS)))
    for line, its in ((user, square), (item, 4 * square), (both, 2.5 * square)):
        assert line.split()[-3:] == [f"{its:.1e}", f"{(4 * its) ** 0.5:.1e}", f"{4 * its:.1e}"]
    assert user.split()[:2] == ["user.weight", lookups]


def test_losses_may_step_with_the_gradients_that_were_measured():
    model = Model()
    optimizer = EmbeddingOptimizer([model.user.weight], 1.0, "sgd")
    before = model.user.weight.detach().clone()

    def losses():
        for loss in model.losses():
            yield loss
            optimizer.step()

    lookup_gradients(model, losses())
    moved = before - model.user.weight.detach()
    torch.testing.assert_close(moved[1:3, 0], sum(FACTORS) * torch.tensor([4.0, 2.0]))


@pytest.mark.parametrize("batches", [0, 300])
def test_a_model_without_sparse_gradients_is_refused(batches):
    model = nn.Linear(2, 1) if batches else Model()
    losses = [model(torch.ones(1, 2)).sum()] if batches else model.losses()
    with pytest.raises(ValueError, match="lookup_gradients: no table had a sparse gradient"):
        lookup_gradients(model, losses, batches)

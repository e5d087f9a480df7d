"""Models of others, whose tables are made sparse."""

import pytest
import torch
from torch import nn

from multiepoch.optim import SparseOptimizer, make_sparse


class Model(nn.Module):
    """Tables of several kinds, as a library would build them."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.user = nn.Embedding(200, 4)
        self.words = nn.ModuleDict({"bag": nn.EmbeddingBag(100, 4, mode="mean")})
        self.country = nn.Embedding(20, 4)
        self.tower = nn.Linear(4, 1)

    def forward(self, ids):
        rows = self.user(ids[:, 0]) + self.words.bag(ids % 100) + self.country(ids[:, 1] % 20)
        return self.tower(rows).squeeze(1)


IDS = torch.randint(200, (64, 3), generator=torch.Generator().manual_seed(0))


def test_large_tables_are_changed_and_named():
    model = Model()
    before = dict(model.named_parameters())
    assert make_sparse(model, 100) == {"user.weight": (200, 4), "words.bag.weight": (100, 4)}
    assert all(before[name] is p for name, p in model.named_parameters())
    model(IDS).sum().backward()
    grads = {name: p.grad.is_sparse for name, p in model.named_parameters()}
    sparse = {"user.weight", "words.bag.weight"}
    assert {name for name, is_sparse in grads.items() if is_sparse} == sparse
    assert make_sparse(model, 100) == {}


def test_the_model_learns_the_same():
    models, losses = (Model(), Model()), ([], [])
    make_sparse(models[1], 1)
    optimizers = (
        torch.optim.SGD(models[0].parameters(), 0.1),
        SparseOptimizer.from_model(models[1], 0.1, 0.1, dense=torch.optim.SGD, rule="sgd"),
    )
    for model, optimizer, seen in zip(models, optimizers, losses):
        for _ in range(5):
            optimizer.zero_grad()
            loss = (model(IDS) - 1).square().mean()
            loss.backward()
            optimizer.step()
            seen.append(loss.item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def tied(model):
    model.head = nn.Linear(4, 200, bias=False)
    model.head.weight = model.user.weight


def by_frequency(model):
    model.user.scale_grad_by_freq = True


def largest(model):
    model.words.bag.mode = "max"


@pytest.mark.parametrize(
    ("change", "name", "why"),
    [
        (tied, "user", "head uses it, too"),
        (by_frequency, "user", "user has scale_grad_by_freq=True"),
        (largest, "words.bag", r"words\.bag has mode='max'"),
    ],
)
def test_a_table_that_torch_gives_no_sparse_gradient_is_named_with_the_reason(change, name, why):
    model = Model()
    change(model)
    with pytest.warns(UserWarning, match=rf"{name}\.weight \(\d+ x 4\) keeps .* since {why}"):
        changed = make_sparse(model, 100)
    assert f"{name}.weight" not in changed and len(changed) == 1
    assert not model.get_submodule(name).sparse


def test_a_model_without_sparse_tables_is_refused_by_their_names():
    with pytest.raises(ValueError, match=r"are user.weight \(200 x 4\), .*make_sparse\(model\)"):
        SparseOptimizer.from_model(Model(), 0.1, 0.1)

"""Tables that change their shape or dtype while they are trained: refused, or grown with state."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.exactness import paths
from multiepoch.optim import (
    AdaptiveRegularization,
    EmbeddingOptimizer,
    FrequencyAdaptiveLR,
    SparseOptimizer,
)
from multiepoch.optim.rules import RULES

FAL, AR = FrequencyAdaptiveLR(), AdaptiveRegularization(0.1)


def trained(path=None, rule="adam", n_rows=6):
    """A table "users" after a step over rows 1, 4, 4."""
    layer = nn.Embedding(n_rows, 3, sparse=True)
    options = dict(rule=rule, row_lr=FAL, row_decay=AR)
    optimizer = EmbeddingOptimizer([("users", layer.weight)], 0.1, **options)
    optimizer._path = path
    step(layer, optimizer, [1, 4, 4])
    return layer, optimizer


def step(layer, optimizer, ids):
    optimizer.zero_grad()
    layer(torch.tensor(ids)).square().sum().backward()
    optimizer.step()


@pytest.mark.parametrize("path", paths())
@pytest.mark.parametrize("n_rows", [4, 4000])
def test_a_table_of_another_length_is_refused_by_name(path, n_rows):
    layer, optimizer = trained(path)
    layer.weight.data = torch.randn(n_rows, 3)
    before = copy.deepcopy((layer.weight, dict(optimizer.state[layer.weight])))
    with pytest.raises(RuntimeError, match=rf"table 'users' is now .*\({n_rows}, 3\).*grow_table"):
        step(layer, optimizer, [3])
    assert torch.equal(layer.weight, before[0])
    assert all(torch.equal(optimizer.state[layer.weight][k], v) for k, v in before[1].items())


@pytest.mark.parametrize("row_lr", [None, FAL])
def test_new_rows_have_accumulators_at_their_start(row_lr):
    layer = nn.Embedding(6, 3, sparse=True)
    options = dict(rule="rowwise_adagrad", initial_accumulator_value=0.5, row_lr=row_lr)
    optimizer = EmbeddingOptimizer([("users", layer.weight)], 0.1, **options)
    step(layer, optimizer, [1, 4, 4])
    before = optimizer.state[layer.weight]["sum"].clone()
    optimizer.grow_table("users", 2)
    step(layer, optimizer, [7])
    grown = optimizer.state[layer.weight]["sum"]
    assert torch.equal(grown[:6], before) and grown[6] == 0.5 and grown[7] > 0.5


def test_a_gradient_of_the_table_before_it_changed_is_refused():
    layer = nn.Embedding(6, 3, sparse=True)
    optimizer = EmbeddingOptimizer([("users", layer.weight)], 0.1)
    layer(torch.tensor([1])).sum().backward()
    layer.weight.data = torch.randn(3, 3)
    with pytest.raises(
        RuntimeError, match=r"'users' is .*\(3, 3\).*, but its gradient is .*\(6, 3\)"
    ):
        optimizer.step()


def test_a_table_that_changed_its_dtype_is_refused():
    layer, optimizer = trained()
    layer.bfloat16()
    step(layer, optimizer, [1])  # the state of a bfloat16 table is float32, too
    layer.double()
    with pytest.raises(
        (RuntimeError, TypeError), match=r"'users' is (now )?torch\.float64"
    ) as error:
        step(layer, optimizer, [1])
    assert "grow_table" not in str(error.value)


@pytest.mark.parametrize("path", paths())
def test_state_in_another_order_of_memory_is_read_right(path):
    (layer, optimizer), (other, transposed) = trained(path), trained(path)
    other.weight.data.copy_(layer.weight)
    for name, value in optimizer.state[layer.weight].items():
        its = value.t().contiguous().t() if value.dim() == 2 else value.clone()
        transposed.state[other.weight][name] = its
    for each, its in ((layer, optimizer), (other, transposed)):
        step(each, its, [1, 2])
    assert torch.equal(layer.weight, other.weight)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("path", paths())
def test_a_grown_table_trains_as_one_that_was_larger_from_the_start(rule, path):
    grown, optimizer = trained(path, rule)
    more = torch.randn(4, 3)
    large = nn.Embedding(10, 3, sparse=True)
    by_size = EmbeddingOptimizer([large.weight], 0.1, rule=rule, row_lr=FAL, row_decay=AR)
    by_size._path = path
    weight = grown.weight
    optimizer.grow_table("users", more)
    assert grown.weight is weight and weight.shape == (10, 3) and weight.grad is None
    assert torch.equal(weight[6:], more)
    large.weight.data.copy_(weight)
    for name, value in optimizer.state[weight].items():
        by_size.state[large.weight][name] = value.clone()
    for ids in ([9, 1, 9, 2], [0, 8, 9]):
        step(grown, optimizer, ids)
        step(large, by_size, ids)
    assert torch.equal(weight, large.weight)
    for name, value in optimizer.state[weight].items():
        assert torch.equal(value, by_size.state[large.weight][name]), name


def test_a_table_may_grow_while_the_loss_of_an_earlier_step_is_alive():
    layer, optimizer = trained()
    loss = layer(torch.tensor([1, 2])).square().sum()
    loss.backward(retain_graph=True)
    optimizer.step()
    optimizer.grow_table("users", 1)
    before = layer.weight.detach().clone()
    step(layer, optimizer, [6, 2])
    assert (layer.weight != before).any(dim=1).tolist() == [False, False, True, *[False] * 3, True]
    optimizer.zero_grad()
    loss.backward()  # a gradient of the smaller table
    with pytest.raises(RuntimeError, match="clear the gradients after changing a table"):
        optimizer.step()


def test_rows_drawn_by_number_are_like_the_table():
    layer = nn.Embedding(2000, 8, sparse=True)
    layer.weight.data.mul_(0.01).add_(0.5)
    EmbeddingOptimizer([layer.weight], 0.1).grow_table(layer.weight, 2000)
    new = layer.weight[2000:]
    assert new.mean().item() == pytest.approx(0.5, abs=1e-3)
    assert new.std().item() == pytest.approx(0.01, rel=0.05)


def test_the_pair_grows_model_and_state_together():
    model = nn.ModuleDict({"users": nn.Embedding(6, 3, sparse=True), "tower": nn.Linear(3, 1)})
    optimizer = SparseOptimizer.from_model(model, 0.01, 0.1)
    optimizer.grow_table("users.weight", 5)
    assert model.users.num_embeddings == 11
    assert "11 x 3" in str(optimizer)
    before = model.users.weight.detach().clone()
    model.tower(model.users(torch.tensor([10]))).sum().backward()
    optimizer.step()
    assert (model.users.weight != before).any(dim=1).tolist() == [False] * 10 + [True]


def test_rows_of_another_width_and_strange_tables_are_refused():
    layer, optimizer = trained()
    with pytest.raises(ValueError, match=r"shape \(2, 4\).*rows of 3 weights"):
        optimizer.grow_table("users", torch.zeros(2, 4))
    for other in (-1, 2.5, [[1.0] * 3], np.ones((2, 3))):
        with pytest.raises(ValueError, match="give a number of rows, or a tensor of rows"):
            optimizer.grow_table("users", other)
    with pytest.raises(ValueError, match=r"table 'products' is in none.*'users'"):
        optimizer.grow_table("products", 2)
    empty = nn.Embedding(0, 3, sparse=True)
    optimizer = EmbeddingOptimizer([empty.weight], 0.1)
    with pytest.raises(ValueError, match=r"shape \(0, 3\) has no standard deviation"):
        optimizer.grow_table(empty.weight, 2)
    optimizer.grow_table(empty.weight, torch.ones(2, 3))
    assert empty.weight.tolist() == [[1.0] * 3] * 2
    assert layer.weight.shape == (6, 3)
    optimizer.grow_table(empty.weight, np.int64(2))
    assert empty.weight.shape == (4, 3)


def test_state_of_an_option_that_is_off_grows_too():
    table = nn.Embedding(20, 4, sparse=True)
    optimizer = EmbeddingOptimizer([table.weight], 0.1, row_lr=FrequencyAdaptiveLR())

    def step(ids):
        optimizer.zero_grad()
        table(torch.tensor(ids)).square().sum().backward()
        optimizer.step()

    step([1, 1, 2])
    (group,) = optimizer.param_groups
    option, group["row_lr"] = group["row_lr"], None
    optimizer.grow_table(table.weight, 5)
    group["row_lr"] = option
    step([1, 24])
    counts = optimizer.state[table.weight]["count"]
    assert counts[[1, 2, 24]].tolist() == [3, 1, 1]


def test_a_hook_may_clear_the_gradients():
    table = nn.Embedding(9, 4, sparse=True)
    optimizer = EmbeddingOptimizer([table.weight], 0.1, rule="sgd")

    def clear(param, rows, occurrences):
        param.grad = None

    optimizer.register_row_hook(clear)
    before = table.weight.detach().clone()
    table(torch.tensor([3])).sum().backward()
    optimizer.step()
    assert (table.weight != before).any(dim=1).nonzero().tolist() == [[3]]

"""All four rules as torch's own tests treat each of its optimizers (OptimizerInfo)."""

import copy
from functools import partial

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adagrad, SparseAdam
from torch.optim.lr_scheduler import ExponentialLR

from multiepoch.optim import EmbeddingOptimizer
from multiepoch.optim.rules import RULES

# torch's optimizer of the same rule for sparse gradients. SparseAdam adds eps in another place.
EPS = {"adam": 1e-20, "adagrad": 1e-8, "sgd": 1e-8}
THEIRS = {
    "adam": partial(SparseAdam, eps=EPS["adam"]),
    "adagrad": partial(Adagrad, eps=EPS["adagrad"]),
    "sgd": SGD,
}
DTYPES = {torch.float64: 1e-12, torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 4e-2}

each_rule = pytest.mark.parametrize("rule", RULES)
each_fused = pytest.mark.parametrize("fused", [None, False])


OPTIONS = {
    "default": {},
    "another lr": {"lr": 0.02},
    "tensor lr": {"lr": torch.tensor(0.02, dtype=torch.float64)},
    "not fused": {"fused": False},
}
each_option = pytest.mark.parametrize("option", OPTIONS)


def layer(dtype=torch.float32, n_rows=12):
    torch.manual_seed(0)
    return nn.Embedding(n_rows, 5, sparse=True, dtype=dtype)


def train(table, optimizer, steps):
    """Returns the last loss; its gradient at each lookup is between 1 and 2."""
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        optimizer.zero_grad()
        ids = torch.randint(len(table.weight), (20,), generator=generator)
        weights = 1 + torch.rand(20, 5, generator=generator).to(table.weight.dtype)
        loss = (table(ids) * weights).sum()
        loss.backward()
        optimizer.step()
    return loss.item()


def ours(table, rule, **options):
    return EmbeddingOptimizer(table.parameters(), rule=rule, **{"lr": 0.05, **options})


@pytest.mark.parametrize("rule", THEIRS)
@pytest.mark.parametrize("dtype", DTYPES)
@each_option
def test_agrees_with_torchs_sparse_optimizer(rule, option, dtype):
    theirs = {k: v for k, v in OPTIONS[option].items() if k != "fused"}
    theirs["lr"] = float(theirs.get("lr", 0.05))  # a tensor is not for every version of torch
    tables = layer(dtype), layer(dtype)
    train(tables[0], ours(tables[0], rule, eps=EPS[rule], **OPTIONS[option]), range(6))
    train(tables[1], THEIRS[rule](tables[1].parameters(), **theirs), range(6))
    tolerance = DTYPES[dtype]
    torch.testing.assert_close(*(t.weight for t in tables), rtol=tolerance, atol=tolerance)


@each_rule
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_state_is_in_at_least_float32(rule, dtype):
    table = layer(dtype)
    optimizer = ours(table, rule)
    train(table, optimizer, range(2))
    state = optimizer.row_state(table.weight)
    expected = torch.float64 if dtype == torch.float64 else torch.float32
    assert {value.dtype for value in state.values()} <= {expected}
    assert table.weight.dtype == dtype


@each_rule
@each_fused
def test_a_tensor_as_lr_does_what_the_number_does(rule, fused):
    tables = layer(), layer()
    for table, lr in zip(tables, (0.05, torch.tensor(0.05, dtype=torch.float64))):
        optimizer = ours(table, rule, lr=lr, fused=fused)
        scheduler = ExponentialLR(optimizer, 0.5)
        for step in range(4):
            train(table, optimizer, [step])
            scheduler.step()
    assert torch.equal(tables[0].weight, tables[1].weight)


@pytest.mark.parametrize("lr", [torch.tensor([0.1, 0.2]), -1.0, "0.1"])
def test_a_wrong_lr_is_refused_as_in_torch(lr):
    with pytest.raises(ValueError, match="lr="):
        ours(layer(), "adam", lr=lr)


@pytest.mark.parametrize("name", ["foreach", "capturable", "differentiable"])
def test_what_sparse_adam_does_not_know_is_refused(name):
    for optimizer in (partial(SparseAdam, lr=0.1), partial(EmbeddingOptimizer, lr=0.1)):
        with pytest.raises(TypeError, match=f"unexpected keyword argument '{name}'"):
            optimizer(layer().parameters(), **{name: True})


@each_rule
@each_option
def test_a_state_goes_into_another_optimizer(rule, option):
    table, straight = layer(), layer()
    train(straight, ours(straight, rule, **OPTIONS[option]), range(6))
    optimizer = ours(table, rule, **OPTIONS[option])
    train(table, optimizer, range(3))
    resumed = ours(table, rule)
    calls = []
    resumed.register_load_state_dict_pre_hook(lambda *_: calls.append("before"))
    resumed.register_load_state_dict_post_hook(lambda *_: calls.append("after"))
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train(table, resumed, range(3, 6))
    assert torch.equal(table.weight, straight.weight) and calls == ["before", "after"]


@each_rule
def test_a_step_without_gradients_changes_nothing(rule):
    table = layer()
    before = table.weight.detach().clone()
    optimizer = ours(table, rule)
    optimizer.step()
    assert torch.equal(table.weight, before) and not optimizer.state


def test_no_parameters_and_strangers_are_refused_as_in_torch():
    with pytest.raises(ValueError, match="empty parameter list"):
        EmbeddingOptimizer([], lr=0.1)
    with pytest.raises(TypeError):
        EmbeddingOptimizer([1.0], lr=0.1)
    table = layer().weight
    with pytest.raises(ValueError, match="more than one parameter group"):
        EmbeddingOptimizer([{"params": [table]}, {"params": [table]}], lr=0.1)

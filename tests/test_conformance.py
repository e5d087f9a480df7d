"""All four rules as torch's own tests treat each of its optimizers (OptimizerInfo)."""

import copy
import pickle
from dataclasses import dataclass
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


@dataclass
class Options:
    """A set of arguments, as in torch's OptimizerInput."""

    options: dict
    name: str


OPTIONS = [
    Options({}, "default"),
    Options({"lr": 0.02}, "another lr"),
    Options({"maximize": True}, "maximize"),
    Options({"lr": torch.tensor(0.02, dtype=torch.float64)}, "tensor lr"),
    Options({"lr": torch.tensor([0.02]).double(), "maximize": True}, "tensor lr, maximize"),
    Options({"fused": False}, "not fused"),
]
each_option = pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)


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


@each_rule
@each_option
def test_the_loss_goes_where_it_should(rule, option):
    table = layer()
    optimizer = ours(table, rule, **option.options)
    first, last = train(table, optimizer, [0]), train(table, optimizer, [1] * 30)
    assert last > first if option.options.get("maximize") else last < first


@pytest.mark.parametrize("rule", THEIRS)
@pytest.mark.parametrize("dtype", DTYPES)
@each_option
def test_agrees_with_torchs_sparse_optimizer(rule, option, dtype):
    theirs = {k: v for k, v in option.options.items() if k != "fused"}
    theirs["lr"] = float(theirs.get("lr", 0.05))  # a tensor is not for every version of torch
    tables = layer(dtype), layer(dtype)
    train(tables[0], ours(tables[0], rule, eps=EPS[rule], **option.options), range(6))
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
def test_maximize_is_the_negative_gradient(rule, fused):
    up, down = layer(), layer()
    down.weight.data.neg_()
    train(up, ours(up, rule, maximize=True, fused=fused), range(4))
    train(down, ours(down, rule, fused=fused), range(4))
    torch.testing.assert_close(up.weight, -down.weight)


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
def test_hooks_of_step_run_once_each_and_in_order(rule):
    table, calls = layer(), []
    optimizer = ours(table, rule)
    optimizer.register_step_pre_hook(lambda *_: calls.append("before"))
    optimizer.register_step_post_hook(lambda *_: calls.append("after"))
    train(table, optimizer, range(2))
    assert calls == ["before", "after"] * 2


@each_rule
@each_option
def test_a_state_goes_into_another_optimizer(rule, option):
    table, straight = layer(), layer()
    train(straight, ours(straight, rule, **option.options), range(6))
    optimizer = ours(table, rule, **option.options)
    train(table, optimizer, range(3))
    resumed = ours(table, rule)
    calls = []
    resumed.register_load_state_dict_pre_hook(lambda *_: calls.append("before"))
    resumed.register_load_state_dict_post_hook(lambda *_: calls.append("after"))
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train(table, resumed, range(3, 6))
    assert torch.equal(table.weight, straight.weight) and calls == ["before", "after"]


@each_rule
def test_an_older_state_loads(rule):
    """One from before an option was added."""
    straight = layer()
    train(straight, ours(straight, rule), range(4))
    table = layer()
    optimizer = ours(table, rule)
    train(table, optimizer, range(2))
    state = optimizer.state_dict()
    for name in ("maximize", "fused", "weight_decay", "param_names"):
        state["param_groups"][0].pop(name, None)
    resumed = ours(table, rule)
    resumed.load_state_dict(state)
    train(table, resumed, range(2, 4))
    assert torch.equal(table.weight, straight.weight)


@each_rule
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))])
def test_a_copy_is_whole(rule, duplicate):
    table = layer()
    optimizer = ours(table, rule)
    train(table, optimizer, range(2))
    other, copied = duplicate((table, optimizer))
    train(table, optimizer, range(2, 4))
    train(other, copied, range(2, 4))
    assert torch.equal(table.weight, other.weight)


@each_rule
def test_groups_have_their_own_options_and_a_frozen_one_does_not_move(rule):
    tables = [layer(n_rows=n) for n in (6, 7, 8)]
    groups = [
        {"params": [tables[0].weight]},
        {"params": [tables[1].weight], "lr": 0.0},
        {"params": [tables[2].weight], "maximize": True},
    ]
    before = [t.weight.detach().clone() for t in tables]
    optimizer = EmbeddingOptimizer(groups, lr=0.05, rule=rule)
    for table in tables:
        table(torch.arange(5)).sum().backward()
    optimizer.step()
    moves = [(t.weight.detach() - b)[:5].sign().unique().tolist() for t, b in zip(tables, before)]
    assert moves == [[-1.0], [0.0], [1.0]]


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

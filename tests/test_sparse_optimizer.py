"""The pair of optimizers: who gets which parameter, schedulers, restart, hooks."""

import copy
import warnings
from functools import partial

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from multiepoch.optim.embedding import EmbeddingOptimizer
from multiepoch.optim.sparse import SparseOptimizer

DENSE_LR, EMBEDDING_LR = 1e-3, 2e-2


class Model(nn.Module):
    """Two sparse tables, one small dense one, a tower."""

    def __init__(self, seed: int = 0):
        super().__init__()
        torch.manual_seed(seed)
        self.user = nn.Embedding(50, 4, sparse=True)
        self.product = nn.EmbeddingBag(70, 6, sparse=True, mode="mean")
        self.country = nn.Embedding(5, 2)
        self.tower = nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 1))

    def forward(self, user, product, country):
        x = torch.cat([self.user(user), self.product(product), self.country(country)], 1)
        return self.tower(x).squeeze(1)


def batch(step: int, n: int = 32):
    generator = torch.Generator().manual_seed(step)
    draw = partial(torch.randint, generator=generator)
    return draw(50, (n,)), draw(70, (n, 3)), draw(5, (n,)), draw(2, (n,)).float()


def test_rates_and_starts_may_be_given_by_table():
    model = Model()
    options = dict(rule="rowwise_adagrad", eps={"user.weight": 1e-3, "product.weight": 1e-4})
    options["initial_accumulator_value"] = {"product.weight": 0.5, "user.weight": 0.25}
    rates = {"user.weight": 0.3, "product.weight": 0.1}
    optimizer = SparseOptimizer.from_model(model, DENSE_LR, rates, **options)
    train(model, optimizer, range(1))
    for name, eps, start in (("user.weight", 1e-3, 0.25), ("product.weight", 1e-4, 0.5)):
        group = optimizer.embedding.options(name)
        assert (group["lr"], group["eps"]) == (rates[name], eps)
        assert optimizer.state[group["params"][0]]["sum"].min() == start


@pytest.mark.parametrize("names", [["user.weight"], ["user.weight", "product.weight", "city"]])
@pytest.mark.parametrize("option", ["embedding_lr", "eps", "initial_accumulator_value"])
def test_a_mapping_by_table_that_does_not_fit_is_refused(option, names):
    options = dict(embedding_lr=0.1, rule="adagrad") | {option: dict.fromkeys(names, 0.1)}
    message = rf"{option} is for .*: give one for each of \['user.weight', 'product.weight'\]"
    with pytest.raises(ValueError, match=message):
        SparseOptimizer.from_model(Model(), DENSE_LR, **options)


def test_tables_that_are_all_frozen_are_named():
    model = Model()
    for table in (model.user, model.product):
        table.weight.requires_grad_(False)
    with pytest.raises(ValueError, match=r"are frozen, user\.weight, product\.weight: train the"):
        SparseOptimizer.from_model(model, DENSE_LR, EMBEDDING_LR)


def test_a_group_cannot_be_appended_to_a_list_that_nothing_reads():
    optimizer = SparseOptimizer.from_model(Model(), DENSE_LR, EMBEDDING_LR)
    with pytest.raises(AttributeError, match="append"):
        optimizer.param_groups.append({"params": [nn.Parameter(torch.zeros(2))]})


def train(model, optimizer, steps, scheduler=None):
    for step in steps:
        *inputs, label = batch(step)
        optimizer.zero_grad()
        nn.functional.binary_cross_entropy_with_logits(model(*inputs), label).backward()
        optimizer.step()
        if scheduler is not None:
            scheduler.step()


def pair(model, dense=torch.optim.Adam, **options):
    return SparseOptimizer.from_model(model, DENSE_LR, EMBEDDING_LR, dense=dense, **options)


def names(model, optimizer):
    name = {id(p): n for n, p in model.named_parameters()}
    return [name[id(p)] for group in optimizer.param_groups for p in group["params"]]


def test_from_model_sorts_every_parameter_once():
    model = Model()
    optimizer = pair(model)
    assert names(model, optimizer.embedding) == ["user.weight", "product.weight"]
    assert sorted(names(model, optimizer)) == sorted(n for n, _ in model.named_parameters())
    assert {group["lr"] for group in optimizer.dense.param_groups} == {DENSE_LR}
    assert {group["lr"] for group in optimizer.embedding.param_groups} == {EMBEDDING_LR}


def test_printing_it_says_what_went_where():
    model = Model()
    model.tower[2].bias.requires_grad_(False)
    lines = repr(pair(model)).splitlines()
    expected = {
        "user.weight": ["embedding", "50 x 4", "0.02"],
        "country.weight": ["dense", "5 x 2", "0.001", "an embedding without sparse=True"],
        "tower.2.bias": ["frozen"],
    }
    for name, parts in expected.items():
        (line,) = [line for line in lines if name in line]
        assert line.startswith(parts[0]) and all(part in line for part in parts)


def test_a_weight_with_a_sparse_and_a_dense_user_is_refused_by_name():
    model = Model()
    model.head = nn.Linear(4, 50, bias=False)
    model.head.weight = model.user.weight
    with pytest.raises(ValueError, match=r"user\.weight is a sparse table in user, but head"):
        pair(model)


def test_a_model_without_tables_or_without_dense_parameters_is_refused():
    with pytest.raises(ValueError, match="sparse=True"):
        pair(nn.Sequential(nn.Embedding(3, 2), nn.Linear(2, 1)))
    with pytest.raises(ValueError, match="use EmbeddingOptimizer by itself"):
        pair(nn.Embedding(3, 2, sparse=True))


def test_a_parameter_in_neither_in_both_or_of_another_model_is_named():
    model = Model()
    tables = [model.user.weight, model.product.weight]
    others = [p for p in model.parameters() if all(p is not t for t in tables)]
    with pytest.raises(ValueError, match=r"product\.weight is in neither"):
        SparseOptimizer(torch.optim.Adam(others), EmbeddingOptimizer(tables[:1], lr=0.1), model)
    both = [*others, model.user.weight]
    with pytest.raises(ValueError, match=r"user\.weight is in the dense and in the embedding"):
        SparseOptimizer(torch.optim.Adam(both), EmbeddingOptimizer(tables, lr=0.1), model)
    stranger = nn.Parameter(torch.zeros(3, 9))
    with pytest.raises(ValueError, match=r"shape \(3, 9\) that is not the model's"):
        SparseOptimizer(
            torch.optim.Adam([*others, stranger]), EmbeddingOptimizer(tables, lr=0.1), model
        )
    with pytest.raises(TypeError, match="LBFGS"):
        SparseOptimizer(torch.optim.LBFGS(others), EmbeddingOptimizer(tables, lr=0.1), model)


@pytest.mark.parametrize(
    "dense",
    [
        torch.optim.Adam,
        torch.optim.AdamW,
        torch.optim.SGD,
        torch.optim.Adagrad,
        partial(torch.optim.RMSprop, momentum=0.9),
        partial(torch.optim.AdamW, foreach=True),
    ],
)
def test_the_pair_does_what_the_two_do_apart(dense):
    together, apart = Model(), Model()
    train(together, pair(together, dense), range(5))

    tables = [apart.user.weight, apart.product.weight]
    others = [p for p in apart.parameters() if all(p is not t for t in tables)]
    first, second = dense(others, lr=DENSE_LR), EmbeddingOptimizer(tables, lr=EMBEDDING_LR)
    for step in range(5):
        *inputs, label = batch(step)
        apart.zero_grad()
        nn.functional.binary_cross_entropy_with_logits(apart(*inputs), label).backward()
        first.step()
        second.step()
    before = Model().state_dict()
    for name, value in together.state_dict().items():
        assert torch.equal(value, apart.state_dict()[name]), name
        assert not torch.equal(value, before[name]), name


def rates_of(optimizer):
    return [group["lr"] for group in optimizer.param_groups]


SCHEDULERS = {
    "LambdaLR": lambda o: lr_scheduler.LambdaLR(o, lambda step: 0.9**step),
    "warm-up from zero": lambda o: lr_scheduler.LambdaLR(o, lambda step: min(1.0, step / 4)),
    "LinearLR": lambda o: lr_scheduler.LinearLR(o, 0.1, total_iters=4),
    "StepLR": lambda o: lr_scheduler.StepLR(o, 2),
    "CosineAnnealingLR": lambda o: lr_scheduler.CosineAnnealingLR(o, 10),
    "OneCycleLR": lambda o: lr_scheduler.OneCycleLR(o, max_lr=rates_of(o), total_steps=10),
    "SequentialLR": lambda o: lr_scheduler.SequentialLR(
        o,
        [lr_scheduler.LinearLR(o, 0.1, total_iters=3), lr_scheduler.ExponentialLR(o, 0.8)],
        milestones=[3],
    ),
}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_schedulers_change_both_rates_and_keep_their_ratio(name):
    model = Model()
    optimizer = pair(model)
    scheduler = SCHEDULERS[name](optimizer)
    seen = set()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for step in range(8):
            dense, *tables = rates_of(optimizer)
            seen.add(dense)
            for table in tables:
                assert table == pytest.approx(dense * EMBEDDING_LR / DENSE_LR)
            train(model, optimizer, [step], scheduler)
    assert len(seen) > 2
    assert rates_of(optimizer.embedding) == rates_of(optimizer)[-2:]


@pytest.mark.parametrize("rule", ["adam", "sgd"])
def test_one_cycle_moves_the_momentum_of_a_dense_sgd(rule):
    model = Model()
    optimizer = pair(model, partial(torch.optim.SGD, momentum=0.9), rule=rule)
    scheduler = SCHEDULERS["OneCycleLR"](optimizer)
    seen = set()
    for step in range(8):
        seen.add(optimizer.dense.param_groups[0]["momentum"])
        train(model, optimizer, [step], scheduler)
    assert len(seen) > 2 and max(seen) == 0.95
    other = pair(Model(), partial(torch.optim.SGD, momentum=0.9), rule=rule)
    other.load_state_dict(optimizer.state_dict())
    assert other.dense.param_groups[0]["momentum"] == optimizer.dense.param_groups[0]["momentum"]


def test_one_rate_for_all_groups_is_warned_of_once():
    model = Model()
    optimizer = pair(model)
    scheduler = lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=10)
    with pytest.warns(UserWarning, match="ratio of the tables' learning rates"):
        train(model, optimizer, [0], scheduler)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(model, optimizer, range(1, 4), scheduler)


@pytest.mark.parametrize("frozen", ["dense", "embedding"])
def test_a_changed_ratio_is_warned_of_although_a_rate_is_zero(frozen):
    """The first group's rate is the dense one, which may be frozen; the tables have two groups."""
    model = Model()
    optimizer = pair(model)
    for group in getattr(optimizer, frozen).param_groups[:1]:
        group["lr"] = 0.0
    optimizer.keep_ratio()
    scheduler = lr_scheduler.ExponentialLR(optimizer, 0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(model, optimizer, range(3), scheduler)
    optimizer.embedding.param_groups[1]["lr"] = 0.9
    getattr(optimizer, frozen).param_groups[0]["lr"] = 0.8
    with pytest.warns(UserWarning, match="ratio of the tables' learning rates"):
        train(model, optimizer, [3])


def test_the_ratio_of_a_loaded_state_is_the_one_to_keep():
    model = Model()
    saved = SparseOptimizer.from_model(model, DENSE_LR, 7 * EMBEDDING_LR).state_dict()
    optimizer = pair(model)
    optimizer.load_state_dict(saved)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(model, optimizer, [0])


def test_the_state_of_something_else_is_refused():
    model = Model()
    optimizer = pair(model)
    with pytest.raises(ValueError, match="no state of a SparseOptimizer"):
        optimizer.load_state_dict(optimizer.dense.state_dict())


def test_a_state_whose_dense_half_does_not_fit_changes_nothing():
    model, other = Model(), Model()
    optimizer, another = pair(model), pair(other)
    train(model, optimizer, range(2))
    train(other, another, range(5))
    state, before = another.state_dict(), copy.deepcopy(optimizer.state_dict())
    state["param_groups"][0]["params"].pop()
    with pytest.raises(ValueError, match="parameter group"):
        optimizer.load_state_dict(state)
    now = optimizer.state_dict()["state"]
    for key, values in before["state"].items():
        assert all(torch.equal(values[name], now[key][name]) for name in values)


def test_a_copy_goes_its_own_way():
    model = Model()
    optimizer = pair(model)
    train(model, optimizer, range(2))
    other_model, other = copy.deepcopy((model, optimizer))
    train(other_model, other, range(2, 4))
    assert not torch.equal(other_model.user.weight, model.user.weight)
    train(model, optimizer, range(2, 4))
    assert torch.equal(other_model.user.weight, model.user.weight)
    assert torch.equal(other_model.tower[0].weight, model.tower[0].weight)


def test_closure_is_called_once_and_its_value_returned():
    model = Model()
    optimizer = pair(model)
    before = model.user.weight.detach().clone()
    calls = []

    def closure():
        *inputs, label = batch(0)
        optimizer.zero_grad()
        loss = nn.functional.binary_cross_entropy_with_logits(model(*inputs), label)
        loss.backward()
        calls.append(loss)
        return loss

    assert optimizer.step(closure) is calls[0]
    assert len(calls) == 1
    assert not torch.equal(model.user.weight, before)


def test_hooks_run_and_may_change_the_state():
    model = Model()
    optimizer = pair(model)
    seen = []
    optimizer.register_step_pre_hook(lambda *_: seen.append("pre"))
    optimizer.register_step_post_hook(lambda *_: seen.append("post"))
    train(model, optimizer, [0])
    assert seen == ["pre", "post"]
    optimizer.register_state_dict_pre_hook(lambda _: seen.append("saving"))
    optimizer.register_state_dict_post_hook(lambda _, state: {**state, "note": 1})
    assert optimizer.state_dict()["note"] == 1 and seen[2:] == ["saving"]
    with pytest.raises(RuntimeError, match=r"with optimizer\.dense or optimizer\.embedding"):
        optimizer.register_load_state_dict_pre_hook(lambda *_: None)


def test_a_refused_gradient_changes_nothing():
    model = Model()
    optimizer = pair(model)
    before = copy.deepcopy(model.state_dict())
    for p in model.parameters():
        p.grad = torch.ones_like(p)  # dense, for the tables too
    with pytest.raises(RuntimeError, match=r"'user\.weight' has a dense gradient.*sparse=True"):
        optimizer.step()
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_an_l2_penalty_on_a_table_is_named_as_a_cause():
    model = Model()
    optimizer = pair(model)
    *inputs, _ = batch(0)
    (model(*inputs).sum() + model.user.weight.square().sum()).backward()
    with pytest.raises(RuntimeError, match=r"'user\.weight' has a dense gradient.*L2 penalty"):
        optimizer.step()


def test_groups_are_added_to_one_of_the_two():
    model = Model()
    optimizer = pair(model)
    extra = nn.Parameter(torch.zeros(3))
    with pytest.raises(RuntimeError, match=r"optimizer\.dense or to optimizer\.embedding"):
        optimizer.add_param_group({"params": [extra]})
    optimizer.dense.add_param_group({"params": [extra], "lr": 0.5})
    assert 0.5 in rates_of(optimizer)

"""Saved states: torch's layout, its distributed tools, tables by name, other optimizers' states."""

import copy
from functools import partial

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    get_state_dict,
    set_optimizer_state_dict,
    set_state_dict,
)

from multiepoch.optim import (
    AdaptiveRegularization,
    EmbeddingOptimizer,
    FrequencyAdaptiveLR,
    SparseOptimizer,
)
from multiepoch.optim.rules import RULES

OPTIONS = dict(row_lr=FrequencyAdaptiveLR(gap_decay=0.5), row_decay=AdaptiveRegularization(0.01))


class Model(nn.Module):
    """Two tables of one shape and a tower."""

    def __init__(self, seed=0, sparse=True, swapped=False):
        super().__init__()
        torch.manual_seed(seed)
        for name in ("product", "user") if swapped else ("user", "product"):
            setattr(self, name, nn.Embedding(20, 4, sparse=sparse))
        self.tower = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 1))

    def forward(self, ids):
        return self.tower(torch.cat([self.user(ids[:, 0]), self.product(ids[:, 1])], 1))


def train(model, optimizer, steps):
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        optimizer.zero_grad()
        ids = torch.randint(20, (16, 2), generator=generator)
        (model(ids).squeeze(1) - torch.rand(16, generator=generator)).square().sum().backward()
        optimizer.step()


def pair(model, **options):
    return SparseOptimizer.from_model(model, 1e-2, 5e-2, **(options or OPTIONS))


def assert_same(model, other):
    for (name, value), its in zip(model.state_dict().items(), other.state_dict().values()):
        assert torch.equal(value, its), name


@pytest.fixture
def straight():
    """A model after eight steps without a break."""
    model = Model()
    train(model, pair(model), range(8))
    return model


@pytest.fixture
def halfway():
    model = Model()
    optimizer = pair(model)
    train(model, optimizer, range(4))
    return model, optimizer


# --- torch's layout -----------------------------------------------------------------------------


def test_the_layout_is_that_of_one_torch_optimizer(halfway):
    model, optimizer = halfway
    state = optimizer.state_dict()
    assert state.keys() == {"state", "param_groups"}
    numbers = [key for group in state["param_groups"] for key in group["params"]]
    n = len(list(model.parameters()))
    assert numbers == list(range(n)) and state["state"].keys() == set(range(n))
    for group, saved in zip(optimizer.param_groups, state["param_groups"]):
        assert group.keys() == saved.keys()
        for table, key in zip(group["params"], saved["params"]):
            assert optimizer.state[table].keys() == state["state"][key].keys()


@pytest.mark.parametrize(
    "options", [{}, {"flatten_optimizer_state_dict": True}, {"full_state_dict": True}]
)
@pytest.mark.parametrize("through_a_file", [False, True])
@pytest.mark.parametrize("dense", [torch.optim.Adam, partial(torch.optim.SGD, momentum=0.9)])
def test_a_round_trip_through_the_distributed_tools(tmp_path, through_a_file, dense, options):
    options = StateDictOptions(**options)
    whole, model, other = Model(), Model(), Model(seed=3)
    train(whole, pair(whole, dense=dense, **OPTIONS), range(8))
    optimizer, resumed = (pair(m, dense=dense, **OPTIONS) for m in (model, other))
    train(model, optimizer, range(4))
    before = copy.deepcopy(model.state_dict())
    weights, state = get_state_dict(model, optimizer, options=options)
    assert any("user.weight" in key for key in [*state, *state.get("state", ())])
    if through_a_file:
        dcp.save({"model": weights, "optimizer": state}, checkpoint_id=tmp_path)
        weights, state = get_state_dict(other, resumed, options=options)  # it made no step yet
        dcp.load({"model": weights, "optimizer": state}, checkpoint_id=tmp_path)
    both = dict(model_state_dict=weights, optim_state_dict=state)
    set_state_dict(other, resumed, **both, options=options)
    assert all(torch.equal(before[name], value) for name, value in other.state_dict().items())
    train(other, resumed, range(4, 8))
    assert_same(other, whole)


@pytest.mark.parametrize("rule", RULES)
def test_the_tables_alone_go_through_the_distributed_tools(rule):
    model = nn.ModuleDict({"user": nn.Embedding(9, 2, sparse=True)})
    other = copy.deepcopy(model)
    optimizer, resumed = (
        EmbeddingOptimizer(m.named_parameters(), 0.1, rule, **OPTIONS) for m in (model, other)
    )
    model.user(torch.tensor([1, 1, 3])).sum().backward()
    optimizer.step()
    state = get_optimizer_state_dict(model, optimizer)
    set_optimizer_state_dict(other, resumed, state)
    for name, value in optimizer.state[model.user.weight].items():
        assert torch.equal(value, resumed.state[other.user.weight][name]), name


def test_a_dense_gradient_that_is_not_of_zeros_or_has_a_rate_is_still_refused():
    table = nn.Parameter(torch.zeros(3, 2))
    for lr, value in ((0.0, 1.0), (0.1, 0.0)):
        table.grad = torch.full((3, 2), value)
        with pytest.raises(RuntimeError, match="dense gradient"):
            EmbeddingOptimizer([table], lr).step()


# --- the state of the pair is the state of the two ----------------------------------------------


def test_the_state_is_that_of_the_two_and_takes_no_writes(halfway):
    model, optimizer = halfway
    table, layer = model.user.weight, model.tower[0].weight
    assert optimizer.state[table] is optimizer.embedding.state[table]
    assert optimizer.state[layer] is optimizer.dense.state[layer]
    assert len(optimizer.state) == len(list(optimizer.state)) == 6
    assert nn.Parameter(table) not in optimizer.state and len(optimizer.state) == 6
    with pytest.raises(TypeError):
        optimizer.state[table] = {}
    for name in ("state", "param_groups"):
        with pytest.raises(AttributeError):
            setattr(optimizer, name, {})


# --- tables by name -----------------------------------------------------------------------------


def test_tables_in_another_order_are_matched_by_name(halfway, straight):
    model, optimizer = halfway
    other = Model(swapped=True)
    other.load_state_dict(model.state_dict())
    resumed = pair(other)
    resumed.load_state_dict(optimizer.state_dict())
    train(other, resumed, range(4, 8))
    for name, value in straight.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], value)


def test_tables_with_other_names_are_refused_and_nothing_changes(halfway):
    model, optimizer = halfway
    tables = [("user.weight", model.user.weight), ("seller.weight", model.product.weight)]
    other = EmbeddingOptimizer(tables, 0.1, **OPTIONS)
    with pytest.raises(ValueError, match=r"\['product.weight'\].*lacks \['seller.weight'\]"):
        other.load_state_dict(optimizer.embedding.state_dict())
    assert not other.state


def test_groups_may_differ_but_not_the_options_of_one_group(halfway):
    model, optimizer = halfway
    named = [("product.weight", model.product.weight), ("user.weight", model.user.weight)]
    saved = optimizer.embedding.state_dict()
    one_group = EmbeddingOptimizer(named, 0.1, **OPTIONS)
    one_group.load_state_dict(saved)
    assert one_group.param_groups[0]["lr"] == 5e-2
    for name, value in optimizer.embedding.state[model.user.weight].items():
        assert torch.equal(one_group.state[model.user.weight][name], value)
    saved["param_groups"][0]["lr"] = 0.7
    with pytest.raises(ValueError, match="different options"):
        one_group.load_state_dict(saved)


@pytest.mark.parametrize("wrap", [lambda m: nn.ModuleDict({"module": m}), torch.compile])
def test_a_wrapper_before_the_names_is_no_difference(halfway, wrap):
    model, optimizer = halfway
    wrapped = EmbeddingOptimizer(
        [pair for pair in wrap(model).named_parameters() if "tower" not in pair[0]], 0.1, **OPTIONS
    )
    wrapped.load_state_dict(optimizer.embedding.state_dict())
    assert wrapped.state[model.user.weight]["step"] == 4


# --- states of torch's optimizers ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("theirs", "rule"),
    [
        (lambda tables: torch.optim.SparseAdam(tables, 0.07, (0.8, 0.99)), "adam"),
        (lambda tables: torch.optim.Adagrad(tables, 0.07, eps=1e-8), "adagrad"),
        (lambda tables: torch.optim.Adagrad(tables, 0.07, initial_accumulator_value=1), "adagrad"),
        (lambda tables: torch.optim.SGD(tables, 0.07), "sgd"),
    ],
)
def test_training_goes_on_from_the_state_of_a_torch_optimizer(theirs, rule):
    model = Model()
    before = theirs([model.user.weight, model.product.weight])
    train(model, before, range(3))
    other = copy.deepcopy(model)
    ours = pair(other, rule=rule).embedding  # a group for each table, where torch has one for both
    ours.load_state_dict(before.state_dict())
    train(model, before, range(3, 6))
    train(other, ours, range(3, 6))
    for name, value in model.state_dict().items():
        if "tower" not in name:
            # SparseAdam adds eps in another place, which shows where gradients are tiny.
            torch.testing.assert_close(other.state_dict()[name], value, rtol=1e-5, atol=1e-5)
    assert ours.param_groups[1]["lr"] == 0.07
    if rule == "adagrad":  # a row that is new has the start of torch's, too
        start = before.param_groups[0]["initial_accumulator_value"]
        ours.grow_table(other.user.weight, 2)
        assert ours.state[other.user.weight]["sum"][-2:].eq(start).all()


WARM = {
    "SparseAdam": lambda tables: torch.optim.SparseAdam(tables, 0.1),
    "Adam": lambda tables: torch.optim.Adam(tables, 0.1),
    "Adagrad": lambda tables: torch.optim.Adagrad(tables, 0.1),
    "ours": lambda tables: EmbeddingOptimizer(tables, 0.1, "adam", **OPTIONS),
}


@pytest.mark.parametrize("name", WARM)
def test_a_state_of_another_rule_is_a_warm_start_that_says_what_it_keeps(name):
    table = nn.Parameter(torch.ones(5, 3))
    theirs = WARM[name]([table])
    for _ in range(3):
        table.grad = torch.ones(5, 3) if name == "Adam" else torch.ones(5, 3).to_sparse(1)
        if name == "ours":
            ids = torch.tensor([[0, 0, 4]])
            table.grad = torch.sparse_coo_tensor(ids, torch.ones(3, 3), (5, 3))
        theirs.step()
    rule = "adagrad" if name == "Adagrad" else "adam"
    options = OPTIONS | dict(initial_accumulator_value=0.5)
    optimizer = EmbeddingOptimizer([table], 0.3, **options)
    with pytest.warns(UserWarning, match=f"rule '{rule}' and this .* 'rowwise_adagrad': steps, co"):
        optimizer.load_state_dict(theirs.state_dict())
    group, state = optimizer.options(table), optimizer.state[table]
    assert (group["lr"], group["rule"]) == (0.3, "rowwise_adagrad")
    assert state["step"] == 3 and state.keys().isdisjoint({"exp_avg", "exp_avg_sq"})
    if name == "ours":
        for key in ("count", "max_count", "last_step"):
            assert torch.equal(state[key], theirs.state[table][key])
    table.grad = torch.sparse_coo_tensor([[1]], torch.full((1, 3), 2.0), (5, 3))
    optimizer.step()
    assert optimizer.row_state(table)["sum"].tolist() == [0.5, 4.5, 0.5, 0.5, 0.5]


def test_an_option_that_ours_lacks_is_refused():
    model = Model()
    other = torch.optim.Adagrad([model.user.weight, model.product.weight], 0.1, lr_decay=0.1)
    with pytest.raises(ValueError, match="lr_decay"):
        pair(model, rule="adagrad").embedding.load_state_dict(other.state_dict())
    with pytest.raises(ValueError, match="of 1 tables, this optimizer has 2"):
        alone = torch.optim.SparseAdam([model.user.weight])
        pair(model).embedding.load_state_dict(alone.state_dict())


TORCH = torch.optim
STRANGERS = {
    "Adamax": (TORCH.Adamax, "options .*betas"),
    "NAdam": (TORCH.NAdam, "options .*momentum_decay"),
    "RAdam": (TORCH.RAdam, "options .*betas"),
    "RMSprop": (TORCH.RMSprop, "options .*centered"),
    "RMSprop, momentum": (partial(TORCH.RMSprop, momentum=0.9), "options .*centered"),
    "Adadelta": (TORCH.Adadelta, "options .*rho"),
    "ASGD": (TORCH.ASGD, "options .*lambd"),
    "Rprop": (TORCH.Rprop, "options .*etas"),
    "SGD, momentum": (partial(TORCH.SGD, momentum=0.9), "momentum, momentum_buffer"),
    "Adam, amsgrad": (partial(TORCH.Adam, amsgrad=True), "amsgrad, max_exp_avg_sq"),
    "AdamW": (TORCH.AdamW, "weight_decay"),
}


@pytest.mark.parametrize("rule", ["adam", "sgd"])
@pytest.mark.parametrize("name", STRANGERS)
@pytest.mark.parametrize("trained", [True, False])
def test_the_state_of_any_other_optimizer_is_refused(name, rule, trained):
    make, why = STRANGERS[name]
    table = nn.Parameter(torch.ones(5, 3))
    other = make([table], lr=0.1)
    if trained:
        table.grad = torch.ones(5, 3)
        other.step()
    ours = EmbeddingOptimizer([table], 0.1, rule=rule)
    expected = why if trained else why.partition(", m")[0]
    with pytest.raises(ValueError, match=rf"load_state_dict: .*{expected}.*begin with a new state"):
        ours.load_state_dict(other.state_dict())
    assert not ours.state and ours.param_groups[0]["lr"] == 0.1


@pytest.mark.parametrize("theirs", [TORCH.Adam, partial(TORCH.AdamW, weight_decay=0), None])
@pytest.mark.parametrize("name", ["step", "exp_avg", "exp_avg_sq"])
def test_a_state_that_lacks_a_part_is_refused(theirs, name):
    table = nn.Parameter(torch.ones(5, 3))
    saved = (theirs or partial(EmbeddingOptimizer, rule="adam", row_lr=OPTIONS["row_lr"]))(
        [table], lr=0.1
    )
    table.grad = torch.ones(5, 3)
    if not theirs:
        table.grad = torch.sparse_coo_tensor(torch.arange(5)[None], table.grad)
    saved.step()
    ours = EmbeddingOptimizer([table], 0.1, "adam")
    ours.load_state_dict(saved.state_dict())
    state = saved.state_dict()
    del state["state"][0][name]
    with pytest.raises(ValueError, match=f"table 0 of its group lacks {name}.*new state"):
        ours.load_state_dict(state)


@pytest.mark.parametrize(
    "change, why",
    [
        (lambda s: s["param_groups"][0].update(lr=-5.0), "lr=-5.0 must be a non-negative number"),
        (lambda s: s["param_groups"][0].update(lr="x"), "lr='x' must be"),
        (lambda s: s["param_groups"][0].update(row_lr="square root"), "row_lr='square root'"),
        (lambda s: s["state"][0].update(exp_avg=[1, 2]), r"exp_avg of .* is \[1, 2\]"),
        (lambda s: s["state"][0].update(step=3.0), "step of .* is 3.0"),
        (lambda s: s.pop("state"), "is no state of an optimizer"),
    ],
)
def test_a_state_with_a_part_that_is_none_is_refused_and_nothing_changes(change, why):
    table = nn.Parameter(torch.ones(5, 3))
    optimizer = EmbeddingOptimizer([table], 0.1, "adam", row_lr=OPTIONS["row_lr"])
    table.grad = torch.sparse_coo_tensor(torch.arange(5)[None], torch.ones(5, 3))
    optimizer.step()
    state, before = optimizer.state_dict(), str(optimizer.state_dict())
    change(state)
    with pytest.raises(ValueError, match=why):
        optimizer.load_state_dict(state)
    assert str(optimizer.state_dict()) == before


def test_counts_without_the_largest_are_refused():
    """With 0 for the largest, every row's factor would be infinite."""
    table = nn.Parameter(torch.ones(5, 3))
    optimizer = EmbeddingOptimizer([table], 0.1, row_lr=OPTIONS["row_lr"])
    table.grad = torch.sparse_coo_tensor(torch.arange(5)[None], torch.ones(5, 3))
    optimizer.step()
    state = optimizer.state_dict()
    del state["state"][0]["max_count"]
    with pytest.raises(ValueError, match="lacks max_count"):
        optimizer.load_state_dict(state)


def test_a_state_of_another_dtype_is_said_to_be_so():
    table = nn.Parameter(torch.ones(5, 3))
    optimizer = EmbeddingOptimizer([table], 0.1)
    table.grad = torch.sparse_coo_tensor(torch.arange(5)[None], torch.ones(5, 3))
    optimizer.step()
    double = EmbeddingOptimizer([nn.Parameter(torch.ones(5, 3, dtype=torch.float64))], 0.1)
    with pytest.raises(ValueError, match=r"is torch\.float32 .*must be torch\.float64.*same dtype"):
        double.load_state_dict(optimizer.state_dict())


def test_a_demand_for_kernels_is_not_restored():
    """A run that demanded the kernels may go on where there are none."""
    table = nn.Parameter(torch.ones(5, 3, dtype=torch.float64))
    saved = EmbeddingOptimizer([table], 0.1).state_dict()
    saved["param_groups"][0]["fused"] = True
    resumed = EmbeddingOptimizer([table], 0.1)
    resumed.load_state_dict(saved)
    table.grad = torch.ones(5, 3, dtype=torch.float64).to_sparse(1)
    resumed.step()
    assert resumed.param_groups[0]["fused"] is None

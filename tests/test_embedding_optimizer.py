"""EmbeddingOptimizer against the reference, across restarts, and as a torch.optim.Optimizer."""

import copy
import io
import math
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from benchmarks.exactness import DECAYS, SCALES, Case, paths
from multiepoch.optim import (
    AdaptiveRegularization,
    EmbeddingOptimizer,
    FrequencyAdaptiveLR,
    compiled,
)
from multiepoch.optim.reference import new_state, reference_step
from multiepoch.optim.rules import RULES

property_test = settings(max_examples=100, deadline=None, derandomize=True, database=None)
FAL, AR = FrequencyAdaptiveLR(gap_decay=0.5), AdaptiveRegularization(0.1)


@st.composite
def cases(draw, dtype=torch.float32, min_batches=1):
    """Any combination of rule, FAL and AdamAR on batches that may repeat rows, be empty, hold
    one row or hold all of them, in any order."""
    n_rows = draw(st.integers(1, 30))
    some = st.lists(st.integers(0, n_rows - 1), max_size=40)
    all_rows = st.permutations(range(n_rows))
    ways = [way for way in paths() if way != "compiled" or dtype == torch.float32]
    return Case(
        rule=draw(st.sampled_from(sorted(RULES))),
        row_lr=draw(st.sampled_from(SCALES)),
        row_decay=draw(st.sampled_from(DECAYS)),
        n_rows=n_rows,
        dim=draw(st.integers(1, 65)),
        batches=draw(st.lists(st.one_of(some, all_rows), min_size=min_batches, max_size=6)),
        seed=draw(st.integers(0, 2**31)),
        path=draw(st.sampled_from(ways)),
        dtype=dtype,
        weight_decay=draw(st.sampled_from((0.0, 0.3))),
    )


def run(case, optimizer, table, start=0, stop=None, order=None):
    """Takes the steps of a case. order: of the batch of n lookups, as a function of n."""
    steps = list(enumerate(case.gradients()))
    for epoch, (ids, values) in steps[start:stop]:
        optimizer.set_epoch(epoch)
        if order is not None:
            ids, values = ids[order(len(ids))], values[order(len(ids))]
        table.grad = case.sparse_gradient(ids, values)
        optimizer.step()


def flat(optimizer, table):
    return {"table": table.detach(), **optimizer.state[table]}


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        assert one[name].dtype == other[name].dtype
        assert torch.equal(one[name], other[name]), name


# --- the mathematics --------------------------------------------------------------------------


@property_test
@given(cases())
def test_agrees_with_the_reference(case):
    assert case.error() <= 1e-6


@pytest.mark.parametrize("first", range(0, 120, 20))
def test_random_cases_agree_with_the_reference(first):
    """Of gradients from bags, shared tables, several passes, padding, clipping, grown tables."""
    cases = [Case.random(seed) for seed in range(first, first + 20)]
    assert any(case.through is not None for case in cases)
    assert max(case.error() for case in cases) <= 1e-6


@pytest.mark.parametrize("row_lr", SCALES)
@pytest.mark.parametrize("row_decay", DECAYS)
def test_a_float64_table_is_exact_to_float64(row_lr, row_decay):
    """FAL's factor and AdamAR's, too."""
    batches = [[1, 2, 2, 7], [2, 5], [1, 1, 1, 7, 0]]
    case = Case("adam", row_lr, row_decay, 9, 5, batches, 0, "eager", dtype=torch.float64)
    assert case.error() <= 1e-14


@property_test
@given(cases(torch.bfloat16))
def test_a_bfloat16_table_agrees_to_its_own_step(case):
    """From the same table, one step ends on the reference's bfloat16 number or its neighbour."""
    table, optimizer = case.optimizer()
    state = new_state(table.detach().double())
    for epoch, (ids, values) in enumerate(case.gradients()):
        expected = table.detach().double()
        optimizer.set_epoch(epoch)
        table.grad = case.sparse_gradient(ids, values)
        optimizer.step()
        grad = torch.zeros_like(expected).index_add_(0, ids, values.double())
        occurrences = torch.bincount(ids, minlength=case.n_rows)
        reference_step(
            expected,
            grad,
            occurrences,
            state,
            case.lr,
            case.rule,
            case.row_lr,
            case.row_decay,
            epoch=epoch,
            weight_decay=case.weight_decay,
        )
        # 2^-7 is one step of a number just above a power of two; 1e-6 is where it cancels to 0
        error = (table.detach().double() - expected.bfloat16().double()).abs()
        assert (error <= 2**-7 * expected.abs() + 1e-6).all()
    assert all(v.dtype != torch.bfloat16 for v in optimizer.state[table].values())


@property_test
@given(cases(min_batches=2), st.data())
def test_a_restart_in_the_middle_is_bit_for_bit(case, data):
    stop = data.draw(st.integers(0, len(case.batches)))
    table, optimizer = case.optimizer()
    run(case, optimizer, table)

    first, before = case.optimizer()
    run(case, before, first, stop=stop)
    file = io.BytesIO()
    torch.save({"table": first.detach(), "optimizer": before.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    again, after = case.optimizer()
    with torch.no_grad():
        again.copy_(saved["table"])
    after.load_state_dict(saved["optimizer"])
    run(case, after, again, start=stop)
    assert_same(flat(after, again), flat(optimizer, table))


@pytest.mark.parametrize("rule", ["adagrad", "rowwise_adagrad"])
@pytest.mark.parametrize("path", [None, "eager"])
@pytest.mark.parametrize("row_lr", [None, FAL])
def test_accumulators_start_where_each_group_says(rule, path, row_lr):
    tables = [nn.Parameter(torch.zeros(4, 2)) for _ in range(2)]
    groups = [{"params": tables[:1]}, {"params": tables[1:], "initial_accumulator_value": 0.25}]
    optimizer = EmbeddingOptimizer(groups, 1.0, rule, row_lr, eps=0.0)
    optimizer._path = path
    for table in tables:
        lookup(table, [1])
        table.grad._values().fill_(0.5)
    optimizer.step()
    assert optimizer.state[tables[0]]["sum"][0].eq(0).all()
    assert optimizer.state[tables[1]]["sum"][0].eq(0.25).all()
    # the first step is 1 from zero, and .5 over the root of .25 + .25 from the start
    moved = torch.stack([table.detach()[1] for table in tables])
    torch.testing.assert_close(moved, -torch.tensor([[1.0, 1.0], [0.5**0.5, 0.5**0.5]]))


@pytest.mark.skipif(compiled.library() is None, reason="no C++ compiler built the kernels")
@pytest.mark.parametrize("rule", RULES)
def test_two_threads_do_what_one_does(rule):
    generator = torch.Generator().manual_seed(0)
    batches = [torch.randint(20_000, (9_000,), generator=generator) for _ in range(3)]
    values = torch.randn(9_000, 3, generator=generator)
    tables, before = [], torch.get_num_threads()
    for n_threads in (1, 2):
        table = nn.Parameter(torch.ones(20_000, 3))
        optimizer = EmbeddingOptimizer([table], 0.1, rule=rule, row_lr=FAL, row_decay=AR)
        torch.set_num_threads(n_threads)
        try:
            for ids in batches:
                table.grad = torch.sparse_coo_tensor(
                    ids[None], values, table.shape, check_invariants=False
                )
                optimizer.step()
        finally:
            torch.set_num_threads(before)
        tables.append(table.detach())
    assert torch.equal(*tables)


@pytest.mark.parametrize("path", paths())
@pytest.mark.parametrize("count", ["occurrences", "steps"])
def test_the_running_maximum_is_the_largest_count(path, count):
    """Whether or not the row that was the most frequent is in the batch."""
    table = nn.Parameter(torch.zeros(30, 2))
    optimizer = EmbeddingOptimizer([table], 0.1, row_lr=FrequencyAdaptiveLR(count=count))
    optimizer._path = path
    generator = torch.Generator().manual_seed(0)
    batches = [torch.full((9,), 3), torch.arange(5), torch.tensor([1, 1, 1, 2, 2])]
    batches += [torch.randint(30, (20,), generator=generator) for _ in range(40)]
    for ids in batches:
        table.grad = torch.sparse_coo_tensor(
            ids[None], torch.ones(len(ids), 2), table.shape, check_invariants=False
        )
        optimizer.step()
        state = optimizer.state[table]
        assert state["max_count"] == state["count"].max()


@pytest.mark.parametrize("count", ["occurrences", "steps"])
@pytest.mark.parametrize("path", [None, "eager", "padded"])
def test_a_count_that_is_full_stays_full(path, count):
    """Two billion lookups of a row, such as a country's, are a matter of days."""
    full = torch.iinfo(torch.int32).max
    table = nn.Parameter(torch.zeros(4, 2))
    optimizer = EmbeddingOptimizer([table], 0.1, row_lr=FrequencyAdaptiveLR(count=count))
    optimizer._path = path
    optimizer.row_state(table)  # makes the state
    state = optimizer.state[table]
    state["count"][1] = full - 1
    state["max_count"].fill_(full - 1)
    for _ in range(3):
        ids = torch.tensor([1, 2, 1, 1])
        table.grad = torch.sparse_coo_tensor(
            ids[None], torch.ones(4, 2), table.shape, check_invariants=False
        )
        optimizer.step()
    assert state["count"][1] == state["max_count"] == full
    assert state["count"][2] == 3 and table.isfinite().all()


# --- PyTorch's modules ------------------------------------------------------------------------


@pytest.mark.parametrize("path", paths())
def test_weight_decay_is_that_of_adamw_for_rows_that_are_touched(path):
    sparse, dense = nn.Embedding(7, 5, sparse=True), nn.Embedding(7, 5)
    dense.load_state_dict(sparse.state_dict())
    before = sparse.weight.detach().clone()
    ours = EmbeddingOptimizer(sparse.parameters(), 0.05, "adam", weight_decay=0.4)
    ours._path = path
    pairs = [(sparse, ours), (dense, torch.optim.AdamW(dense.parameters(), 0.05, weight_decay=0.4))]
    for step in range(10):
        for layer, optimizer in pairs:
            optimizer.zero_grad()
            (layer(torch.arange(6)).sin() * step).sum().backward()
            optimizer.step()
    torch.testing.assert_close(sparse.weight[:6], dense.weight[:6], rtol=0, atol=1e-6)
    assert torch.equal(sparse.weight[6], before[6])


def test_an_epoch_closes_the_gap_between_frequent_and_infrequent_rows():
    table = nn.Parameter(torch.zeros(2, 1))
    optimizer = EmbeddingOptimizer(
        [table], 1.0, "sgd", row_lr=FrequencyAdaptiveLR("linear", gap_decay=0.5)
    )
    moves = []
    for epoch in (0, 1, 2):
        before = table.detach().clone()
        optimizer.set_epoch(epoch)
        # row 0 twice and row 1 once, so that their counts stay 2 to 1
        table.grad = torch.sparse_coo_tensor(
            [[0, 0, 1]], torch.tensor([[0.5], [0.5], [1.0]]), (2, 1)
        )
        optimizer.step()
        moves.append((before - table.detach()).flatten().tolist())
    assert moves == [pytest.approx([1, 0.5]), pytest.approx([1, 0.75]), pytest.approx([1, 0.875])]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_a_step_on_cuda_does_not_wait_for_the_device():
    table = nn.Parameter(torch.randn(100, 8, device="cuda"))
    optimizer = EmbeddingOptimizer([table], 0.1, row_lr=FAL, row_decay=AR)
    ids = torch.randint(100, (1, 300), device="cuda")
    table.grad = torch.sparse_coo_tensor(ids, torch.randn(300, 8, device="cuda"), (100, 8))
    optimizer.step()  # allocates
    torch.cuda.set_sync_debug_mode("error")
    try:
        optimizer.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


# --- an optimizer among torch's ---------------------------------------------------------------


def lookup(table, ids):
    """Leaves a gradient of ones for each of `ids`."""
    ids = torch.tensor(ids, dtype=torch.int64)[None]
    values = torch.ones(ids.shape[1], table.shape[1], dtype=table.dtype)
    table.grad = torch.sparse_coo_tensor(ids, values, table.shape, check_invariants=False)


@pytest.fixture
def table():
    return nn.Parameter(torch.randn(6, 3))


def test_closure_hooks_and_zero_grad(table):
    optimizer, calls = EmbeddingOptimizer([table], 0.1), []
    optimizer.register_step_pre_hook(lambda *_: calls.append("before"))
    optimizer.register_step_post_hook(lambda *_: calls.append("after"))

    def closure():
        assert torch.is_grad_enabled()
        calls.append("closure")
        lookup(table, [1])
        return 7.0

    assert optimizer.step(closure) == 7.0
    assert calls == ["before", "closure", "after"]
    optimizer.zero_grad()
    assert table.grad is None
    before = table.detach().clone()
    optimizer.step()
    assert torch.equal(table, before)


def test_numbers_of_numpy_are_numbers(table):
    """Loaded, too, with weights_only=True."""
    row_lr = FrequencyAdaptiveLR("threshold", threshold=np.int64(3), reduced=np.float32(0.5))
    options = dict(row_lr=row_lr, eps=np.float32(1e-4), betas=(np.float64(0.5), 0.9))
    optimizer = EmbeddingOptimizer([table], np.float32(0.5), **options)
    lookup(table, [1])
    optimizer.step()
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    optimizer.load_state_dict(torch.load(file, weights_only=True))
    assert optimizer.param_groups[0]["lr"] == 0.5


def test_a_group_that_is_added_after_loading_is_in_the_epoch_of_the_others(table):
    saved = EmbeddingOptimizer([table], 0.1)
    saved.set_epoch(3)
    optimizer = EmbeddingOptimizer([table], 0.1)
    optimizer.load_state_dict(saved.state_dict())
    optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(2, 4))]})
    assert [group["epoch"] for group in optimizer.param_groups] == [3, 3]


def test_add_param_group_keeps_the_epoch_and_takes_names(table):
    other = nn.Parameter(torch.zeros(2, 4))
    optimizer = EmbeddingOptimizer([("first", table)], 0.1)
    optimizer.set_epoch(3)
    optimizer.add_param_group({"params": [("second", other)], "lr": 0.5, "rule": "adagrad"})
    assert [group["epoch"] for group in optimizer.param_groups] == [3, 3]
    assert optimizer.param_groups[1]["lr"] == 0.5
    other.grad = torch.zeros(2, 4)
    with pytest.raises(RuntimeError, match=r"table 'second' has a dense gradient.*sparse=True"):
        optimizer.step()


@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))]
)
def test_a_copy_goes_on_alike(duplicate):
    case = Case("adam", FAL, AR, 8, 5, [[0, 1, 1], [5], [2, 0]], 0, "eager")
    table, optimizer = case.optimizer()
    run(case, optimizer, table, stop=2)
    other, copied = duplicate((table, optimizer))
    copied._path = "eager"
    for its, each in ((optimizer, table), (copied, other)):
        run(case, its, each, start=2)
    assert_same(flat(copied, other), flat(optimizer, table))
    assert other is not table


def test_loading_takes_the_options_too_and_shares_no_memory(table):
    saved = EmbeddingOptimizer([table], 0.3, row_lr=FAL, row_decay=AR, betas=(0.5, 0.6))
    saved.set_epoch(2)
    lookup(table, [0, 4])
    saved.step()
    loaded = EmbeddingOptimizer([table], 0.1)
    loaded.load_state_dict(saved.state_dict())
    assert loaded.param_groups == saved.param_groups
    loaded.step()
    assert saved.state[table]["count"].tolist() == [1, 0, 0, 0, 1, 0]
    assert loaded.state[table]["count"].tolist() == [2, 0, 0, 0, 2, 0]


@pytest.mark.parametrize("path", paths())
def test_a_row_hook_sees_the_rows_before_they_change(table, path):
    optimizer, seen = EmbeddingOptimizer([table], 0.1, row_lr=FAL), []
    optimizer._path = path
    before = table.detach().clone()

    def hook(param, rows, occurrences):
        assert param is table and torch.equal(param, before)
        assert not optimizer.state[table]["count"].any()
        counts = torch.zeros(6, dtype=torch.int32).index_add_(0, rows, occurrences)
        seen.append(counts.tolist())

    handle = optimizer.register_row_hook(hook)
    lookup(table, [4, 1, 4])
    optimizer.step()
    handle.remove()
    optimizer.step()
    assert seen == [[0, 1, 0, 0, 2, 0]]


@pytest.mark.parametrize(
    ("rule", "names"), [("adam", {"exp_avg", "exp_avg_sq"}), ("adagrad", {"sum"}), ("sgd", set())]
)
def test_row_state_is_live_and_exists_before_the_first_step(table, rule, names):
    optimizer = EmbeddingOptimizer([table], 0.1, rule, row_lr=FAL, row_decay=AR)
    state = optimizer.row_state(table)
    assert state.keys() == names | {"last_step"}
    lookup(table, [2])
    optimizer.step()
    assert all(value[2].all() and not value[3].any() for value in state.values())


# --- errors: one sentence, and nothing has changed --------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(lr=-0.1), "lr=-0.1"),
        (dict(lr=float("nan")), "lr=nan"),
        (dict(lr=torch.tensor(float("nan"))), r"lr=tensor\(nan\) must be a non-negative number"),
        (dict(lr=torch.tensor(-1.0)), r"lr=tensor\(-1.\) must be a non-negative number"),
        (dict(lr=torch.ones(2)), "lr=.* must be a number; lr may be a tensor of one"),
        (dict(eps=torch.tensor(1e-8)), "eps=.* must be a number; lr may be a tensor of one"),
        (dict(eps=-1.0), "eps=-1.0"),
        (dict(betas=(0.9, 1.0)), r"betas=\(0.9, 1.0\)"),
        (dict(rule="adamw"), "rule='adamw'.*'adam', 'adagrad', 'rowwise_adagrad', 'sgd'"),
        (dict(row_lr="log"), "row_lr='log'.*FrequencyAdaptiveLR"),
        (dict(row_decay=0.1), "row_decay=0.1.*AdaptiveRegularization"),
        (dict(weight_decay=-0.1), "weight_decay=-0.1.*non-negative"),
        (dict(rule="adagrad", initial_accumulator_value=-0.1), "initial_accumulator_value=-0.1"),
        (dict(rule="adagrad", initial_accumulator_value=math.nan), "accumulator_value=nan must"),
        (dict(rule="sgd", initial_accumulator_value=0.1), "rule 'sgd' has no accumulator"),
        (dict(rule="adam", initial_accumulator_value=0.1), "rule 'adam' has no accumulator"),
    ],
)
def test_a_wrong_option_is_named(table, options, message):
    with pytest.raises(ValueError, match=message):
        EmbeddingOptimizer([table], **{"lr": 0.1, **options})
    with pytest.raises(ValueError, match=message):
        EmbeddingOptimizer([{"params": [table], **options}], lr=0.1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FrequencyAdaptiveLR("sqrt"), "scale='sqrt'.*'log', 'linear', 'power'"),
        (lambda: FrequencyAdaptiveLR(count="rows"), "count='rows'.*'occurrences', 'steps'"),
        (lambda: FrequencyAdaptiveLR(gap_decay=1.5), "gap_decay=1.5"),
        (lambda: FrequencyAdaptiveLR("power", exponent=-1), "exponent=-1"),
        (lambda: FrequencyAdaptiveLR("threshold", threshold=0), "threshold=0"),
        (lambda: FrequencyAdaptiveLR("threshold", threshold=2.5), "threshold=2.5 .*whole number"),
        (lambda: FrequencyAdaptiveLR("threshold", threshold=2**31), "from 1 to 2,147,483,647"),
        (lambda: FrequencyAdaptiveLR("threshold", threshold=math.inf), "threshold=inf must"),
        (lambda: AdaptiveRegularization(-1e-3), "alpha=-0.001"),
    ],
)
def test_a_wrong_scale_or_decay_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("values", [torch.zeros(4, 2) * 1j, torch.zeros(4), torch.zeros(4, 2, 2)])
def test_a_table_of_another_kind_is_refused(values):
    with pytest.raises(TypeError, match="matrix of floating-point numbers"):
        EmbeddingOptimizer([nn.Parameter(values)], 0.1)


def test_a_dense_gradient_changes_no_table(table):
    other = nn.Parameter(torch.randn(4, 2))
    optimizer = EmbeddingOptimizer([table, other], 0.1)
    lookup(table, [1])
    other.grad = torch.ones(4, 2)
    before = table.detach().clone()
    with pytest.raises(RuntimeError, match="table 1 of its group has a dense gradient"):
        optimizer.step()
    assert torch.equal(table, before) and not optimizer.state[table]


def test_the_state_of_another_shape_is_refused(table):
    optimizer = EmbeddingOptimizer([table], 0.1, "adam")
    lookup(table, [1])
    optimizer.step()
    before = copy.deepcopy(optimizer.state[table])
    small = nn.Parameter(torch.zeros(5, 3))
    for other, message in (
        (EmbeddingOptimizer([small], 0.1, "adam"), r"exp_avg of table 0 .*\(5, 3\).*\(6, 3\)"),
        (torch.optim.SparseAdam([small], 0.1), r"exp_avg of table 0 .*\(5, 3\)"),
        (torch.optim.Adagrad([small], 0.1), r"sum of table 0 .*\(5, 3\).*\(6, 3\)"),
    ):
        lookup(small, [1])
        other.step()
        with pytest.raises(ValueError, match=message):
            optimizer.load_state_dict(other.state_dict())
        assert_same(optimizer.state[table], before)


@pytest.mark.parametrize("bad", [6, -1])
@pytest.mark.parametrize("path", paths())
def test_an_id_outside_the_table_changes_nothing(table, path, bad):
    optimizer = EmbeddingOptimizer([table], 0.1)
    optimizer._path = path
    lookup(table, [1, bad])
    before = table.detach().clone()
    with pytest.raises(IndexError, match="table 0 of its group has ids outside its 6 rows"):
        optimizer.step()
    assert torch.equal(table, before)


@pytest.mark.parametrize("path", paths())
def test_an_id_outside_the_second_table_does_not_change_the_first(table, path):
    second = nn.Parameter(torch.randn(4, 2))
    optimizer = EmbeddingOptimizer([("first", table), ("second", second)], 0.1, row_lr=FAL)
    optimizer._path, seen = path, []
    optimizer.register_row_hook(lambda *row: seen.append(row))
    lookup(table, [1])
    lookup(second, [3, 4])
    before = table.detach().clone()
    with pytest.raises(IndexError, match="table 'second' has ids outside its 4 rows"):
        optimizer.step()
    assert torch.equal(table, before) and not optimizer.state[table] and not seen

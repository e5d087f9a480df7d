"""MEDA and tail rewind against a plain copy of every table and a plain count of every lookup."""

import copy
import math
import pickle
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from multiepoch.optim import (
    AdaptiveRegularization,
    EmbeddingOptimizer,
    FrequencyAdaptiveLR,
)
from multiepoch.remedies import Rewind, meda, meda_restored, tail_rewind
from multiepoch.remedies.undo_log import Counts, UndoLog
from multiepoch_lab.table_groups import meda_groups

ROWS, DIMS = (40, 25), (3, 5)


class Tables(nn.Module):
    def __init__(self, seed=0, rows=ROWS, dims=DIMS, dtype=torch.float32):
        super().__init__()
        torch.manual_seed(seed)
        self.tables = nn.ModuleList(
            nn.Embedding(n, d, sparse=True, dtype=dtype) for n, d in zip(rows, dims)
        )

    def loss(self, ids):
        """ids: one int64 tensor a table. A loss whose gradient differs by row."""
        return sum(t(i).float().sin().sum() for t, i in zip(self.tables, ids))


def optimizer_of(model, rule="adam", **options):
    return EmbeddingOptimizer([t.weight for t in model.tables], lr=0.1, rule=rule, **options)


def train(model, optimizer, batches):
    for ids in batches:
        optimizer.zero_grad()
        model.loss(ids).backward()
        optimizer.step()


@pytest.mark.parametrize("rule", ["adagrad", "rowwise_adagrad"])
@pytest.mark.parametrize(
    ("reset", "below"),
    [
        (meda, math.inf),
        (partial(tail_rewind, below=3), 3),
        (partial(tail_rewind, below=3, to="reinit"), 3),
    ],
)
def test_a_reset_row_has_its_accumulator_at_the_start_of_its_table(rule, reset, below):
    model, starts = Tables(), (0.5, 0.0)
    groups = [
        {"params": [table.weight], "initial_accumulator_value": start}
        for table, start in zip(model.tables, starts)
    ]
    optimizer = EmbeddingOptimizer(groups, lr=0.1, rule=rule)
    rewind = reset(model, optimizer)
    rewind.before_epoch(0)
    batches = random_batches(0)
    train(model, optimizer, batches)
    rewind.before_epoch(1)
    for k, (table, start) in enumerate(zip(model.tables, starts)):
        kept = torch.bincount(torch.cat([ids[k] for ids in batches]), minlength=ROWS[k]) >= below
        total = optimizer.state[table.weight]["sum"].view(ROWS[k], -1)
        assert kept.any() == (below == 3)
        assert total[~kept].eq(start).all() and total[kept].ne(start).all()


def random_batches(seed, n_batches=4, n=12, rows=ROWS):
    """Skewed, so that some rows come often and some never."""
    generator = torch.Generator().manual_seed(seed)
    draw = lambda r: (torch.rand(n, generator=generator) ** 3 * r).long()  # noqa: E731
    return [[draw(r) for r in rows] for _ in range(n_batches)]


def snapshot(model, optimizer):
    """Every value of every row of every table: weights and row state, copied."""
    return [
        {
            "weight": t.weight.detach().clone(),
            **{k: v.clone() for k, v in optimizer.row_state(t.weight).items()},
        }
        for t in model.tables
    ]


def steps(model, optimizer):
    """How many steps each table has had."""
    return [int(optimizer.state[t.weight].get("step", 0)) for t in model.tables]


def lookups(batches, rows=ROWS):
    """How often each row is looked up, one tensor a table."""
    return [
        sum((torch.bincount(batch[k], minlength=n) for batch in batches), torch.zeros(n))
        for k, n in enumerate(rows)
    ]


def assert_same(got, expected):
    for table, (a, b) in enumerate(zip(got, expected, strict=True)):
        assert a.keys() == b.keys()
        for name in a:
            assert torch.equal(a[name], b[name]), (table, name)


def where(few, ours, theirs):
    """Row by row, `ours` where `few`, else `theirs`; one entry a table."""
    return [
        {name: torch.where(f.view(-1, *[1] * (a[name].dim() - 1)), a[name], b[name]) for name in a}
        for f, a, b in zip(few, ours, theirs)
    ]


batches_of_ids = st.lists(
    st.tuples(*[st.lists(st.integers(0, n - 1), max_size=30) for n in ROWS]), max_size=6
).map(lambda bs: [[torch.tensor(i, dtype=torch.int64) for i in ids] for ids in bs])


@settings(max_examples=60, deadline=None)
@given(
    day=batches_of_ids,
    warm=st.integers(0, 3),
    below=st.sampled_from([0, 1, 2, 3, 5, 10, 1000, math.inf]),
    rule=st.sampled_from(["adam", "adagrad", "rowwise_adagrad", "sgd"]),
    decay=st.booleans(),
    path=st.sampled_from([None, "eager", "padded"]),
)
def test_start_puts_back_what_a_full_copy_says(day, warm, below, rule, decay, path):
    model = Tables()
    row_decay = AdaptiveRegularization(1e-2) if decay else None
    optimizer = optimizer_of(model, rule, row_decay=row_decay)
    optimizer._path = path  # padded: batches as they come on CUDA
    train(model, optimizer, random_batches(1, warm))  # the day before
    rewind = Rewind(model, optimizer, below, to="start")
    at_start, few = snapshot(model, optimizer), [(n > 0) & (n < below) for n in lookups(day)]
    began = steps(model, optimizer)
    rewind.before_epoch(0)
    for index in (1, 2):
        train(model, optimizer, day)
        expected = where(few, at_start, snapshot(model, optimizer))
        if decay:  # a row has waited as long as when the day began
            for values, rows, now, then in zip(expected, few, steps(model, optimizer), began):
                values["last_step"] += (now - then) * rows
        rewind.before_epoch(index)
        assert_same(snapshot(model, optimizer), expected)


@settings(max_examples=40, deadline=None)
@given(
    day=batches_of_ids,
    below=st.sampled_from([0, 1, 2, 3, 5, 10, 1000]),
    path=st.sampled_from([None, "eager", "padded"]),
)
def test_draw_renews_the_rows_touched_too_few_times(day, below, path):
    model = Tables()
    optimizer = optimizer_of(model, row_decay=AdaptiveRegularization(1e-2))
    optimizer._path = path
    rewind = Rewind(model, optimizer, below, to="reinit", seed=3, init=nn.init.normal_)
    rewind.before_epoch(0)
    train(model, optimizer, day)
    before = snapshot(model, optimizer)

    fresh_model = Tables(seed=8)  # all of whose rows are drawn with the same seed
    fresh_optimizer = optimizer_of(fresh_model)
    everything = meda(fresh_model, fresh_optimizer, seed=3, init=nn.init.normal_)
    everything.before_epoch(0)
    everything.before_epoch(1)
    steps = [int(optimizer.state[t.weight]["step"]) for t in model.tables]
    fresh = [
        {
            "weight": t.weight.detach(),
            "exp_avg": torch.zeros_like(t.weight),
            "exp_avg_sq": torch.zeros_like(t.weight),
            "last_step": torch.full((len(t.weight),), step, dtype=torch.int32),
        }
        for t, step in zip(fresh_model.tables, steps)
    ]
    few = [(n > 0) & (n < below) for n in lookups(day)]
    rewind.before_epoch(1)
    assert_same(snapshot(model, optimizer), where(few, fresh, before))


def test_meda_renews_every_row_touched_or_not_and_leaves_the_random_state():
    model = Tables()
    optimizer = optimizer_of(model)
    train(model, optimizer, random_batches(0))
    before = snapshot(model, optimizer)
    rewind = meda(model, optimizer, seed=1)
    random_state = torch.get_rng_state()
    rewind.before_epoch(0)
    assert_same(snapshot(model, optimizer), before)
    rewind.before_epoch(1)
    assert torch.equal(torch.get_rng_state(), random_state)
    after = snapshot(model, optimizer)
    for was, now in zip(before, after):
        assert (was["weight"] != now["weight"]).any(dim=1).all()
        assert now["exp_avg"].count_nonzero() == now["exp_avg_sq"].count_nonzero() == 0
        assert abs(now["weight"].mean()) < 0.4 and 0.7 < now["weight"].std() < 1.3
    assert rewind.n_bytes == 0


def test_draws_depend_on_seed_table_and_epoch_and_on_nothing_else():
    def draws(seed):
        model = Tables(rows=(30, 30), dims=(4, 4))
        rewind = meda(model, optimizer_of(model), seed=seed)
        drawn = []
        for index in (0, 1, 2, 0, 1):
            torch.rand(3)
            rewind.before_epoch(index)
            if index:
                drawn += [t.weight.detach().clone() for t in model.tables]
        return drawn

    first, again, other = draws(5), draws(5), draws(6)
    assert all(torch.equal(a, b) for a, b in zip(first, again))
    assert len({tuple(d.flatten().tolist()) for d in first + other}) == 12


def test_an_initialiser_sees_the_whole_table_and_the_models_own_comes_first():
    shapes = []

    class WithOwn(Tables):
        def init_table_(self, weight):
            shapes.append(tuple(weight.shape))
            return weight.fill_(7.0)

    model = WithOwn()
    rewind = Rewind(model, optimizer_of(model), below=5)
    rewind.before_epoch(0)
    train(model, optimizer_of(model), [])
    rewind.before_epoch(1)
    assert shapes == list(zip(ROWS, DIMS))

    wrapped = nn.Sequential(model)  # as a wrapper for distributed training does
    meda_rewind = meda(wrapped, optimizer_of(model))
    meda_rewind.before_epoch(0)
    meda_rewind.before_epoch(1)
    assert all((t.weight == 7.0).all() for t in model.tables)

    bounded = meda(model, optimizer_of(model), init=lambda w: nn.init.uniform_(w, 1.0, 2.0))
    bounded.before_epoch(0)
    bounded.before_epoch(1)
    assert all(((t.weight >= 1) & (t.weight < 2)).all() for t in model.tables)


def test_the_padding_row_stays():
    model = Tables()
    model.tables[0] = nn.Embedding(ROWS[0], DIMS[0], sparse=True, padding_idx=2)
    rewind = meda(model, optimizer_of(model))
    rewind.before_epoch(0)
    rewind.before_epoch(1)
    zero_rows = (model.tables[0].weight == 0).all(dim=1).nonzero().flatten()
    assert zero_rows.tolist() == [2]


def test_counts_of_fal_and_the_step_stay():
    model = Tables()
    optimizer = optimizer_of(model, row_lr=FrequencyAdaptiveLR())
    for make in (meda, meda_restored):
        rewind = make(model, optimizer)
        rewind.before_epoch(0)
        train(model, optimizer, random_batches(0))
        kept = [
            {k: optimizer.state[t.weight][k].clone() for k in ("count", "max_count", "step")}
            for t in model.tables
        ]
        rewind.before_epoch(1)
        for t, state in zip(model.tables, kept):
            assert all(torch.equal(optimizer.state[t.weight][k], v) for k, v in state.items())
            assert state["count"].sum() > 0


def test_each_days_counts_are_its_own():
    model = Tables()
    optimizer = optimizer_of(model)
    rewind = tail_rewind(model, optimizer, below=4)
    first, second = random_batches(1), random_batches(2)
    for day in (first, second):
        at_start, few = snapshot(model, optimizer), [n < 4 for n in lookups(day)]
        rewind.before_epoch(0)
        train(model, optimizer, day)
        expected = where(few, at_start, snapshot(model, optimizer))
        rewind.before_epoch(1)
        assert_same(snapshot(model, optimizer), expected)
        train(model, optimizer, day)


def test_meda_and_meda_restored_differ_on_the_second_day():
    for make, restored in ((meda_restored, True), (meda, False)):
        model = Tables()
        optimizer = optimizer_of(model)
        rewind = make(model, optimizer)
        for day in (1, 2):
            at_start = snapshot(model, optimizer)
            rewind.before_epoch(0)
            train(model, optimizer, random_batches(day))
            rewind.before_epoch(1)
            now = snapshot(model, optimizer)
            same = [torch.equal(a["weight"], b["weight"]) for a, b in zip(now, at_start)]
            assert all(same) if restored else not any(same)
            train(model, optimizer, random_batches(day))


def test_bfloat16_tables_come_back_bit_for_bit():
    model = Tables(dtype=torch.bfloat16)
    optimizer = optimizer_of(model)
    train(model, optimizer, random_batches(1))
    start = snapshot(model, optimizer)
    rewind = meda_restored(model, optimizer)
    rewind.before_epoch(0)
    train(model, optimizer, random_batches(2))
    rewind.before_epoch(1)
    assert_same(snapshot(model, optimizer), start)


def test_the_undo_log_grows_with_the_rows_touched_and_not_with_the_table():
    def undo_log_bytes(n_rows, n_ids):
        model = Tables(rows=(n_rows,), dims=(8,))
        optimizer = optimizer_of(model)
        rewind = tail_rewind(model, optimizer, below=3)
        rewind.before_epoch(0)
        ids = torch.randperm(n_ids, generator=torch.Generator().manual_seed(0)).split(50)
        train(model, optimizer, [[i] for i in ids])
        return rewind.n_bytes

    per_row = 8 * 3 * 4 + 8 + 8 + 4  # weight and two moments, its id twice, its count
    assert undo_log_bytes(1_000, 500) == undo_log_bytes(50_000, 500) == 500 * per_row
    assert undo_log_bytes(1_000, 1_000) == 1_000 * per_row


KEEPS = ("table", "cpu")


@pytest.mark.parametrize("keep", KEEPS)
@pytest.mark.parametrize("rule", ["adam", "rowwise_adagrad"])
def test_rows_return_wherever_the_undo_log_is(keep, rule):
    model = Tables()
    optimizer = optimizer_of(model, rule)
    train(model, optimizer, random_batches(1))
    start = snapshot(model, optimizer)
    rewind = tail_rewind(model, optimizer, below=math.inf, undo_log=keep)
    rewind.before_epoch(0)
    train(model, optimizer, random_batches(2))
    rewind.before_epoch(1)
    assert_same(snapshot(model, optimizer), start)


@pytest.mark.parametrize("saved", KEEPS)
def test_an_undo_log_resumes_from_one_that_was_kept_elsewhere(saved, tmp_path):
    model = Tables()
    optimizer = optimizer_of(model)
    first, second = random_batches(1), random_batches(2)
    rewind = tail_rewind(model, optimizer, 4, undo_log=saved)
    rewind.before_epoch(0)
    train(model, optimizer, first)
    torch.save(rewind.state_dict(), tmp_path / "rewind.pt")
    middle = copy.deepcopy((model, optimizer))
    train(model, optimizer, second)
    rewind.before_epoch(1)
    expected = snapshot(model, optimizer)

    model, optimizer = middle
    loaded = KEEPS[1 - KEEPS.index(saved)]
    rewind = tail_rewind(model, optimizer, 4, undo_log=loaded)
    rewind.load_state_dict(torch.load(tmp_path / "rewind.pt", weights_only=True))
    train(model, optimizer, second)
    rewind.before_epoch(1)
    assert_same(snapshot(model, optimizer), expected)


@pytest.mark.parametrize("path", [None, "eager", "padded"])
def test_a_step_that_failed_to_keep_its_rows_may_be_tried_again(path, monkeypatch):
    model = Tables()
    optimizer = optimizer_of(model)
    optimizer._path = path
    rewind = tail_rewind(model, optimizer, 3)
    start, day = snapshot(model, optimizer), random_batches(1)
    few = [(n > 0) & (n < 3) for n in lookups(day)]
    rewind.before_epoch(0)
    train(model, optimizer, day[:2])
    real, n_calls = rewind._records[0]._keep, 0

    def full(columns):
        nonlocal n_calls
        n_calls += 1
        if n_calls <= 2:
            raise MemoryError
        return real(columns)

    monkeypatch.setattr(rewind._records[0], "_keep", full)
    for batch in day[2:]:
        for _ in range(4):
            try:
                train(model, optimizer, [batch])
                break
            except MemoryError:
                pass
    assert n_calls > 2
    expected = where(few, start, snapshot(model, optimizer))
    rewind.before_epoch(1)
    assert_same(snapshot(model, optimizer), expected)


def test_an_undo_log_that_cannot_be_is_refused():
    model = Tables()
    with pytest.raises(ValueError, match=r"undo_log='disk' must be 'table' or 'cpu'"):
        tail_rewind(model, optimizer_of(model), 4, undo_log="disk")
    with pytest.raises(ValueError, match="no effect"):
        tail_rewind(model, optimizer_of(model), 4, to="reinit", undo_log="cpu")


@pytest.mark.parametrize("kind", [Counts, UndoLog])
def test_a_batch_filled_up_with_its_first_row_counts_it_once(kind):
    """As the row hook gives it on CUDA: slots past the last row repeat it, with 0 occurrences."""
    table = torch.arange(10.0)[:, None]
    record = kind(table)
    for _ in range(2):
        record.add(
            torch.tensor([7, 2, 7, 7, 7]),
            torch.tensor([2, 1, 0, 0, 0], dtype=torch.int32),
            lambda: {"weight": table},
        )
    saved = record.state_dict()
    assert (saved["ids"].tolist(), saved["counts"].tolist()) == ([2, 7], [2, 4])
    if kind is UndoLog:
        assert saved["values"]["weight"].flatten().tolist() == [7.0, 2.0]


MAKERS = {
    "draw below 4": lambda m, o: Rewind(m, o, 4, "reinit", seed=2),
    "start below 4": lambda m, o: Rewind(m, o, 4, "start"),
    "meda": lambda m, o: meda(m, o, seed=2),
    "meda_restored": meda_restored,
}


def run(model, optimizer, rewind, plan):
    """plan: (epoch index to begin or None, batches)."""
    for index, batches in plan:
        if index is not None:
            rewind.before_epoch(index)
        train(model, optimizer, batches)


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("stop", [1, 2, 3, 5])
def test_a_restart_in_mid_epoch_is_bit_for_bit(name, stop, tmp_path):
    a, b, c = (random_batches(s) for s in (1, 2, 3))
    plan = [(0, a), (None, b), (1, a), (None, b), (2, a + b), (0, c), (1, c)]

    def make(seed):
        model = Tables(seed)
        optimizer = optimizer_of(model, row_decay=AdaptiveRegularization(1e-3))
        return model, optimizer, MAKERS[name](model, optimizer)

    straight = make(0)
    run(*straight, plan)
    first = make(0)
    run(*first, plan[:stop])
    torch.save([part.state_dict() for part in first], tmp_path / "state.pt")
    run(*first, plan[stop:])  # what is saved is a copy
    second = make(1)
    for part, state in zip(second, torch.load(tmp_path / "state.pt", weights_only=True)):
        part.load_state_dict(state)
    run(*second, plan[stop:])
    for model, optimizer, _ in (first, second):
        assert_same(snapshot(model, optimizer), snapshot(*straight[:2]))


def test_groups_carry_one_set_of_tables_for_each_epoch_index():
    model = Tables()
    optimizer = optimizer_of(model)
    groups = meda_groups(model, optimizer, n_epochs=3, seed=4)
    left = {}
    for day in range(3):
        for index in range(3):
            groups.before_epoch(index)
            if day:  # the group is as its last epoch left it, the row state too
                assert_same(snapshot(model, optimizer), left[index])
            train(model, optimizer, random_batches(day))
            left[index] = snapshot(model, optimizer)
    weights = [left[index][0]["weight"] for index in range(3)]
    assert not any(torch.equal(weights[i], weights[j]) for i, j in ((0, 1), (0, 2), (1, 2)))
    one = sum(v.numel() * v.element_size() for values in left[0] for v in values.values())
    assert groups.n_bytes == 2 * one


def test_errors_say_what_would_do():
    model = Tables()
    optimizer = optimizer_of(model)
    for below in (-1, math.nan):
        with pytest.raises(ValueError, match="a number of lookups, 0 or more"):
            Rewind(model, optimizer, below)
    with pytest.raises(ValueError, match="to='back' must be 'reinit' or 'start'"):
        Rewind(model, optimizer, to="back")
    with pytest.raises(ValueError, match="not a parameter of the model"):
        Rewind(Tables(), optimizer)
    with pytest.raises(TypeError, match="EmbeddingOptimizer or a SparseOptimizer"):
        Rewind(model, torch.optim.SparseAdam(model.parameters()))
    rewind = tail_rewind(model, optimizer, below=2)
    with pytest.raises(RuntimeError, match=r"before_epoch\(1\) after no epoch"):
        rewind.before_epoch(1)
    rewind.before_epoch(0)
    with pytest.raises(RuntimeError, match=r"before_epoch\(2\) after epoch 0"):
        rewind.before_epoch(2)
    with pytest.raises(ValueError, match="n_epochs=0"):
        meda_groups(model, optimizer, 0)
    with pytest.raises(ValueError, match="groups are 0 to 1"):
        meda_groups(model, optimizer, 2).before_epoch(2)


def test_the_state_of_other_arguments_or_tables_is_refused():
    model = Tables()
    optimizer = optimizer_of(model)
    small = Tables(rows=(3, 3), dims=(2, 2))
    small_optimizer = optimizer_of(small)
    with pytest.raises(ValueError, match="Rewind with below=3, this one has 2"):
        tail_rewind(model, optimizer, 2).load_state_dict(
            tail_rewind(model, optimizer, 3).state_dict()
        )
    for to in ("reinit", "start"):
        rewind = Rewind(model, optimizer, 2, to)
        rewind.before_epoch(0)
        train(model, optimizer, random_batches(0))
        with pytest.raises(ValueError, match="a table of the same shape"):
            Rewind(small, small_optimizer, 2, to).load_state_dict(rewind.state_dict())


class Wrapped:
    """As Accelerate and Lightning hand out an optimizer: around it, in `.optimizer`."""

    def __init__(self, optimizer):
        self.optimizer = optimizer


@pytest.mark.parametrize(
    "copy_of", [copy.deepcopy, lambda parts: pickle.loads(pickle.dumps(parts))]
)
@pytest.mark.parametrize("name", MAKERS)
def test_a_copy_goes_on_as_the_original_does(name, copy_of):
    a, b = random_batches(1), random_batches(2)
    model = Tables()
    model.tables[0] = nn.Embedding(ROWS[0], DIMS[0], sparse=True, padding_idx=2)
    optimizer = optimizer_of(model)
    parts = model, optimizer, MAKERS[name](model, optimizer)
    run(*parts, [(0, a)])
    twin = copy_of(parts)
    for one in (parts, twin):
        run(*one, [(None, b), (1, a)])
    assert_same(snapshot(*twin[:2]), snapshot(*parts[:2]))
    twin[2].before_epoch(2)
    assert twin[0].tables[0].weight[2].count_nonzero() == 0, "the padding row"


def test_epoch_0_is_not_begun_again_in_silence_after_resuming_inside_it():
    model = Tables()
    optimizer = optimizer_of(model)
    rewind = tail_rewind(model, optimizer, below=4)
    run(model, optimizer, rewind, [(0, random_batches(1))])
    resumed = tail_rewind(model, optimizer, below=4)
    resumed.load_state_dict(rewind.state_dict())
    with pytest.raises(RuntimeError, match=r"skip the call while rewind\.epoch is 0"):
        resumed.before_epoch(0)
    resumed.new_data()
    resumed.before_epoch(0)
    assert resumed.n_bytes == 0
    train(model, optimizer, random_batches(2))
    resumed.before_epoch(0)  # the next day


def test_a_draw_has_the_mean_and_deviation_that_the_table_had():
    model = Tables(rows=(4_000, 25), dims=(8, 5))
    nn.init.normal_(model.tables[0].weight, 0.2, 1e-4)
    model.tables[1].weight.data.zero_()
    optimizer = optimizer_of(model)
    makers = (
        lambda: meda(model, optimizer),
        lambda: Rewind(model, optimizer, 10_000, to="reinit"),
        lambda: meda_groups(model, optimizer, 2),
    )
    for remedy in [make() for make in makers]:
        remedy.before_epoch(0)
        everything = [[torch.arange(4_000), torch.arange(25)]]
        train(model, optimizer, everything)
        remedy.before_epoch(1)
        first, second = (t.weight.detach() for t in model.tables)
        assert first.mean().item() == pytest.approx(0.2, abs=1e-5)
        assert first.std().item() == pytest.approx(1e-4, rel=0.05)
        assert not second.any()
    # A job that resumes with trained tables redraws as the first one would have.
    old = meda(model, optimizer)
    model.tables[0].weight.data.mul_(100)
    new = meda(model, optimizer)
    old.before_epoch(0)
    new.load_state_dict(old.state_dict())
    new.before_epoch(1)
    assert model.tables[0].weight.std().item() == pytest.approx(1e-4, rel=0.05)


def test_the_optimizer_may_be_wrapped():
    model = Tables()
    optimizer = optimizer_of(model)
    for remedy in (meda_restored, lambda m, o: tail_rewind(m, o, 4), meda):
        rewind = remedy(model, Wrapped(Wrapped(optimizer)))
        run(model, optimizer, rewind, [(0, random_batches(1)), (1, random_batches(1))])


@pytest.mark.parametrize("to", ["reinit", "start"])
def test_a_table_may_grow_within_an_epoch(to):
    model = Tables()
    optimizer = optimizer_of(model)
    rewind = Rewind(model, optimizer, 3, to, init=lambda w: w.fill_(7.0))
    rewind.before_epoch(0)
    train(model, optimizer, random_batches(1))
    optimizer.grow_table(model.tables[0].weight, torch.full((5, DIMS[0]), 7.0))
    new = [torch.tensor([ROWS[0] + 2]), torch.tensor([0])]
    train(model, optimizer, [new, new])
    assert not (model.tables[0].weight[ROWS[0] + 2] == 7.0).any()
    rewind.before_epoch(1)
    assert (model.tables[0].weight[ROWS[0] :] == 7.0).all()
    train(model, optimizer, [new])


@pytest.mark.parametrize("to", ["reinit", "start"])
def test_a_state_saved_after_growth_loads(to):
    def grown():
        model = Tables()
        optimizer = optimizer_of(model)
        make = lambda: Rewind(model, optimizer, 3, to, init=lambda w: w.fill_(7.0))  # noqa: E731
        return (
            model,
            optimizer,
            make,
            lambda: optimizer.grow_table(model.tables[0].weight, torch.full((5, DIMS[0]), 7.0)),
        )

    parts = []
    for saved in (False, True):
        model, optimizer, make, grow = grown()
        rewind = make()
        rewind.before_epoch(0)
        train(model, optimizer, random_batches(1))
        grow()
        if saved:
            states = [part.state_dict() for part in (model, optimizer, rewind)]
            model, optimizer, make, grow = grown()
            grow()
            rewind = make()
            for part, state in zip((model, optimizer, rewind), states):
                part.load_state_dict(state)
        train(model, optimizer, [[torch.tensor([ROWS[0] + 2]), torch.tensor([0])]])
        rewind.before_epoch(1)
        parts.append(snapshot(model, optimizer))
    assert_same(*parts)


def test_a_state_of_tables_in_another_order_is_refused():
    """They may have one shape, and the optimizer's state is matched by name."""
    states = []
    for names in (("user", "item"), ("item", "user")):
        model = nn.ModuleDict({name: nn.Embedding(9, 4, sparse=True) for name in names})
        optimizer = EmbeddingOptimizer(model.named_parameters(), 0.1)
        rewind = tail_rewind(nn.ModuleDict({"module": model}), optimizer, 3)  # as DDP wraps it
        rewind.before_epoch(0)
        states.append(rewind.state_dict())
    with pytest.raises(ValueError, match=r"tables=\['user.weight', 'item.weight'\], this one"):
        rewind.load_state_dict(states[0])


def test_a_table_added_after_the_remedy_is_refused():
    for make in (meda, meda_restored, lambda m, o: meda_groups(m, o, 2)):
        model = Tables()
        model.more = nn.Embedding(4, 2, sparse=True)
        optimizer = optimizer_of(model)
        remedy = make(model, optimizer)
        remedy.before_epoch(0)
        optimizer.add_param_group({"params": [model.more.weight]})
        with pytest.raises(
            RuntimeError, match="has 3 tables, and had 2 when this remedy was built"
        ):
            remedy.before_epoch(1)


def test_an_empty_table_waits_for_its_first_rows():
    model = Tables(rows=(0, 25))
    optimizer = optimizer_of(model)
    for make in (meda, lambda m, o: meda_groups(m, o, 2)):
        with pytest.raises(ValueError, match=r"table 0 .*\(0, 3\), is empty.*give init"):
            make(model, optimizer)
    rewind = meda_restored(model, optimizer)
    rewind.before_epoch(0)
    optimizer.grow_table(model.tables[0].weight, torch.full((2, 3), 7.0))
    train(model, optimizer, [[torch.tensor([1]), torch.tensor([0])]])
    rewind.before_epoch(1)
    assert (model.tables[0].weight == 7.0).all()


def test_table_groups_name_a_table_that_has_grown():
    model = Tables()
    optimizer = optimizer_of(model)
    groups = meda_groups(model, optimizer, 2)
    groups.before_epoch(1)
    optimizer.grow_table(model.tables[1].weight, 2)
    before = snapshot(model, optimizer)
    with pytest.raises(RuntimeError, match=r"25 rows has grown to shape \(27, 5\)"):
        groups.before_epoch(0)
    assert_same(snapshot(model, optimizer), before)


def test_a_step_whose_second_undo_log_fails_changes_no_table():
    model = Tables()
    optimizer = optimizer_of(model)
    rewind = tail_rewind(model, optimizer, 3)
    rewind.before_epoch(0)
    rewind._records[1]._keep = lambda *_: 1 / 0
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ZeroDivisionError):
        train(model, optimizer, random_batches(0))
    assert all(map(torch.equal, before.values(), model.state_dict().values()))


@pytest.mark.parametrize("make", [meda, meda_restored, lambda *of: tail_rewind(*of, 3)])
def test_a_state_of_fewer_tables_or_of_something_else_is_refused(make):
    model = Tables(rows=ROWS[:1])
    rewind = make(model, optimizer_of(model))
    rewind.before_epoch(0)
    model = Tables()
    other = make(model, optimizer_of(model))
    with pytest.raises(ValueError, match=r"tables=\['tables.0.weight'\], this one has"):
        other.load_state_dict(rewind.state_dict())
    with pytest.raises(ValueError, match="this is no state of a Rewind: it has no 'below'"):
        other.load_state_dict(model.state_dict())
    without = {name: value for name, value in rewind.state_dict().items() if name != "to"}
    with pytest.raises(ValueError, match="this is no state of a Rewind: it has no 'to'"):
        rewind.load_state_dict(without)


@pytest.mark.parametrize("to", ["reinit", "start"])
def test_a_table_that_is_frozen_keeps_its_rows(to):
    """Frozen after the optimizer was built, as for fine-tuning the rest of a model."""
    model = Tables()
    optimizer = optimizer_of(model)
    rewind = Rewind(model, optimizer, math.inf, to)
    rewind.before_epoch(0)
    train(model, optimizer, random_batches(0))
    frozen, learning = (table.weight for table in model.tables)
    frozen.requires_grad_(False)
    before = frozen.clone(), learning.detach().clone()
    rewind.before_epoch(1)
    assert torch.equal(frozen, before[0])
    assert not torch.equal(learning, before[1])
    with rewind.serving():
        assert torch.equal(frozen, before[0])

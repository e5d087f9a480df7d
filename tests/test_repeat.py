"""The loop over epochs: a dense rate that falls under any scheduler, and the mean of the ends."""

import copy
import io
import random

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler as schedulers

from multiepoch.optim import EmbeddingOptimizer, FrequencyAdaptiveLR, SparseOptimizer
from multiepoch.remedies import meda, meda_restored, tail_rewind

ROWS, DIM = 20, 3
MAKE = {
    "meda": lambda m, o, **options: meda(m, o, seed=1, **options),
    "meda_restored": meda_restored,
    "tail_rewind": lambda m, o, **options: tail_rewind(m, o, 4, **options),
    "tail_rewind, drawn": lambda m, o, **options: tail_rewind(m, o, 4, "reinit", **options),
}


class Model(nn.Module):
    """Two tables, one of them frozen, a buffer that is averaged, and one that is not."""

    def __init__(self, seed=0, dtype=torch.float32):
        super().__init__()
        torch.manual_seed(seed)
        self.user = nn.Embedding(ROWS, DIM, sparse=True, dtype=dtype)
        self.item = nn.EmbeddingBag(ROWS, DIM, sparse=True, mode="sum", dtype=dtype)
        self.frozen = nn.Embedding(ROWS, DIM, sparse=True, dtype=dtype).requires_grad_(False)
        self.norm = nn.BatchNorm1d(DIM, dtype=dtype)  # running means, and an integer
        self.tower = nn.Linear(DIM, 1, dtype=dtype)

    def forward(self, users, items):
        rows = self.user(users) + self.item(items) + self.frozen(users)
        return self.tower(self.norm(rows)).squeeze(1)


def built(seed=0, dtype=torch.float32, dense=torch.optim.Adam, **options):
    model = Model(seed, dtype)
    options = {"rule": "rowwise_adagrad", **options}
    pair = SparseOptimizer.from_model(model, 0.01, 0.3, dense, **options)
    return model, pair


def batches(seed, n=4, size=6):
    g = torch.Generator().manual_seed(seed)
    draw = lambda *shape: (torch.rand(shape, generator=g) ** 2 * ROWS).long()  # noqa: E731
    return [(draw(size), draw(size, 2), torch.rand(size, generator=g)) for _ in range(n)]


def train(model, optimizer, data, after_step=lambda: None):
    for users, items, target in data:
        optimizer.zero_grad()
        (model(users, items).float() - target).square().mean().backward()
        optimizer.step()
        after_step()


def floating(model):
    """Copies all weights and floating buffers in float64: what the mean is a mean of."""
    return {k: v.double().clone() for k, v in model.state_dict().items() if v.is_floating_point()}


def assert_served(repeat, model, expected, tolerance=1e-6):
    before = copy.deepcopy(model.state_dict())
    with repeat.serving():
        for name, value in floating(model).items():
            torch.testing.assert_close(value, expected[name], rtol=tolerance, atol=tolerance)
        assert model.norm.num_batches_tracked == before["norm.num_batches_tracked"]
    assert_equal(model.state_dict(), before)


def what_is_served(repeat, model):
    with repeat.serving():
        return copy.deepcopy(model.state_dict())


def assert_equal(one, other):
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


def mean(ends):
    return {name: sum(end[name] for end in ends) / len(ends) for name in ends[0]}


@pytest.mark.parametrize("make", MAKE)
@pytest.mark.parametrize("on", [None, "cpu"])
@pytest.mark.parametrize("first", [1, 2, 3])
def test_the_mean_of_the_ends_is_the_mean_by_hand(make, on, first):
    model, optimizer = built()
    repeat = MAKE[make](model, optimizer, average=True, average_from=first, average_on=on)
    ends = []
    for epoch in repeat.epochs(4):
        if not ends[first - 1 :]:  # the model itself, as long as there is no mean
            assert_served(repeat, model, floating(model))
        train(model, optimizer, batches(5))
        ends.append(floating(model))
        assert epoch + 1 == len(ends)
    assert_served(repeat, model, mean(ends[first - 1 :]))
    size = sum(v.nbytes for v in model.state_dict().values() if v.is_floating_point())
    assert repeat._mean.n_bytes == size


def test_a_loop_of_ones_own_does_what_epochs_does():
    served = []
    for own in (False, True):
        model, optimizer = built(row_lr=FrequencyAdaptiveLR(gap_decay=0.5))
        repeat = tail_rewind(model, optimizer, 4, dense_factor=0.1, average=True)
        epochs = range(3) if own else repeat.epochs(3)
        for epoch in epochs:
            if own:
                repeat.before_epoch(epoch)
            assert optimizer.embedding.param_groups[0]["epoch"] == epoch
            train(model, optimizer, batches(5))
        repeat.end_epoch()
        repeat.end_epoch()  # an end counts once
        served.append(what_is_served(repeat, model))
    assert_equal(*served)


@pytest.mark.parametrize("make", MAKE)
@pytest.mark.parametrize("stop", range(1, 13))
def test_a_job_resumes_bit_for_bit_within_an_epoch_and_at_its_end(make, stop):
    """`stop` is the number of steps before the interruption, of 4 in each of 3 epochs."""

    def job():
        model, optimizer = built()
        options = {"dense_factor": 0.1, "average": True, "average_from": 1}
        return model, optimizer, MAKE[make](model, optimizer, **options)

    model, optimizer, repeat = whole = job()
    n_steps, file = 0, io.BytesIO()

    def save_at_stop():
        nonlocal n_steps
        n_steps += 1
        if n_steps == stop:
            if n_steps % 4 == 0:
                repeat.end_epoch()
            torch.save([one.state_dict() for one in whole], file)

    for _ in repeat.epochs(3):
        train(model, optimizer, batches(5), save_at_stop)
    model, optimizer, repeat = other = job()
    file.seek(0)
    for one, state in zip(other, torch.load(file, weights_only=True)):
        one.load_state_dict(state)
    seen = []
    for epoch in repeat.epochs(3):
        seen.append(epoch)
        train(model, optimizer, batches(5)[stop % 4 if epoch == stop // 4 else 0 :])
    assert seen == list(range(stop // 4, 3))
    assert_equal(model.state_dict(), whole[0].state_dict())
    assert_equal(what_is_served(repeat, model), what_is_served(whole[2], whole[0]))
    assert list(repeat.epochs(2)) == [0, 1]  # new data


def chained(optimizer):
    decays = [schedulers.ExponentialLR(optimizer, 0.9), schedulers.StepLR(optimizer, 3, 0.5)]
    return schedulers.ChainedScheduler(decays)


def sequence(optimizer):
    parts = [schedulers.LinearLR(optimizer, 0.1, total_iters=3)]
    parts.append(schedulers.CosineAnnealingLR(optimizer, 5))
    return schedulers.SequentialLR(optimizer, parts, [4])


SCHEDULERS = {
    "none": None,
    "LambdaLR": lambda o: schedulers.LambdaLR(o, lambda k: 1 / (1 + k)),
    "MultiplicativeLR": lambda o: schedulers.MultiplicativeLR(o, lambda k: 0.9),
    "OneCycleLR": lambda o: schedulers.OneCycleLR(
        o, [group["lr"] for group in o.param_groups], total_steps=40, cycle_momentum=False
    ),
    "ReduceLROnPlateau": lambda o: schedulers.ReduceLROnPlateau(o, patience=0),
    "ChainedScheduler": chained,
    "SequentialLR": sequence,
}


@pytest.mark.filterwarnings("ignore:the ratio of the tables' learning rates")
@pytest.mark.filterwarnings("ignore:The epoch parameter in `scheduler.step")
@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")
@pytest.mark.parametrize("order", ["scheduler first", "remedy first", "scheduler steps first"])
@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_the_dense_rate_is_a_tenth_of_what_any_scheduler_says(scheduler, apart, order):
    """By SGD, whose step is the rate times the gradient; the tables' rate is left alone."""
    model = Model()
    sgd = torch.optim.SGD(model.tower.parameters(), lr=0.01, momentum=0.0)
    if apart:
        tables, options = EmbeddingOptimizer([model.user.weight], 0.3), {"dense": sgd}
        scheduled = sgd
    else:
        model.norm.requires_grad_(False)
        model.item.requires_grad_(False)
        tables = scheduled = SparseOptimizer(
            sgd, EmbeddingOptimizer([model.user.weight], 0.3), model
        )
        options = {}
    make = SCHEDULERS[scheduler] or (lambda o: None)
    if order == "scheduler first":
        schedule, repeat = make(scheduled), meda(model, tables, dense_factor=0.1, **options)
    else:
        repeat, schedule = meda(model, tables, dense_factor=0.1, **options), make(scheduled)
    losses = iter(range(100))

    def advance():
        if schedule is not None:
            plateau = isinstance(schedule, schedulers.ReduceLROnPlateau)
            schedule.step(*[next(losses)] * plateau)

    seen = []
    for epoch in repeat.epochs(3):
        for users, items, target in batches(5):
            if order == "scheduler steps first":
                advance()
            before, rate = model.tower.weight.detach().clone(), sgd.param_groups[0]["lr"]
            (model(users, items) - target).square().mean().backward()
            expected = before - rate * (0.1 if epoch else 1) * model.tower.weight.grad
            for one in {tables, sgd} if apart else {tables}:
                one.step()
                one.zero_grad()
            torch.testing.assert_close(model.tower.weight.detach(), expected)
            assert sgd.param_groups[0]["lr"] == rate
            seen.append(rate)
            if order != "scheduler steps first":
                advance()
    assert (len(set(seen)) == 1) == (scheduler == "none")


def test_a_step_that_raises_puts_the_rate_back():
    class Refuses(torch.optim.SGD):
        def step(self, closure=None):
            seen.append(self.param_groups[0]["lr"])
            raise FloatingPointError

    seen, (model, optimizer) = [], built(dense=Refuses)
    repeat = meda(model, optimizer, dense_factor=0.1)
    for _ in repeat.epochs(2):
        with pytest.raises(FloatingPointError):
            train(model, optimizer, batches(5))
        assert optimizer.dense.param_groups[0]["lr"] == 0.01
    assert seen == pytest.approx([0.01, 0.001])


def test_the_factor_ends_with_the_remedy_and_is_not_multiplied_by_that_of_another():
    seen, (model, optimizer) = [], built()
    optimizer.dense.register_step_pre_hook(lambda o, *_: seen.append(o.param_groups[0]["lr"]))
    for repeat in (meda(model, optimizer, dense_factor=0.1) for _ in range(2)):
        for _ in repeat.epochs(2):
            train(model, optimizer, batches(5, n=1))
    repeat.close()
    train(model, optimizer, batches(5, n=1))
    assert seen == pytest.approx([0.01, 0.001, 0.01, 0.001, 0.01])


def test_serving_puts_back_what_is_trained_after_an_exception_and_refuses_a_step():
    model, optimizer = built()
    repeat = meda(model, optimizer, average=True)
    for _ in repeat.epochs(3):
        train(model, optimizer, batches(5))
    before = copy.deepcopy(model.eval().state_dict())  # in training it would count batches
    with pytest.raises(KeyError), repeat.serving():
        raise KeyError
    assert_equal(model.state_dict(), before)
    with pytest.raises(RuntimeError, match="train outside of it"), repeat.serving():
        train(model, optimizer, batches(5))
    calls = [repeat.state_dict, optimizer.embedding.state_dict, repeat.end_epoch]
    for call in (*calls, lambda: repeat.before_epoch(3), lambda: copy.deepcopy(repeat)):
        repeat._ended = False
        with pytest.raises(RuntimeError, match="within serving"), repeat.serving():
            call()
    assert_equal(model.state_dict(), before)


def test_a_table_that_grew_since_the_first_end_is_refused_until_new_data():
    model, optimizer = built()
    repeat = tail_rewind(model, optimizer, 4, average=True)
    for epoch in range(2):
        repeat.before_epoch(epoch)
        train(model, optimizer, batches(5))
    repeat.end_epoch()
    optimizer.grow_table("user.weight", 3)
    for use in (lambda: repeat.before_epoch(2), repeat.end_epoch, repeat.serving().__enter__):
        repeat._ended = False
        with pytest.raises(RuntimeError, match="begins a new mean"):
            use()
    ends = []
    for _ in repeat.epochs(3):
        train(model, optimizer, batches(5))
        ends.append(floating(model))
    assert_served(repeat, model, mean(ends[1:]))


def test_what_cannot_be_served_or_multiplied_is_refused():
    model, optimizer = built()
    for match, options in {
        "give dense=": {"dense_factor": 0.1},
        "a number": {"dense_factor": -1.0},
        "has its own": {"dense": optimizer.dense},
        "an epoch from 1": {"average_from": 0},
        "'cpu'": {"average_on": "cuda:0"},
    }.items():
        of = optimizer.embedding if match == "give dense=" else optimizer
        with pytest.raises(ValueError, match=match):
            meda(model, of, **options)
    state = meda(model, optimizer, average=True).state_dict()
    with pytest.raises(ValueError, match="average=True"):
        meda(model, optimizer).load_state_dict(state)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_mean_is_kept_in_float32_or_wider(dtype):
    model, optimizer = built(dtype=dtype, dense=torch.optim.SGD)
    repeat = meda(model, optimizer, average=True)
    ends = []
    for _ in repeat.epochs(4):
        train(model, optimizer, [(u, i, t.to(dtype)) for u, i, t in batches(5)])
        ends.append(floating(model))
    rounded = {k: v.to(dtype).double() for k, v in mean(ends[1:]).items()}
    assert_served(repeat, model, rounded, 1e-12 if dtype == torch.float64 else 8e-3)


def random_case(seed):
    """Trains days of random epochs with random options; compares each mean to one by hand."""
    pick = random.Random(seed)
    model, optimizer = built(seed, rule=pick.choice(["adam", "adagrad", "rowwise_adagrad", "sgd"]))
    first = pick.randint(1, 4)
    options = {"average_from": first, "average_on": pick.choice([None, "cpu"])}
    make = pick.choice([*MAKE.values()])
    make = lambda m, o, make=make: make(m, o, average=True, dense_factor=0.1, **options)  # noqa: E731
    repeat = make(model, optimizer)
    for day in range(pick.randint(1, 3)):
        ends, n_epochs = [], pick.randint(1, 5)
        frozen = pick.choice([None, None, model.user, model.tower])
        for _ in repeat.epochs(n_epochs):
            if frozen is not None:
                frozen.requires_grad_(len(ends) != 1)
            train(model, optimizer, batches(seed + day, pick.randint(1, 4)))
            ends.append(floating(model))
            if pick.random() < 0.3:
                repeat.end_epoch()
                state = repeat.state_dict()
                repeat.close()
                repeat = make(model, optimizer)
                repeat.load_state_dict(state)
                break
        for _ in repeat.epochs(n_epochs) if len(ends) < n_epochs else ():
            train(model, optimizer, batches(seed + day))
            ends.append(floating(model))
        if frozen is not None:
            frozen.requires_grad_()
        assert len(ends) == n_epochs
        counted = ends[first - 1 :]
        assert_served(repeat, model, mean(counted) if counted else ends[-1], 1e-5)
        if pick.random() < 0.3:
            optimizer.grow_table("item.weight", pick.randint(1, 4))
        repeat.new_data()


@pytest.mark.parametrize("seed", range(60))
def test_random_days_with_random_options(seed):
    random_case(seed)

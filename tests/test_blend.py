"""Blended serving against plain copies of every table and plain counts of every lookup."""

import copy
import io
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from multiepoch.optim import EmbeddingOptimizer, SparseOptimizer
from multiepoch.optim.reference import new_state, reference_step
from multiepoch.remedies import Rewind, meda, meda_restored, tail_rewind

ROWS, DIM, LR, DENSE_LR = 30, 3, 0.05, 0.002
RULES = ("adam", "adagrad", "rowwise_adagrad", "sgd")


class Model(nn.Module):
    """A table with a padding row, and a table of bags with one."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.user = nn.Embedding(ROWS, DIM, sparse=True, padding_idx=0)
        self.words = nn.EmbeddingBag(ROWS, DIM, sparse=True, padding_idx=1, mode="sum")
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, user, words):
        return loss_of(self.user(user), self.words(words)) * self.scale

    @property
    def tables(self):
        return [self.user.weight, self.words.weight]


def loss_of(user, words):
    return (user * words).sin().sum() + (user + words).cos().sum()


def batches(generator, n_batches=4, n=6):
    """Skewed ids with duplicates. A user is one id, words are a bag of three."""
    draw = lambda *shape: (torch.rand(shape, generator=generator) ** 2 * ROWS).long()  # noqa: E731
    return [(draw(n), draw(n, 3)) for _ in range(n_batches)]


class Reference:
    """Tail rewind with blended serving, as the definition has it: dense, in double precision."""

    def __init__(self, tables, rule, below, fresh=None):
        self.rule, self.below, self.fresh = rule, below, fresh
        self.weights = [t.detach().double() for t in tables]
        self.states = [new_state(w) for w in self.weights]
        self.padding = (0, 1)
        self.counts = self.since = [torch.ones(ROWS)] * 2
        self.old = self.weights
        self.scale = self.old_scale = 1.0

    def tail(self, k):
        return ((self.counts[k] > 0) & (self.counts[k] < self.below))[:, None]

    def served(self):
        found = []
        for k, weight in enumerate(self.weights):
            share = (self.since[k] / self.counts[k].clamp(min=1)).clamp(max=1)[:, None]
            blend = share * weight + (1 - share) * self.old[k]
            found.append(torch.where(self.tail(k), blend, weight))
        return found

    def served_scale(self):
        """Of the dense layer, which follows the mean of the rows that are reset."""
        tail = torch.cat([self.tail(k)[:, 0] for k in range(2)])
        since, counts = (torch.cat(c)[tail].sum().item() for c in (self.since, self.counts))
        share = min(1.0, since / counts) if counts else 1.0
        return share * self.scale + (1 - share) * self.old_scale

    def before_epoch(self, index):
        self.index = index
        if index == 0:
            self.weights, self.scale = self.served(), self.served_scale()
            self.start = [w.clone() for w in self.weights], [copied(s) for s in self.states]
            self.counts = [torch.zeros(ROWS) for _ in self.weights]
            self.since = [c.clone() for c in self.counts]
            return
        self.old_scale = self.served_scale()
        self.old, self.since = self.served(), [torch.zeros(ROWS) for _ in self.weights]
        for k, weight in enumerate(self.weights):
            tail, every = self.tail(k), self.fresh is not None and math.isinf(self.below)
            reset = torch.ones_like(tail) if every else tail
            start = self.start[0][k] if self.fresh is None else torch.full_like(weight, self.fresh)
            if self.fresh is not None:  # the padding row is never redrawn
                start[self.padding[k]] = weight[self.padding[k]]
            self.weights[k] = torch.where(reset, start, weight)
            for name, value in self.states[k].items():
                if name != "step":
                    was = self.start[1][k][name] * (self.fresh is None)
                    mask = reset if value.dim() == 2 else reset[:, 0]
                    self.states[k][name] = torch.where(mask, was, value)

    def step(self, user, words):
        tables = [w.clone().requires_grad_() for w in self.weights]
        bags = F.embedding_bag(words, tables[1], mode="sum", padding_idx=1)
        loss = loss_of(F.embedding(user, tables[0], padding_idx=0), bags)
        (loss * self.scale).backward()
        self.scale -= DENSE_LR * loss.item()
        for k, ids in enumerate((user, words.flatten())):
            lookups = torch.bincount(ids[ids != self.padding[k]], minlength=ROWS).double()
            reference_step(
                self.weights[k], tables[k].grad, lookups, self.states[k], lr=LR, rule=self.rule
            )
            if self.index == 0:
                self.counts[k] += lookups
                self.since = [c.clone() for c in self.counts]
            else:
                self.since[k] += lookups


def copied(state):
    return {k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in state.items()}


def build(rule, below, fresh):
    model = Model()
    optimizer = SparseOptimizer.from_model(model, DENSE_LR, LR, dense=torch.optim.SGD, rule=rule)
    to = {"to": "start"} if fresh is None else {"to": "reinit", "init": lambda w: w.fill_(fresh)}
    return model, optimizer, Rewind(model, optimizer, below, serve="blend", **to)


def resumed(parts, *arguments):
    """The same job after it was saved and started again."""
    file = io.BytesIO()
    torch.save([part.state_dict() for part in parts], file)
    file.seek(0)
    again = build(*arguments)
    for part, state in zip(again, torch.load(file, weights_only=True)):
        part.load_state_dict(state)
    return again


@pytest.mark.parametrize("fresh", [None, 0.3], ids=["start", "reinit"])
@pytest.mark.parametrize("below", [3, 8, math.inf])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("seed", range(2))
def test_trained_and_served_rows_are_those_of_the_definition(rule, below, fresh, seed):
    generator = torch.Generator().manual_seed(seed)
    arguments = rule, below, fresh
    parts = build(*arguments)
    reference = Reference(parts[0].tables, *arguments)
    blended = 0.0
    for day, n_epochs in enumerate((3, 2)):
        data = batches(generator)
        for index in range(n_epochs):
            parts[2].before_epoch(index)
            reference.before_epoch(index)
            order = torch.randperm(len(data), generator=generator).tolist()
            if (day, index) == (0, 1) and seed % 2:
                order = order[1:]  # an epoch that ends early
            for position in order:
                model, optimizer, rewind = parts
                optimizer.zero_grad()
                model(*data[position]).backward()
                optimizer.step()
                reference.step(*data[position])
                trained, scale = [t.detach().clone() for t in model.tables], model.scale.item()
                exported, expected = rewind.export(model), reference.served()
                expected_scale = pytest.approx(reference.served_scale(), abs=1e-6)
                with rewind.serving():
                    served = [t.detach().clone() for t in model.tables]
                    assert model.scale.item() == expected_scale
                assert exported["scale"] == expected_scale
                assert model.scale.item() == scale == pytest.approx(reference.scale, abs=1e-6)
                for k, name in enumerate(("user.weight", "words.weight")):
                    torch.testing.assert_close(
                        trained[k].double(), reference.weights[k], rtol=1e-6, atol=1e-6
                    )
                    torch.testing.assert_close(
                        served[k].double(), expected[k], rtol=1e-6, atol=1e-6
                    )
                    assert torch.equal(model.tables[k], trained[k]), "put back bit for bit"
                    assert torch.equal(exported[name], served[k])
                    blended = max(blended, (served[k] - trained[k]).abs().max().item())
                if torch.rand((), generator=generator) < 0.2:
                    parts = resumed(parts, *arguments)
    assert blended > 0.01, "something was blended"


def a_day(make, rule="adagrad", n=400):
    """A model after epoch 0 over one long batch, its optimizer, its rewind, and the batch."""
    model = Model()
    optimizer = EmbeddingOptimizer(model.tables, lr=LR, rule=rule)
    rewind = make(model, optimizer)
    (batch,) = batches(torch.Generator().manual_seed(0), 1, n)
    rewind.before_epoch(0)
    step(model, optimizer, batch)
    return model, optimizer, rewind, batch


def step(model, optimizer, batch):
    model.zero_grad()
    model(*batch).backward()
    optimizer.step()


def served(model, rewind):
    with rewind.serving():
        return [t.detach().clone() for t in model.tables]


MAKERS = {
    "tail rewind": lambda m, o: tail_rewind(m, o, below=15, serve="blend"),
    "meda": lambda m, o: meda(m, o, serve="blend"),
    "meda_restored": lambda m, o: meda_restored(m, o, serve="blend"),
}


@pytest.mark.parametrize("name", MAKERS)
def test_what_is_served_does_not_change_at_the_reset_and_is_the_trained_at_the_end(name):
    model, optimizer, rewind, (users, words) = a_day(MAKERS[name])
    before = [t.detach().clone() for t in model.tables]
    rewind.before_epoch(1)
    touched = [torch.bincount(ids.flatten(), minlength=ROWS) > 0 for ids in (users, words)]
    for was, is_served, trained, rows in zip(
        before, served(model, rewind), model.tables, touched, strict=True
    ):
        assert torch.equal(was[rows], is_served[rows])
        assert not torch.equal(was[rows], trained[rows])
    for part in zip(users.split(100), words.split(100)):
        step(model, optimizer, part)
    for is_served, trained in zip(served(model, rewind), model.tables):
        assert torch.equal(is_served, trained)


def test_a_step_within_serving_is_refused_and_an_error_puts_the_rows_back():
    model, optimizer, rewind, batch = a_day(MAKERS["tail rewind"])
    rewind.before_epoch(1)
    trained = [t.detach().clone() for t in model.tables]
    with pytest.raises(RuntimeError, match="train outside of it"), rewind.serving():
        with rewind.serving():  # a helper that evaluates may do so, too
            pass
        assert not torch.equal(model.tables[0], trained[0])
        step(model, optimizer, batch)
    assert all(map(torch.equal, model.tables, trained))
    step(model, optimizer, batch)


def test_what_would_lose_a_step_or_save_served_rows_is_refused_while_serving():
    model, optimizer, rewind, batch = a_day(MAKERS["tail rewind"])
    dense, other = (
        torch.optim.SGD([model.scale], lr=0.1),
        torch.optim.SGD([nn.Parameter(batch[0] * 1.0)], 0.1),
    )
    rewind.before_epoch(1)
    state = rewind.state_dict()
    for refused in (
        dense.step,
        lambda: rewind.before_epoch(2),
        rewind.state_dict,
        lambda: rewind.load_state_dict(state),
        lambda: copy.deepcopy(rewind),
        optimizer.state_dict,
    ):
        with pytest.raises(RuntimeError, match=r"within serving"), rewind.serving():
            other.step()
            refused()
    for allowed in (dense.step, rewind.state_dict, optimizer.state_dict):
        allowed()


def test_integers_are_left_alone_and_a_replaced_buffer_is_served():
    model = Model()
    model.codes = nn.Parameter(torch.tensor([1, 2], dtype=torch.int8), requires_grad=False)
    model.register_buffer("seen", torch.zeros(1))
    optimizer = EmbeddingOptimizer(model.tables, lr=LR, rule="sgd")
    rewind = tail_rewind(model, optimizer, below=math.inf, serve="blend")
    (batch,) = batches(torch.Generator().manual_seed(0), 1)
    rewind.before_epoch(0)
    step(model, optimizer, batch)
    rewind.before_epoch(1)
    model.seen = torch.ones(1)
    with rewind.serving():
        assert model.seen.item() == 0, "as before the reset"
    assert model.seen.item() == 1
    model.register_buffer("more", torch.zeros(3))
    with pytest.raises(RuntimeError, match="other dense parameters or buffers"), rewind.serving():
        pass


def test_a_closed_rewind_no_longer_follows_the_optimizer():
    model, optimizer, rewind, batch = a_day(MAKERS["tail rewind"])
    with rewind:
        rewind.before_epoch(1)
        assert rewind.n_bytes > 0
    assert rewind.n_bytes == 0 and rewind.epoch is None and not optimizer._row_hooks
    step(model, optimizer, batch)
    assert rewind.n_bytes == 0
    rewind.before_epoch(0)  # it may begin anew
    step(model, optimizer, batch)
    assert rewind.n_bytes > 0


def test_memory_and_work_are_for_the_rows_that_are_reset():
    n_touched, n_bytes = 50, []
    for n_rows in (1_000, 100_000):
        table = nn.Embedding(n_rows, 8, sparse=True)
        optimizer = EmbeddingOptimizer([table.weight], lr=LR, rule="sgd")
        plain, blend = (tail_rewind(table, optimizer, 3, serve=s) for s in ("trained", "blend"))
        for rewind in (plain, blend):
            rewind.before_epoch(0)
        table(torch.arange(n_touched)).sum().backward()
        optimizer.step()
        for rewind in (plain, blend):
            rewind.before_epoch(1)
        n_bytes.append(blend.n_bytes - plain.n_bytes)
    assert n_bytes == [n_touched * (8 * 4 + 16)] * 2


@pytest.mark.parametrize(
    ("dtype", "exact"), [(torch.bfloat16, torch.float32), (torch.float64, torch.float64)]
)
def test_tables_are_blended_in_float32_or_their_own_precision(dtype, exact):
    table = nn.Embedding(4, 2, sparse=True, dtype=dtype)
    optimizer = EmbeddingOptimizer([table.weight], lr=0.1, rule="sgd")
    rewind = tail_rewind(table, optimizer, below=9, serve="blend")
    start = table.weight.detach().clone()
    rewind.before_epoch(0)
    for _ in range(3):
        table.zero_grad()
        table(torch.tensor([1])).sum().backward()
        optimizer.step()
    end = table.weight.detach().clone()
    rewind.before_epoch(1)
    assert torch.equal(table.weight, start)
    table.zero_grad()
    table(torch.tensor([1])).sum().backward()
    optimizer.step()
    expected = end[1].to(exact).lerp(table.weight[1].to(exact), 1 / 3).to(dtype)
    with rewind.serving():
        assert torch.equal(table.weight[1], expected)


def test_errors_say_what_would_do():
    model = Model()
    optimizer = EmbeddingOptimizer(model.tables, lr=LR)
    with pytest.raises(ValueError, match="serve='old' must be 'trained' or 'blend'"):
        tail_rewind(model, optimizer, 5, serve="old")
    plain, blend = (tail_rewind(model, optimizer, 5, serve=s) for s in ("trained", "blend"))
    with pytest.raises(ValueError, match="serve='trained', this one has 'blend'"):
        blend.load_state_dict(plain.state_dict())
    _, _, rewind, _ = a_day(MAKERS["tail rewind"])
    rewind.before_epoch(1)
    small = nn.ModuleDict({k: nn.Embedding(3, DIM, sparse=True) for k in ("user", "words")})
    optimizer = EmbeddingOptimizer([t.weight for t in small.values()], lr=LR, rule="adagrad")
    with pytest.raises(ValueError, match="a table of the same shape"):
        MAKERS["tail rewind"](small, optimizer).load_state_dict(rewind.state_dict())

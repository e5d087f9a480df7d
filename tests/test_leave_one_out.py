"""Leave-one-out rows: against the obvious loop, and what they promise."""

import copy
import io
import math

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from multiepoch.optim import EmbeddingOptimizer, FrequencyAdaptiveLR, SparseOptimizer
from multiepoch_lab.leave_one_out import LeaveOneOutRows

N, USERS, ITEMS, DIM, LR = 40, 8, 12, 3, 0.3


class Model(nn.Module):
    """Users and items."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.user = nn.Embedding(USERS, DIM, sparse=True)
        self.item = nn.Embedding(ITEMS, DIM, sparse=True)
        self.head = nn.Linear(2 * DIM, 1)
        self.read = None

    def forward(self, user, item):
        self.read = torch.cat([self.user(user), self.item(item)], dim=1)
        return self.head(self.read.tanh())[:, 0]


def data(seed=0):
    """Ids of user and item, (N,); labels; a generator."""
    generator = torch.Generator().manual_seed(seed)
    ids = [(torch.rand(N, generator=generator) ** 2 * n).long() for n in (USERS, ITEMS)]
    return ids, (torch.rand(N, generator=generator) < 0.5).float(), generator


def build(model=None, below=6, dense=torch.optim.SGD):
    model = model or Model()
    optimizer = SparseOptimizer.from_model(model, 0.1, LR, dense=dense)
    return model, optimizer, LeaveOneOutRows(model, optimizer, below)


def step(parts, ids, labels, at, scale=1.0):
    model, optimizer, rows = parts

    def closure():
        optimizer.zero_grad()
        logits = model(*(i[at] for i in ids))
        loss = scale * F.binary_cross_entropy_with_logits(logits, labels[at])
        loss.backward()
        return loss

    loss = rows.backward(at, closure)
    optimizer.step()
    return loss


def epochs(parts, n=3, **options):
    ids, labels, generator = data()
    for index in range(n):
        parts[2].before_epoch(index)
        for at in torch.randperm(N, generator=generator).split(9):
            step(parts, ids, labels, at, **options)
    return parts


def equal(one, other, **tolerance):
    for p, q in zip(one[0].parameters(), other[0].parameters()):
        torch.testing.assert_close(p, q, **(tolerance or {"rtol": 0, "atol": 0}))


class Loop:
    """The rule, one vote after another, in Python and float64, from what the rows remember."""

    def __init__(self, table, below):
        self.table, self.below, self.steps = table.detach().double().clone(), below, 0
        self.votes, self.count = {}, [0] * len(table)  # votes by row and impression
        self.square = torch.zeros(table.shape[1]).double()

    def read(self, row, impression):
        return self.table[row] - self.votes.get((row, impression), 0.0)

    def vote(self, gradients, lr):
        """gradients: by (row, impression), of an impression's loss."""
        before = list(self.count)
        for row, impression in gradients:
            again = before[row] < self.below and (row, impression) in self.votes
            self.count[row] += not again
        self.steps += 1
        found = torch.stack(list(gradients.values())).square().mean(dim=0)
        self.square += (found - self.square) / min(self.steps, 1000)
        for (row, impression), g in gradients.items():
            n, old = self.count[row], self.votes.pop((row, impression), None)
            weighs = 1 / math.sqrt(n + 4)
            if before[row] >= self.below:
                self.table[row] -= lr * weighs * g / self.square.sqrt()
                continue
            if old is not None:
                weighs = 2 * (math.sqrt(n + 4) - 2) / n
            new = -lr * weighs * g / self.square.sqrt()
            self.table[row] += new - (0.0 if old is None else old)
            self.votes[row, impression] = new


def test_300_random_cases_against_the_obvious_loop():
    for seed in range(300):
        rng = np.random.default_rng(seed)
        n, dim, n_rows = (int(rng.integers(1, most)) for most in (30, 40, 25))
        below = int(rng.choice([1, 4, 10**9]))
        generator = torch.Generator().manual_seed(seed)
        ids = torch.from_numpy(rng.integers(0, n_rows, n))
        table = nn.Embedding(n_rows, dim, sparse=True)
        optimizer = EmbeddingOptimizer(table.parameters(), lr=0.1)
        rows, loop = LeaveOneOutRows(table, optimizer, below), Loop(table.weight, below)
        for _ in range(3):
            some = torch.from_numpy(rng.permutation(n)[: rng.integers(1, n + 1)])
            gradient = torch.randn(len(some), dim, generator=generator)
            expected = torch.stack([loop.read(int(ids[j]), int(j)) for j in some])

            def closure(table=table, its=ids[some], gradient=gradient, expected=expected):
                read = table(its)
                torch.testing.assert_close(read.double(), expected, rtol=1e-5, atol=1e-5)
                (read * gradient / len(gradient)).sum().backward()

            rows.backward(some, closure)
            pairs = zip(ids[some].tolist(), some.tolist())
            loop.vote(dict(zip(pairs, gradient.double())), 0.1)
            torch.testing.assert_close(table.weight.double(), loop.table, rtol=1e-5, atol=1e-5)
        assert rows._tables[0].count.tolist() == loop.count


def test_a_model_trains_as_by_hand():
    model, optimizer, rows = build()
    ids, labels, generator = data()
    loops = Loop(model.user.weight, 6), Loop(model.item.weight, 6)
    for index in range(3):
        rows.before_epoch(index)
        for at in torch.randperm(N, generator=generator).split(9):
            pairs = [[(int(i[j]), j) for j in at.tolist()] for i in ids]
            read = [torch.stack([loop.read(*p) for p in of]) for loop, of in zip(loops, pairs)]
            leaf = torch.cat(read, dim=1).requires_grad_()
            head = nn.Linear(2 * DIM, 1).double()
            head.load_state_dict(model.head.state_dict())
            logits = head(leaf.tanh())[:, 0]
            F.binary_cross_entropy_with_logits(
                logits, labels[at].double(), reduction="sum"
            ).backward()
            step((model, optimizer, rows), ids, labels, at)
            torch.testing.assert_close(model.read.double(), leaf, rtol=1e-5, atol=1e-5)
            tables = (model.user.weight, model.item.weight)
            for of in zip(loops, pairs, leaf.grad.split(DIM, dim=1), tables):
                loop, its, gradient, table = of
                loop.vote(dict(zip(its, gradient)), LR)
                torch.testing.assert_close(table.double(), loop.table, rtol=1e-5, atol=1e-5)
    assert min(loops[1].count) < 6 < max(loops[1].count)


def test_what_an_impression_reads_does_not_depend_on_its_own_label():
    reads = []
    for label in (0.0, 1.0):
        parts = model, _, rows = build(below=math.inf)
        model.head.requires_grad_(False)
        ids, both = [torch.tensor([1, 2]), torch.tensor([3, 3])], torch.arange(2)
        for index in range(3):
            rows.before_epoch(index)
            step(parts, ids, torch.tensor([label, 1.0]), both)
        reads.append(model.read.detach())
        with torch.no_grad():
            model(*ids)
        reads.append(model.read.detach())
    # Both labels move the mean square of the table, so equal to the size of a vote and no further.
    user = slice(0, DIM)  # of a row of its own
    assert torch.allclose(reads[0][0, user], reads[2][0, user], atol=1e-6), "in training"
    assert not torch.allclose(reads[1], reads[3], atol=1e-2), "in evaluation, the full rows"


def test_the_scale_of_the_loss_changes_nothing():
    model = Model()
    model.head.requires_grad_(False)
    frozen = (copy.deepcopy(model) for _ in range(2))
    bare = lambda m: EmbeddingOptimizer([m.user.weight, m.item.weight], lr=LR)  # noqa: E731
    built = [(m, o := bare(m), LeaveOneOutRows(m, o, 6)) for m in frozen]
    equal(epochs(built[0]), epochs(built[1], scale=1000.0), rtol=0, atol=1e-6)


def test_new_data_keep_what_was_voted_and_forget_by_whom():
    model, _, rows = parts = epochs(build())
    before = model.item.weight.detach().clone()
    rows.before_epoch(0)
    ids, labels, _ = data()
    assert torch.equal(model.item.weight, before)
    step(parts, ids, labels, torch.arange(5))
    assert torch.equal(model.read[:, DIM:], before[ids[1][:5]])


def test_the_model_is_saved_and_copied_as_if_there_were_no_votes():
    parts = epochs(build())
    parts[0].read = None
    torch.save(parts[0], io.BytesIO())
    others = copy.deepcopy(parts)
    ids, labels, _ = data()
    for each in (parts, others):
        step(each, ids, labels, torch.arange(9))
    equal(parts, others)


class Scaled(nn.Embedding):
    def forward(self, ids):
        return 2 * super().forward(ids)


class Odd(nn.Module):
    """Looks users up by a function of its own."""

    def __init__(self, read, embedding=nn.Embedding, **options):
        super().__init__()
        self.user = embedding(USERS, DIM, sparse=True, **options)
        self.head, self.read = nn.Linear(DIM, 1), read

    def forward(self, user, item):
        return self.head(self.read(self.user, user))[:, 0]


@pytest.mark.parametrize(
    "match, model",
    {
        "must not scale": Odd(lambda user, ids: user(ids), Scaled),
        "something else": Odd(lambda user, ids: checkpoint(user, ids, use_reentrant=True)),
        "a checkpoint: ": Odd(
            lambda user, ids: checkpoint(
                lambda i: user(i).sin(), ids, use_reentrant=False, preserve_rng_state=False
            )
        ),
        "twice in a pass": Odd(lambda user, ids: user(ids) + user(ids)),
        "that was not seen": Odd(lambda user, ids: F.embedding(ids, user.weight, sparse=True)),
        "gets ids of shape": Odd(lambda user, ids: user(torch.stack([ids, ids], 1)).sum(1)),
    }.items(),
)
def test_a_pass_that_it_cannot_follow_is_refused_before_a_row_changes(match, model):
    parts, (ids, labels, _) = build(model), data()
    before = model.user.weight.detach().clone()
    with pytest.raises((ValueError, RuntimeError), match=match):
        step(parts, ids, labels, torch.arange(9))
    assert torch.equal(model.user.weight, before)
    assert not model.user._forward_hooks


def test_what_it_cannot_take_is_refused_in_a_sentence(monkeypatch):
    shared = Model()
    shared.other = nn.Embedding(USERS, DIM, sparse=True)
    shared.other.weight = shared.user.weight
    bag = Odd(None, nn.EmbeddingBag)
    for match, model in {
        "one nn.Embedding": shared,
        "EmbeddingBag: it must": bag,
        "padding_idx=0": Odd(None, padding_idx=0),
        "max_norm=1.0": Odd(None, max_norm=1.0),
        "float64": Model().double(),
    }.items():
        with pytest.raises(ValueError, match=match):
            build(model)
    with pytest.raises(ValueError, match="below=-1"):
        build(below=-1)
    model = Model()
    fal = SparseOptimizer.from_model(model, 0.1, LR, row_lr=FrequencyAdaptiveLR())
    with pytest.raises(ValueError, match="without row_lr"):
        LeaveOneOutRows(model, fal)
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    with pytest.raises(ValueError, match="on one process"):
        build()


def test_a_batch_or_a_table_that_does_not_fit_is_refused():
    parts, (ids, labels, _) = build(), data()
    for at in ([0, 0], [-1, 2]):
        with pytest.raises(ValueError, match="distinct, and none negative"):
            step(parts, ids, labels, torch.tensor(at))
    with pytest.raises(ValueError, match="int64"):
        parts[2].backward(torch.zeros(2), lambda: None)
    with pytest.raises(ValueError, match="without gaps"):
        parts[2].backward(torch.tensor([2**60]), lambda: None)
    parts[1].grow_table(parts[0].user.weight, 2)
    with pytest.raises(RuntimeError, match="grown"):
        step(parts, ids, labels, torch.arange(9))

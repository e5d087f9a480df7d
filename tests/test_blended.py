"""Blended serving against plain copies of every table and plain counts of every lookup."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from multiepoch.optim import SparseOptimizer
from multiepoch.optim.reference import new_state, reference_step
from multiepoch.remedies import Rewind
from multiepoch_lab.blended import Blended

ROWS, DIM, LR, DENSE_LR = 30, 3, 0.05, 0.002


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


@pytest.mark.parametrize("fresh", [None, 0.3], ids=["start", "reinit"])
@pytest.mark.parametrize("below", [3, 8, math.inf])
@pytest.mark.parametrize("rule", ["adam", "rowwise_adagrad"])
def test_trained_and_served_rows_are_those_of_the_definition(rule, below, fresh):
    generator = torch.Generator().manual_seed(0)
    model = Model()
    optimizer = SparseOptimizer.from_model(model, DENSE_LR, LR, dense=torch.optim.SGD, rule=rule)
    to = {"to": "start"} if fresh is None else {"to": "reinit", "init": lambda w: w.fill_(fresh)}
    blended = Blended(model, optimizer, Rewind(model, optimizer, below, **to))
    reference = Reference(model.tables, rule, below, fresh)
    largest = 0.0
    for day, n_epochs in enumerate((3, 2)):
        data = batches(generator)
        for index in range(n_epochs):
            blended.before_epoch(index)
            reference.before_epoch(index)
            order = torch.randperm(len(data), generator=generator).tolist()
            if (day, index) == (0, 1):
                order = order[1:]  # an epoch that ends early
            for position in order:
                optimizer.zero_grad()
                model(*data[position]).backward()
                optimizer.step()
                reference.step(*data[position])
                trained = [t.detach().clone() for t in model.tables]
                with blended.serving():
                    served = [t.detach().clone() for t in model.tables]
                    assert model.scale.item() == pytest.approx(reference.served_scale(), abs=1e-6)
                assert model.scale.item() == pytest.approx(reference.scale, abs=1e-6)
                expected = zip(model.tables, trained, reference.weights, served, reference.served())
                for table, of, its, shown, blend in expected:
                    torch.testing.assert_close(of.double(), its, rtol=1e-6, atol=1e-6)
                    torch.testing.assert_close(shown.double(), blend, rtol=1e-6, atol=1e-6)
                    assert torch.equal(table, of), "put back bit for bit"
                    largest = max(largest, (shown - of).abs().max().item())
    assert largest > 0.01, "something was blended"
    assert blended.n_bytes > blended.rewind.n_bytes


def test_an_error_while_serving_puts_the_rows_back():
    model = Model()
    optimizer = SparseOptimizer.from_model(model, DENSE_LR, LR)
    blended = Blended(model, optimizer, Rewind(model, optimizer, 15, "start"))
    (batch,) = batches(torch.Generator().manual_seed(0), 1, 400)
    blended.before_epoch(0)
    model(*batch).backward()
    optimizer.step()
    blended.before_epoch(1)
    trained = [t.detach().clone() for t in model.tables]
    with pytest.raises(ZeroDivisionError), blended.serving():
        assert not torch.equal(model.tables[0], trained[0])
        raise ZeroDivisionError
    assert all(map(torch.equal, model.tables, trained))

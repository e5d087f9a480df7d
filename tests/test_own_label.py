"""Two-fold tables, which leak nothing, against the same rule by hand."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from multiepoch.optim import SparseOptimizer
from multiepoch_lab.two_fold import TwoFoldTables

N, ROWS, DIM, LR, PADDING = 40, (8, 5), 3, 0.3, 2


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.user = nn.Embedding(ROWS[0], DIM, sparse=True, padding_idx=PADDING)
        self.item = nn.Embedding(ROWS[1], DIM, sparse=True)
        self.head = nn.Linear(2 * DIM, 1)
        self.read = None

    def forward(self, user, item):
        self.read = torch.cat([self.user(user), self.item(item)], dim=1)
        return self.head(self.read.tanh())[:, 0]


def data(seed=0):
    generator = torch.Generator().manual_seed(seed)
    ids = [(torch.rand(N, generator=generator) ** 2 * n).long() for n in ROWS]
    return ids, (torch.rand(N, generator=generator) < 0.5).float(), generator


def build(control, rule="sgd", **options):
    model = Model()
    optimizer = SparseOptimizer.from_model(model, 0.1, LR, dense=torch.optim.SGD, rule=rule)
    return model, optimizer, control(model, optimizer, **options)


def step(model, optimizer, control, ids, labels, at):
    def closure():
        optimizer.zero_grad()
        loss = F.binary_cross_entropy_with_logits(model(*(i[at] for i in ids)), labels[at])
        loss.backward()
        return loss.detach()

    loss = control.backward(at, closure)
    optimizer.step()
    return loss


def test_a_table_that_has_grown_is_refused():
    ids, labels, _ = data()
    model, optimizer, rows = build(TwoFoldTables)
    rows.before_epoch(0)
    optimizer.grow_table("user.weight", 2)
    with pytest.raises(RuntimeError, match=r"8 rows has grown to shape .*grow it before"):
        step(model, optimizer, rows, ids, labels, torch.arange(N))


def test_two_fold_tables_are_three_models_by_hand():
    ids, labels, generator = data()
    parts = build(TwoFoldTables)
    hand = [Model() for _ in range(3)]  # copies 0 and 1, and the served tables
    fold = torch.arange(N) % 2

    def gradients(model, at):
        """The gradient sums of all parameters over the impressions `at`, (n,)."""
        model.zero_grad()
        logits = model(*(i[at] for i in ids))
        F.binary_cross_entropy_with_logits(logits, labels[at], reduction="sum").backward()
        return {k: p.grad.to_dense().clone() for k, p in model.named_parameters()}

    for index in range(2):
        parts[2].before_epoch(index)
        for at in torch.randperm(N, generator=generator).split(9):
            own = [at[fold[at] == k] for k in (0, 1)]
            found = [gradients(hand[k], own[k]) for k in (0, 1)]  # of the dense layers
            learned = [gradients(hand[k], own[1 - k]) for k in (0, 1)] + [gradients(hand[2], at)]
            with torch.no_grad():
                for model, gradient in zip(hand, learned):
                    for name, p in model.named_parameters():
                        if name.startswith("head"):
                            p -= 0.1 * (found[0][name] + found[1][name]) / len(at)
                        else:
                            p -= LR * gradient[name] / len(at)
            step(*parts, ids, labels, at)
            model, _, control = parts
            for name, p in model.named_parameters():
                torch.testing.assert_close(p, dict(hand[2].named_parameters())[name])
            for k, both in enumerate(control.copies):
                for which, copy in enumerate(both.chunk(2)):
                    torch.testing.assert_close(copy, list(hand[which].parameters())[k])


@pytest.mark.parametrize("rule", ["adam", "adagrad"])
def test_no_copy_learns_from_the_fold_that_reads_it(rule):
    copies = []
    for flip in (False, True):
        ids, labels, _ = data()
        model, optimizer, control = build(TwoFoldTables, rule)
        model.head.requires_grad_(False)
        even = torch.arange(N) % 2 == 0
        labels = torch.where(even & flip, 1 - labels, labels)
        for index in range(2):
            control.before_epoch(index)
            for at in torch.arange(N).split(9):
                step(model, optimizer, control, ids, labels, at)
        copies.append([both.detach().chunk(2) for both in control.copies])
    for before, after in zip(*copies):
        assert torch.equal(before[0], after[0]) and not torch.equal(before[1], after[1])


def test_tables_of_another_kind_are_refused():
    bag = nn.EmbeddingBag(4, 2, sparse=True)
    model = nn.Sequential(bag, nn.Linear(2, 1))
    optimizer = SparseOptimizer.from_model(model, 0.1, 0.1)
    with pytest.raises(ValueError, match=r"the weight of EmbeddingBag: it must be that of one"):
        TwoFoldTables(model, optimizer)
    model, optimizer, control = build(TwoFoldTables)
    with pytest.raises(ValueError, match="one entry for each of the 2 impressions"):
        control.backward(torch.arange(2), lambda: model.user(torch.zeros(3, dtype=torch.int64)))

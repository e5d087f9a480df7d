"""The board's remedies: each trains by its entry alone, and each new class does what it says."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from multiepoch.optim import SparseOptimizer
from multiepoch_lab.data import Log, Schema
from reproduction.measure import as_losses
from reproduction.remedies import hooks
from reproduction.remedies.board import BOARD
from reproduction.runs import NEW_IDS, Run, execute, profile
from reproduction.runs.sources import has_new_id

TINY = replace(
    profile("quick"),
    n_users=60,
    n_products=40,
    n_campaigns=8,
    n_advertisers=4,
    impressions_per_day=150,
    batch_size=100,
)


@pytest.mark.parametrize("name", [name for name, one in BOARD.items() if not one.held_back])
def test_every_remedy_trains_from_its_entry(name):
    remedy = BOARD[name]
    factor = {"dense_factor": remedy.dense_factors[-1], "rule": remedy.rule}
    rate = 1e-2 * remedy.scale(remedy.grid[0])
    run = Run(name, 0, 1e-3, rate, remedy.grid[0], epochs=2, group_by=NEW_IDS, **factor)
    rows = as_losses(execute(run, TINY))
    loss = rows[(rows["metric"] == "loss") & (rows["group"] == "all")]
    assert sorted(loss["epoch"].unique()) == [0.25, 0.5, 1.0, 1.25, 1.5, 2.0]
    assert loss["value"].between(0.001, 5).all()
    assert {"0", "1"} <= set(rows["group"])


class Model(nn.Module):
    """Two tables and a linear layer; each batch reads row k and row k of the tables."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.user = nn.Embedding(6, 3, sparse=True)
        self.item = nn.Embedding(20, 3, sparse=True)
        self.head = nn.Linear(6, 1)

    def forward(self, ids):
        return self.head(torch.cat([self.user(ids % 6), self.item(ids)], dim=1))

    def table_parameters(self):
        return {"user": self.user.weight, "item": self.item.weight}

    def dense_parameters(self):
        return list(self.head.parameters())


def l2(model, ids, coefficient=0.0, even=False, hook=None):
    """Returns the gradients of the tables after a backward pass with the penalty."""
    optimizer = SparseOptimizer.from_model(model, dense_lr=0.1, embedding_lr=0.1, rule="sgd")

    def closure():
        optimizer.zero_grad()
        loss = model(ids).square().mean()
        loss.backward()
        return loss

    hook = hook or hooks.TouchedL2(model, coefficient, even)
    hook.backward(torch.arange(len(ids)), closure)
    return [table.grad.to_dense() for table in (model.user.weight, model.item.weight)]


IDS = torch.tensor([0, 0, 7, 3])


def test_touched_l2_adds_the_weight_once_to_each_touched_row():
    model = Model()
    plain = l2(model, IDS)
    found = l2(model, IDS, 0.5)
    touched = torch.zeros(20, 1).index_fill_(0, IDS, 1.0)
    torch.testing.assert_close(found[1], plain[1] + 0.5 * touched * model.item.weight)
    assert model.item.weight.grad._nnz() == 4, "lookups are still listed one by one"


def test_even_l2_divides_by_the_lookups_so_far():
    model = Model()
    hook = hooks.TouchedL2(model, 0.5, even=True)
    for n in (2, 4):  # IDS has row 0 twice
        expected = l2(model, IDS)[1][0] + 0.5 * model.item.weight[0] / n
        torch.testing.assert_close(l2(model, IDS, hook=hook)[1][0], expected)


def test_whole_tables_decay_rows_that_no_batch_touches():
    for decoupled in (False, True):
        model = Model()
        whole = hooks.WholeTables(model, 0.1, 0.01, 1e-2, decoupled)
        start = model.item.weight[5].detach().clone()
        model(IDS).square().mean().backward()
        for optimizer in whole.optimizers:
            optimizer.step()
        # L2 under Adam: by the rate, whatever the size. AdamW: by rate times decay, in proportion.
        expected = start * (1 - 1e-4) if decoupled else start - 0.01 * start.sign()
        torch.testing.assert_close(model.item.weight[5].detach(), expected, rtol=1e-4, atol=1e-5)


def log_of(ids):
    n, schema = len(ids), Schema({"item": 10}, ("x",), ("click",))
    labels = (torch.arange(n) % 2).float()[:, None]
    return Log(schema, {"item": ids}, torch.zeros(n, 1), labels, torch.zeros(n, dtype=torch.int32))


def test_new_ids_are_those_the_window_lacks():
    log = log_of(torch.tensor([1, 1, 4]))
    assert has_new_id(log, log_of(torch.tensor([4, 5])), ("item",)).tolist() == [0, 1]

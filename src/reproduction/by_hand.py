"""The jump at the second epoch, and four ways to mend it, in PyTorch alone.

A log is any object with `ids` (a dict of int64 columns), `schema.cardinality` (their
numbers of ids), `dense`, `labels` and `p_true`, which may be None.
"""

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits as logloss

DIM, STD, EPS = 16, 0.01, 1e-8
RATE, DENSE_RATE, BATCH = 0.3, 1e-3, 256  # RATE is the tables'


class Dense(nn.Module):
    """The dense layers: a cross layer, a shared bottom, a tower for each objective."""

    def __init__(self, width, n):
        super().__init__()
        self.rate = DENSE_RATE
        self.cross = nn.Linear(width, width)
        self.bottom = nn.Sequential(*layer(width, 128), *layer(128, 64))
        towers = (nn.Sequential(*layer(64, 32), nn.Linear(32, 1)) for _ in range(n))
        self.towers = nn.ModuleList(towers)  # one for each objective

    def forward(self, rows, dense):
        x0 = torch.cat([*rows, dense], dim=1)
        x = self.bottom(x0 * self.cross(x0) + x0)
        return torch.cat([tower(x) for tower in self.towers], dim=1)  # logits


def layer(n_in, n_out):
    return nn.Linear(n_in, n_out), nn.ReLU()


def rowwise_adagrad(table, rows, g):
    """Returns which way the touched rows go. g: (rows, DIM), the sum of gradients."""
    table.square[rows] += g.square().mean(dim=1)
    return g / (table.square[rows].sqrt()[:, None] + EPS)


def fal(table, rows):
    """FAL: the share of the rate that a row gets, by the logarithm of its lookups."""
    return torch.log(table.count[rows] + 1) / torch.log(table.count.max() + 1)


class Table:
    """An embedding table: its rows, what they remember, and how a batch moves them."""

    def __init__(self, n_rows, rate=RATE, rule=rowwise_adagrad, share=None):
        self.rate, self.rule, self.share = rate, rule, share
        self.weight = STD * torch.randn(n_rows, DIM)
        self.square = torch.zeros(n_rows)  # row-wise Adagrad's sum
        self.count = torch.zeros(n_rows)  # lookups so far

    def read(self, ids, at):
        return self.weight[ids]

    def update(self, ids, at, grad):
        """grad: (n, DIM), the gradient of each lookup."""
        rows, place, n = ids.unique(return_inverse=True, return_counts=True)
        self.count[rows] += n
        summed = torch.zeros(len(rows), DIM).index_add_(0, place, grad)
        rate = self.rate * self.share(self, rows)[:, None] if self.share else self.rate
        self.weight[rows] -= rate * self.rule(self, rows, summed)


def rewind(table, epoch, below=100):
    """Tail rewind: before a repeated epoch, infrequent rows start again."""
    if epoch == 1:
        table.lookups = table.count.clone()
    few = table.lookups < below
    table.weight[few] = STD * torch.randn(int(few.sum()), DIM)
    table.square[few], table.count[few] = 0, 0


def meda(table, epoch):
    """MEDA: all rows start again."""
    rewind(table, epoch, below=float("inf"))


class LeaveOneOut(Table):
    """A row is a sum of votes; an impression reads it without its own."""

    def __init__(self, n_rows, n_impressions, rate=0.1):
        super().__init__(n_rows, rate)
        self.votes = torch.zeros(n_impressions, DIM)  # each impression's last
        self.voted = torch.zeros(n_impressions, dtype=torch.bool)
        self.mean_square = torch.zeros(DIM).double()  # of the table's gradients
        self.steps = 0

    def read(self, ids, at):
        return self.weight[ids] - self.votes[at]

    def update(self, ids, at, grad):
        grad = len(at) * grad  # of each impression: the loss is their mean
        again = self.voted[at]
        self.steps += 1
        change = grad.double().square().mean(0) - self.mean_square
        self.mean_square += change / min(self.steps, 1000)
        self.count.index_add_(0, ids, (~again).float())
        n, root = self.count[ids], (self.count[ids] + 4).double().sqrt().float()
        first, mean = 1 / root, 2 * (root - 2) / n
        rate = (self.rate / self.mean_square.sqrt()).float()
        new = -torch.where(again, mean, first)[:, None] * (rate * grad)
        self.weight.index_add_(0, ids, new - self.votes[at])
        self.votes[at], self.voted[at] = new, True


def build(log, seed, table=Table, **options):
    """Returns a table for each id column, and the dense layers."""
    torch.manual_seed(seed)
    tables = [table(n, **options) for n in log.schema.cardinality.values()]
    width = DIM * len(tables) + log.dense.shape[1]
    return tables, Dense(width, log.labels.shape[1])


def held_out_loss(tables, dense, log):
    """Returns each objective's loss, under the true probabilities if they are known."""
    with torch.no_grad():
        rows = [table.weight[ids] for table, ids in zip(tables, log.ids.values())]
        logits = dense(rows, log.dense)
    truth = log.labels if log.p_true is None else log.p_true
    return logloss(logits, truth, reduction="none").mean(dim=0).tolist()


def train(tables, dense, log, test, batch=BATCH, epochs=2, reset=None, later=1, seed=0):
    """Returns the losses by epochs done. reset(table, epoch): before a repeated one."""
    adam, found = torch.optim.Adam(dense.parameters()), {}
    order = torch.Generator().manual_seed(seed)
    for epoch in range(epochs):
        for table in tables if reset and epoch else ():
            reset(table, epoch)
        adam.param_groups[0]["lr"] = dense.rate * (later if epoch else 1)
        batches = torch.randperm(len(log.labels), generator=order).split(batch)
        quarters = {k * len(batches) // 4: epoch + k / 4 for k in (1, 2, 3, 4)}
        for step, at in enumerate(batches, start=1):
            ids = [column[at] for column in log.ids.values()]
            rows = [t.read(i, at).requires_grad_() for t, i in zip(tables, ids)]
            logits = dense(rows, log.dense[at])
            adam.zero_grad()
            logloss(logits, log.labels[at], reduction="none").mean(0).sum().backward()
            adam.step()
            for table, column, row in zip(tables, ids, rows):
                table.update(column, at, row.grad)
            if step in quarters:
                found[quarters[step]] = held_out_loss(tables, dense, test)
    return found

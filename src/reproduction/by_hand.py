"""The jump at the second epoch and four ways to mend it, in PyTorch alone.

A log is any object with `schema`, `ids` (a dict of int64 columns), `dense`, `labels` and `p_true`.
"""

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits as logloss

DIM, STD, EPS = 16, 0.01, 1e-8


class Table:
    """An embedding table, and what each of its rows remembers."""

    def __init__(self, n_rows):
        self.start = STD * torch.randn(n_rows, DIM)
        self.weight = self.start.clone()
        self.square = torch.zeros(n_rows)  # row-wise Adagrad's sum
        self.moments = torch.zeros(2, n_rows, DIM)  # Adam's two moments
        self.count = torch.zeros(n_rows)  # lookups so far
        self.steps = 0


class Dense(nn.Module):
    """The dense layers: a cross layer, a bottom that all objectives share, a tower for each."""

    def __init__(self, width, n):
        super().__init__()
        self.cross = nn.Linear(width, width)
        self.bottom = nn.Sequential(nn.Linear(width, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU())
        towers = [nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 1)) for _ in range(n)]
        self.towers = nn.ModuleList(towers)

    def forward(self, rows, dense):
        x0 = torch.cat([*rows, dense], dim=1)
        x = self.bottom(x0 * self.cross(x0) + x0)
        return torch.cat([tower(x) for tower in self.towers], dim=1)  # logits


def build(log, seed=0):
    """Returns a table for each id column, and the dense layers."""
    torch.manual_seed(seed)
    tables = {name: Table(n) for name, n in log.schema.cardinality.items()}
    width = DIM * len(tables) + log.dense.shape[1]
    return tables, Dense(width, log.labels.shape[1])


def rowwise_adagrad(table, rows, g):
    """Returns which way the touched rows go. g: (rows, DIM), the summed gradient of each."""
    table.square[rows] += g.square().mean(dim=1)
    return g / (table.square[rows].sqrt()[:, None] + EPS)


def lazy_adam(table, rows, g, betas=(0.9, 0.999)):
    for k, (beta, value) in enumerate(zip(betas, (g, g.square()))):
        table.moments[k, rows] = beta * table.moments[k, rows] + (1 - beta) * value
    mean, square = (table.moments[k, rows] / (1 - betas[k] ** table.steps) for k in (0, 1))
    return mean / (square.sqrt() + EPS)


def fal(table, rows):
    """FAL: the share of the rate that a row gets, by the logarithm of its lookups."""
    return (torch.log(table.count[rows] + 1) / torch.log(table.count.max() + 1))[:, None]


class Rows:
    """Reads the rows of a batch, updates them, and redraws infrequent ones before a new epoch.

    A row is infrequent with fewer than `below` lookups an epoch: none is in plain training, all are
    in MEDA, and a threshold between makes it tail rewind.
    """

    def __init__(self, tables, rate, rule=rowwise_adagrad, factor=lambda table, rows: 1.0, below=0):
        self.tables, self.rate, self.rule, self.factor = tables, rate, rule, factor
        self.below = below

    def read(self, name, ids, at):
        return self.tables[name].weight[ids]

    def update(self, name, ids, at, grad):
        """grad: (n, DIM), the gradient of each lookup."""
        table = self.tables[name]
        rows, place, n = ids.unique(return_inverse=True, return_counts=True)
        table.count[rows], table.steps = table.count[rows] + n, table.steps + 1
        step = self.rule(table, rows, torch.zeros(len(rows), DIM).index_add_(0, place, grad))
        table.weight[rows] -= self.rate * self.factor(table, rows) * step

    def before_epoch(self, epoch):
        for table in self.tables.values() if epoch else ():
            table.lookups = table.count.clone() if epoch == 1 else table.lookups
            few = table.lookups < self.below
            table.weight[few] = STD * torch.randn(int(few.sum()), DIM)
            table.square[few], table.moments[:, few], table.count[few] = 0, 0, 0


class LeaveOneOut(Rows):
    """A row is a sum of one vote an impression; an impression reads it without its own vote."""

    def __init__(self, tables, rate, n_impressions, c=0.1):
        super().__init__(tables, rate)
        self.c = c
        self.votes = {name: torch.zeros(n_impressions, DIM) for name in tables}
        self.sums = {name: torch.zeros(2, len(t.weight), DIM) for name, t in tables.items()}

    def value(self, name, ids, own=0.0):
        total, square = self.sums[name][:, ids]
        root = ((square - own**2).clamp(min=0) + self.c).sqrt()
        return self.tables[name].start[ids] - self.rate * (total - own) / root

    def read(self, name, ids, at):
        return self.value(name, ids, self.votes[name][at])

    def update(self, name, ids, at, grad):
        old, new = self.votes[name][at], len(at) * grad  # of one impression, not of a mean
        self.votes[name][at] = new
        self.sums[name].index_add_(1, ids, torch.stack([new - old, new**2 - old**2]))
        rows = ids.unique()
        self.tables[name].weight[rows] = self.value(name, rows)


def held_out_loss(tables, dense, log):
    """Returns each objective's loss on full rows, under the true probabilities if known."""
    with torch.no_grad():
        logits = dense([table.weight[log.ids[name]] for name, table in tables.items()], log.dense)
    truth = log.labels if log.p_true is None else log.p_true
    return logloss(logits, truth, reduction="none").mean(dim=0).tolist()


def train(rows, dense, log, test, epochs=2, batch=512, dense_rate=1e-3, factor=1.0, seed=0):
    """Trains, with a test at each quarter of an epoch; returns {epochs done: losses}."""
    adam, found, n = torch.optim.Adam(dense.parameters(), dense_rate), {}, len(log.labels)
    generator = torch.Generator().manual_seed(seed)
    for epoch in range(epochs):
        rows.before_epoch(epoch)
        adam.param_groups[0]["lr"] = dense_rate * (factor if epoch else 1.0)
        batches = torch.randperm(n, generator=generator).split(batch)
        quarters = {round(k * len(batches) / 4): epoch + k / 4 for k in (1, 2, 3, 4)}
        for step, at in enumerate(batches, start=1):
            ids = {name: log.ids[name][at] for name in rows.tables}
            read = {name: rows.read(name, ids[name], at).requires_grad_() for name in ids}
            adam.zero_grad()
            losses = logloss(dense(read.values(), log.dense[at]), log.labels[at], reduction="none")
            losses.mean(dim=0).sum().backward()
            adam.step()
            for name in ids:
                rows.update(name, ids[name], at, read[name].grad)
            if step in quarters:
                found[quarters[step]] = held_out_loss(rows.tables, dense, test)
    return found

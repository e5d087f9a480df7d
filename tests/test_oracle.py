"""EmbeddingOptimizer against an oracle of Python's own floats, which loops over lookups and rows.

It shares no code with the library or its reference.
"""

import math
import random

import pytest
import torch
from torch import nn

from benchmarks.exactness import paths
from multiepoch.optim import AdaptiveRegularization, EmbeddingOptimizer, FrequencyAdaptiveLR

RULES = ("adam", "adagrad", "rowwise_adagrad", "sgd")
SCALES = ("log", "linear", "power", "threshold")


def new_row(weights, start):
    zeros = [0.0] * len(weights)
    sums = {"sum": [start] * len(weights), "of_row": start}
    return {"w": weights, "mean": zeros, "square": zeros, "count": 0, "last": 0, **sums}


def direction(rule, row, g, step, betas, eps):
    """Returns where each weight of a row goes, and notes its gradient in the row's state."""
    if rule == "sgd":
        return g
    if rule == "rowwise_adagrad":
        row["of_row"] += sum(x * x for x in g) / len(g)
        return [x / (math.sqrt(row["of_row"]) + eps) for x in g]
    if rule == "adagrad":
        row["sum"] = [s + x * x for s, x in zip(row["sum"], g)]
        return [x / (math.sqrt(s) + eps) for s, x in zip(row["sum"], g)]
    one, two = betas
    row["mean"] = [one * m + (1 - one) * x for m, x in zip(row["mean"], g)]
    row["square"] = [two * v + (1 - two) * x * x for v, x in zip(row["square"], g)]
    means = [m / (1 - one**step) for m in row["mean"]]
    roots = [math.sqrt(v / (1 - two**step)) for v in row["square"]]
    return [m / (root + eps) for m, root in zip(means, roots)]


def share(fal, count, most, epoch):
    """Returns which part of its rate a row has that was seen `count` times."""
    part = {
        "log": math.log(1 + count) / math.log(1 + most),
        "linear": count / most,
        "power": (count / most) ** fal.exponent,
        "threshold": 1.0 if count >= fal.threshold else fal.reduced,
    }[fal.scale]
    return 1 - (1 - part) * fal.gap_decay**epoch


def oracle_step(rows, lookups, step, epoch, o):
    """Takes one step. lookups: (row, gradient) of each; step: counted from 1; o: the options."""
    gradients, seen = {}, {}
    for row, g in lookups:
        gradients[row] = [a + b for a, b in zip(gradients.get(row, [0.0] * len(g)), g)]
        seen[row] = seen.get(row, 0) + 1
    fal, decay = o["row_lr"], o["row_decay"]
    for row, n in seen.items():
        rows[row]["count"] += n if fal and fal.count == "occurrences" else 1
    most = max(row["count"] for row in rows)
    for index, g in gradients.items():
        row = rows[index]
        way = direction(o["rule"], row, g, step, o["betas"], o["eps"])
        rate = o["lr"] * (share(fal, row["count"], most, epoch) if fal else 1)
        kept = 1 - o["lr"] * o["weight_decay"]
        if decay:
            kept *= 1 - min(1, decay.alpha * (step - row["last"] - 1))
        row["last"] = step
        row["w"] = [kept * w - rate * d for w, d in zip(row["w"], way)]


def error_of(seed):
    """Returns the largest error of a weight in a random case, relative to the largest weight."""
    rng = random.Random(seed)
    n_rows, dim, rule = rng.randint(1, 40), rng.randint(1, 33), rng.choice(RULES)
    fal = FrequencyAdaptiveLR(
        rng.choice(SCALES),
        count=rng.choice(("occurrences", "steps")),
        gap_decay=rng.choice((1.0, 0.5)),
        exponent=rng.uniform(0.2, 2),
        threshold=rng.randint(1, 6),
    )
    options = dict(
        rule=rule, lr=rng.choice((0.01, 0.3)), betas=rng.choice(((0.9, 0.999), (0, 0.5)))
    )
    options |= dict(row_lr=rng.choice((None, fal)), eps=rng.choice((1e-8, 1e-3)))
    options |= dict(row_decay=rng.choice((None, AdaptiveRegularization(rng.choice((1e-3, 0.4))))))
    options["weight_decay"] = rng.choice((0.0, 0.1))
    start = rng.choice((0.0, 0.05)) if "adagrad" in rule else 0.0
    generator = torch.Generator().manual_seed(seed)
    table = nn.Parameter(torch.randn(n_rows, dim, generator=generator))
    rows = [new_row(weights, start) for weights in table.double().tolist()]
    optimizer = EmbeddingOptimizer([table], initial_accumulator_value=start, **options)
    optimizer._path = rng.choice(paths())
    step, worst = 0, 0.0
    for epoch in range(rng.randint(1, 3)):
        optimizer.set_epoch(epoch)
        for _ in range(rng.randint(1, 4)):
            step += 1
            ids = [int(n_rows * rng.random() ** 2) for _ in range(rng.randint(1, 60))]
            values = torch.randn(len(ids), dim, generator=generator) * 10 ** rng.uniform(-4, 0)
            table.grad = torch.sparse_coo_tensor([ids], values, table.shape)
            optimizer.step()
            oracle_step(rows, list(zip(ids, values.double().tolist())), step, epoch, options)
            exact = torch.tensor([row["w"] for row in rows], dtype=torch.float64)
            worst = max(
                worst, ((table - exact).abs().max() / exact.abs().max().clamp(min=1)).item()
            )
    if options["row_lr"]:
        assert optimizer.state[table]["count"].tolist() == [row["count"] for row in rows]
    return worst


@pytest.mark.parametrize("first", range(0, 40, 10))
def test_random_cases_agree_with_the_oracle(first):
    assert max(map(error_of, range(first, first + 10))) < 1e-5

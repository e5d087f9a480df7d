"""Chapter 5: measures how much rows remember of the impressions they were trained on.

After one epoch the model is evaluated on impressions it was trained on and on fresh ones of the
same days, grouped by how often the training window has the impression's row of the sparsest table.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pandas as pd
import torch
from torch import Tensor

from multiepoch.data import Log
from multiepoch.model import ConversionModel
from multiepoch.optim import SparseOptimizer
from multiepoch.runner import Runner
from multiepoch.train import train
from reproduction.runs import Profile, resolve_device, workers
from reproduction.tuning import tuned

COLUMN = "user_x_advertiser"
EDGES = (1, 2, 4, 8, 16, 32)
GROUPS = ("never", "once", "2 to 3", "4 to 7", "8 to 15", "16 to 31", "32 or more")
SEEN, FRESH, NEXT = "trained on", "fresh, same days", "test day"


def by_count(train_log: Log, eval_log: Log) -> Tensor:
    """Returns for each impression of `eval_log`, (n,), the index in GROUPS of its cross row."""
    size = train_log.schema.cardinality[COLUMN]
    count = torch.bincount(train_log.ids[COLUMN], minlength=size)[eval_log.ids[COLUMN]]
    return torch.bucketize(count, torch.tensor(EDGES, device=count.device), right=True)


def fresh_of_the_same_days(profile: Profile, seed: int, n: int) -> Log:
    """Returns n impressions of the training window's days that are not in the window."""
    world, per_day = profile.world(seed), n // profile.train_days
    made = profile.impressions_per_day + per_day
    log = Log.concat([world.day(d, made)[-per_day:] for d in range(profile.train_days)])
    return replace(log, schema=world.schema(profile.train_days + 1))


def run(profile: Profile, device: str = "auto", seeds=None, log=print) -> pd.DataFrame:
    """Returns the logloss by seed, epoch, split, group of the cross row, and objective."""
    device, seeds = resolve_device(device), list(seeds or profile.seeds)
    found = {}
    with Runner(partial(_one_seed, profile, device), workers(profile, device)) as runner:
        for seed, rows in runner.map(seeds):
            found[seed] = rows
            log(f"the rows' memory, seed {seed}: done")
    return pd.concat([found[seed] for seed in seeds], ignore_index=True)


def _one_seed(profile: Profile, device: str, seed: int) -> pd.DataFrame:
    rates = tuned("plain", 1)
    window, _, test = (one.to(device) for one in profile.split(profile.world(seed)))
    sample = torch.arange(0, len(window), profile.train_days, device=device)
    fresh = fresh_of_the_same_days(profile, seed, len(sample))
    logs = {SEEN: window[sample], FRESH: fresh, NEXT: test}
    torch.manual_seed(seed)
    model = ConversionModel(window.schema).to(device)
    optimizer = SparseOptimizer.from_model(model, rates.dense_lr, rates.embedding_lr)
    more = dict(epochs=2, batch_size=profile.batch_size, seed=seed, progress=None)
    more |= dict(evaluate=logs, evaluate_at=(0.25, 1.0), groups=by_count)
    rows = train(model, optimizer, window, **more)
    rows = rows[rows["metric"] == "logloss"].assign(seed=seed)
    names = {str(k): name for k, name in enumerate(GROUPS)} | {"all": "all"}
    return rows.assign(group=rows["group"].map(names))


def memory(rows: pd.DataFrame, objective: str = "click") -> tuple[pd.Series, pd.Series]:
    """Returns the loss on seen impressions against fresh ones, and the jump: % by group, seed."""
    losses = rows[rows["objective"] == objective].pivot_table(
        index=["group", "seed"], columns=["split", "epoch"], values="value"
    )
    known = losses[SEEN, 1.0] / losses[FRESH, 1.0]
    jumped = losses[NEXT, 1.25] / losses[NEXT, 1.0]
    return 100 * (known - 1).dropna(), 100 * (jumped - 1).dropna()

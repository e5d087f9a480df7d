"""Chapter 3, claim C1: which rows of the tables a batch gives a gradient to.

Nothing is trained: a row has a gradient where the batch looks it up, whatever the weights are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from multiepoch.data import PACKAGED_SPLIT, Log, load_kuairand, split_by_day
from reproduction.measure import evidence
from reproduction.runs import Profile, resolve_device

CHAPTER = "03"
NAME = "ch03_gradient_sparsity"
COLUMNS = ["profile", "seed", "source", "table", "metric", "at", "value"]

BATCH = 4_096  # the claim's, whatever batch a profile trains with
BATCHES = (64, 256, 1_024, BATCH, 16_384, 65_536)
RARE = 1 / 20  # of the steps
SHARES = tuple(np.round(np.geomspace(1e-4, 1, 41), 6).tolist())  # of a table's rows; holds 0.1
_SAMPLE = 20  # batches of each size; their mean is known to a percent or so


def run(
    profile: Profile,
    device: str = "auto",
    seeds: Sequence[int] | None = None,
    log: Callable[[str], None] = print,
) -> pd.DataFrame:
    """Measures both sources: the training window of each seed's AdsWorld, and KuaiRand's.

    One row a number, with columns COLUMNS. `table` is an id column, or "all" for all tables
    together; `at` says where the number was measured:
        rows: how many rows a table has.
        touched: mean number of rows with a gradient in a batch of `at` impressions.
        head: % of the impressions that the most frequent share `at` of the rows gets.
        rare: % of the rows that get a gradient in fewer than `at` of an epoch's steps, batches of
            BATCH.
    A seed names a world and an order of the impressions; for KuaiRand, the order alone.
    """
    device = resolve_device(device)
    kuairand = split_by_day(load_kuairand(), **PACKAGED_SPLIT)[0]
    rows = []
    for seed in seeds or profile.seeds:
        window = profile.split(profile.world(seed))[0]
        for source, one in (("AdsWorld", window), ("KuaiRand", kuairand)):
            found = pd.DataFrame(measure(one.to(device), seed), columns=COLUMNS[3:])
            rows.append(found.assign(profile=profile.name, seed=seed, source=source))
            log(f"{source}, seed {seed}: {100 * touched_share(found, 'all'):.2f} % of all rows "
                f"have a gradient in a batch of {BATCH:,}")  # fmt: skip
    return pd.concat(rows, ignore_index=True)[COLUMNS]


def measure(log: Log, seed: int) -> Iterator[tuple[str, str, float, float]]:
    """(table, metric, at, value) of one log, which must have at least BATCH impressions."""
    n_rows = log.schema.cardinality
    yield from ((name, "rows", np.nan, n) for name, n in (n_rows | {"all": total(n_rows)}).items())

    for size in BATCHES:
        if size <= len(log):
            touched = [
                {name: len(ids) for name, ids in touched_rows(log, batch).items()}
                for batch in islice(batches(len(log), size, seed), _SAMPLE)
            ]
            for name in n_rows:
                yield name, "touched", size, np.mean([one[name] for one in touched])
            yield "all", "touched", size, np.mean([total(one) for one in touched])

    for name, ids in log.ids.items():
        frequency = torch.bincount(ids, minlength=n_rows[name]).sort(descending=True).values
        for share, value in zip(SHARES, head(frequency.cpu().numpy(), SHARES)):
            yield name, "head", share, 100 * value

    steps = {name: torch.zeros(n, device=log.device) for name, n in n_rows.items()}
    n_steps = 0
    for n_steps, batch in enumerate(batches(len(log), BATCH, seed), start=1):  # noqa: B007
        for name, ids in touched_rows(log, batch).items():
            steps[name][ids] += 1
    rare = {name: int((count < RARE * n_steps).sum()) for name, count in steps.items()}
    for name, n in (rare | {"all": total(rare)}).items():
        yield name, "rare", RARE, 100 * n / (n_rows | {"all": total(n_rows)})[name]


def batches(n: int, size: int, seed: int) -> Iterator[Tensor]:
    """The full batches of one shuffled epoch over n impressions, (size,) int64 each."""
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    return (order[k : k + size] for k in range(0, n - size + 1, size))


def touched_rows(log: Log, batch: Tensor) -> dict[str, Tensor]:
    """By table, the rows that a batch gives a gradient to: the ids in it, each once."""
    batch = batch.to(log.device)
    return {name: ids[batch].unique() for name, ids in log.ids.items()}


def head(frequency: np.ndarray, shares: Sequence[float]) -> np.ndarray:
    """The share of the impressions on the most frequent share of the rows, (len(shares),).

    frequency: (rows,), descending. Linear within a row, so that small tables have a curve too.
    """
    cumulated = np.concatenate([[0], frequency.cumsum()])
    return (
        np.interp(np.multiply(shares, len(frequency)), np.arange(len(cumulated)), cumulated)
        / (cumulated[-1])
    )


def total(by_table: dict[str, int]) -> int:
    return sum(by_table.values())


def touched_share(rows: pd.DataFrame, table: str, batch: int = BATCH) -> float:
    """Rows with a gradient over rows of the table, in the rows of one seed and source."""
    mine = rows[rows["table"] == table]
    touched = mine[(mine["metric"] == "touched") & (mine["at"] == batch)]["value"].item()
    return touched / mine[mine["metric"] == "rows"]["value"].item()


def judge(rows: pd.DataFrame) -> pd.DataFrame:
    """The evidence for C1, from AdsWorld."""
    rows = rows[rows["source"] == "AdsWorld"]
    shares = {seed: 100 * touched_share(mine, "all") for seed, mine in rows.groupby("seed")}

    def by_seed(metric: str, table: str, at: float) -> pd.Series:
        chosen = (rows["metric"] == metric) & (rows["table"] == table) & (rows["at"] == at)
        return rows[chosen].set_index("seed")["value"]

    return evidence(
        "C1",
        touched=pd.Series(shares),
        head=by_seed("head", "product", 0.1),
        rare=by_seed("rare", "all", RARE),
    )

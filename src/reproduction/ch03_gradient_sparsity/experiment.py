"""Chapter 4, claim C1: which rows of the tables get a gradient from a batch.

Nothing is trained: a row has a gradient if the batch looks it up, whatever the weights are.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from multiepoch_lab.data import PACKAGED_SPLIT, Log, load_kuairand, split_by_day
from reproduction import style
from reproduction.findings import by_name, measures
from reproduction.judge import evidence
from reproduction.measure import intervals
from reproduction.records import Record
from reproduction.runs import Profile, resolve_device

NAME = "ch03_gradient_sparsity"
COLUMNS = ["profile", "seed", "source", "table", "metric", "at", "value"]

BATCH = 4_096  # the claim's batch size, whatever a profile trains with
WIDTH = 16  # numbers in a row
BATCHES = (64, 256, 1_024, BATCH, 16_384, 65_536)
RARE = 1 / 20  # of the steps
SHARES = tuple(np.round(np.geomspace(1e-4, 1, 41), 6).tolist())  # of a table's rows; 0.1 is one
SOURCES = ("AdsWorld", "KuaiRand")
LARGE = ("product", "video", "user", "user_x_advertiser", "user_x_author")
_SAMPLE = 20  # batches of each size: enough for their mean to about a percent


def run(profile: Profile, device: str = "auto", seeds=None) -> pd.DataFrame:
    """Measures both sources: the training window of each seed's AdsWorld, and KuaiRand's.

    A seed names a world and an order of the impressions; for KuaiRand, the order alone.

    Returns:
        Columns COLUMNS, one number per row. `table` is an id column, or "all" for all tables
        together. The metrics, with the meaning of `at`:

        - rows: the rows of the table.
        - touched: the mean number of rows with a gradient in a batch of `at` impressions.
        - head: the % of the impressions that go to the most frequent share `at` of the rows.
        - rare: the % of the rows that get a gradient in fewer than `at` of an epoch's steps, in
          batches of BATCH.
    """
    device = resolve_device(device)
    per_day = max(profile.impressions_per_day, BATCH // profile.train_days)  # a batch at least
    sizes = replace(profile, impressions_per_day=per_day)
    kuairand = split_by_day(load_kuairand(), **PACKAGED_SPLIT)[0]
    rows = []
    for seed in seeds or profile.seeds:
        window = sizes.split(sizes.world(seed))[0]
        for source, one in (("AdsWorld", window), ("KuaiRand", kuairand)):
            found = pd.DataFrame(measure(one.to(device), seed), columns=COLUMNS[3:])
            rows.append(found.assign(profile=profile.name, seed=seed, source=source))
            touched = _touched(rows[-1]).loc[source, seed, "all", BATCH]
            said = f"a batch of {BATCH:,} touches {touched:.2f} % of all rows"
            print(f"{source}, seed {seed}: {said}", flush=True)
    return pd.concat(rows, ignore_index=True)[COLUMNS]


def measure(log: Log, seed: int) -> Iterator[tuple[str, str, float, float]]:
    """Yields (table, metric, at, value) of one log, which needs at least BATCH impressions."""
    n_rows = log.schema.cardinality
    size_of = n_rows | {"all": sum(n_rows.values())}
    yield from ((name, "rows", np.nan, n) for name, n in size_of.items())

    for size in [size for size in BATCHES if size <= len(log)]:
        sample = islice(batches(len(log), size, seed), _SAMPLE)
        touched = pd.DataFrame(
            {name: len(ids) for name, ids in touched_rows(log, batch).items()} for batch in sample
        )
        touched["all"] = touched.sum(axis=1)
        yield from ((name, "touched", size, mean) for name, mean in touched.mean().items())

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
    for name, n in (rare | {"all": sum(rare.values())}).items():
        yield name, "rare", RARE, 100 * n / size_of[name]


def batches(n: int, size: int, seed: int) -> Iterator[Tensor]:
    """Returns the full batches of one shuffled epoch over n impressions, (size,) int64 each."""
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    return (order[k : k + size] for k in range(0, n - size + 1, size))


def touched_rows(log: Log, batch: Tensor) -> dict[str, Tensor]:
    """Returns by table the rows that get a gradient from a batch: the ids in it, each once."""
    batch = batch.to(log.device)
    return {name: ids[batch].unique() for name, ids in log.ids.items()}


def head(frequency: np.ndarray, shares: Sequence[float]) -> np.ndarray:
    """Returns the share of the impressions that the most frequent `shares` of the rows get.

    The frequencies descend. Within a row it is linear, so that small tables have a curve, too.
    """
    cumulated = np.concatenate([[0], frequency.cumsum()])
    found = np.interp(np.multiply(shares, len(frequency)), np.arange(len(cumulated)), cumulated)
    return found / cumulated[-1]


def _touched(rows: pd.DataFrame) -> pd.Series:
    keys = ["source", "seed", "table"]
    size = rows[rows["metric"] == "rows"].set_index(keys)["value"]
    touched = rows[rows["metric"] == "touched"].set_index([*keys, "at"])["value"]
    return (100 * touched / size).rename("value")


def touched_percent(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the % of a table's rows with a gradient: mean, low, high by source, table, at."""
    return intervals(_touched(rows), ["source", "table", "at"])


def top_tenth(rows: pd.DataFrame) -> pd.Series:
    """Returns the % of the impressions on a table's most frequent tenth, by source and table."""
    head = rows[(rows["metric"] == "head") & np.isclose(rows["at"], 0.1)]
    return head.groupby(["source", "table"])["value"].mean()


def rarely_touched(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the % of rows with a gradient in fewer than 1 of 20 steps: mean, low, high."""
    return intervals(rows[rows["metric"] == "rare"], ["source", "table"])


def megabytes(n_rows: float, sparse: bool) -> float:
    """Returns the memory traffic of an Adam step on `n_rows` rows, at least.

    Weight and two means are read and written, the gradient is read; 4 bytes each. A sparse
    gradient also has an 8-byte index per row.
    """
    numbers = n_rows * WIDTH * (3 + 3 + 1)
    return (4 * numbers + (8 * n_rows if sparse else 0)) / 1e6


def traffic(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns megabytes per step of dense and sparse Adam (the index), a column per source."""
    mean = rows.groupby(["source", "metric", "table", "at"], dropna=False)["value"].mean()
    found = {}
    for source in rows["source"].unique():
        dense = megabytes(mean[source, "rows", "all"].item(), sparse=False)
        sparse = megabytes(mean[source, "touched", "all", BATCH], sparse=True)
        found[source] = {"dense Adam": dense, "sparse Adam": sparse}
    return pd.DataFrame(found)


def judge(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the evidence for C1, from AdsWorld."""
    rows = rows[rows["source"] == "AdsWorld"]

    def by_seed(metric: str, table: str, at: float) -> pd.Series:
        chosen = (rows["metric"] == metric) & (rows["table"] == table) & (rows["at"] == at)
        return rows[chosen].set_index("seed")["value"]

    found = {"touched": _touched(rows)["AdsWorld", :, "all", BATCH]}
    found |= {"head": by_seed("head", "product", 0.1), "rare": by_seed("rare", "all", RARE)}
    return evidence(("C1", name, "", values) for name, values in found.items())


def facts(record: Record) -> dict:
    """Returns the values that the findings speak of, by name."""
    rows, moves = record.rows, traffic(record.rows)
    return measures(record.evidence) | by_name(
        share=touched_percent(rows)["mean"].xs(BATCH, level="at"),
        top=top_tenth(rows),
        rarely=rarely_touched(rows)["mean"],
        times=dict(moves.loc["dense Adam"] / moves.loc["sparse Adam"]),
    )


@style.shown("fig-steps")
def steps(trained: list[Tensor], ids: Tensor, n_rows: int) -> Figure:
    """Draws a dot for each row with a gradient, one line per step.

    The ids are those of the column in the whole log. They rank the rows by frequency.
    """
    order = torch.bincount(ids, minlength=n_rows).argsort(descending=True)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(1, n_rows + 1)
    fig, axes = style.figure(height=3.0)
    color = style.line_style("click")["color"]
    for step, rows in enumerate(trained, start=1):
        axes.plot(rank[rows], np.full(len(rows), step), "s", color=color, ms=1.6, mew=0)
    axes.grid(False)
    axes.set(xlabel="products, most frequent first", ylabel="training step")
    axes.set(xlim=(-0.01 * n_rows, n_rows), ylim=(0.5, len(trained) + 0.5))
    return fig


@style.shown("fig-batch")
def by_batch_size(rows: pd.DataFrame) -> Figure:
    """Draws the share of rows with a gradient against the batch size, one panel per source."""
    found = touched_percent(rows)["mean"]
    fig, grid = style.figure(2, height=3.3, sharex=True, sharey=True)
    for axes, source in zip(grid, SOURCES):
        shares = found[source]
        for table in [name for name in style.TABLES if name in shares.index]:
            points = shares[table]
            look = style.line_style(table) | {"label": style.spelled(table), "lw": 1.8}
            axes.plot(points.index, points, **look)
        points = shares["all"]
        axes.plot(points.index, points, color="black", lw=3, label="all tables")
        axes.set(xscale="log", yscale="log", title=source, ylabel="rows with a gradient, %")
    look = {"color": "#C00000", "ms": 8, "zorder": 5, "label": "C1's threshold: 5 %"}
    grid[0].plot(BATCH, 5, "v", **look)
    for axes in grid:
        axes.legend(loc="lower right", ncols=2, columnspacing=1, labelspacing=0.2)
    axes.set_xlabel("impressions in a batch")
    return fig


@style.shown("fig-lorenz")
def lorenz(rows: pd.DataFrame) -> Figure:
    """Draws the share of the impressions on the most frequent rows, one panel per source."""
    fig, grid = style.figure(2, height=2.9, sharex=True, sharey=True)
    head = rows[rows["metric"] == "head"]
    equal = np.geomspace(0.1, 100)
    for axes, source in zip(grid, SOURCES):
        mine = intervals(head[head["source"] == source], ["table", "at"])["mean"]
        for table in [table for table in LARGE if table in mine.index]:
            points = mine[table]
            look = style.line_style(table) | {"label": style.spelled(table), "lw": 1.8}
            axes.plot(100 * points.index, points, **look)
        axes.plot(equal, equal, color=style.REFERENCE, lw=1)
        style.reference(axes, 10, vertical=True)
        axes.set(xscale="log", xlim=(0.1, 100), ylim=(0, 100), title=source)
        axes.set_ylabel("impressions, %")
        axes.legend(loc="upper left", labelspacing=0.2)
    axes.set_xlabel("rows, most frequent first, % (log scale)")
    return fig

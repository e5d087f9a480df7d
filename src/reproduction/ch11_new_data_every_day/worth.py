"""Chapter 11, claim C15: what a repeated epoch is worth, in fresh data.

Each method trains on windows of several sizes for eight epochs, and plain training once on windows
up to four times as large. A smaller window is a random part of a larger one, from the same days of
the same world. The tables are the world's throughout, so that the rows that a window touches, and
the lookups of each, grow with it. Rates are those of a search under Adam. At the ends of epochs,
tail rewind is the same with and without blended serving, so that it has one line.
"""

from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import torch

from reproduction import tables
from reproduction.findings import by_name, estimate
from reproduction.judge import evidence
from reproduction.measure import as_losses
from reproduction.records import Record
from reproduction.remedies.board import BOARD
from reproduction.runs import Profile, Run, run_all, window
from reproduction.tuning import Tuned

NAME = "ch11_worth"
SEEDS = (20, 21, 22, 23)
EPOCHS = (1, 2, 3, 4, 8)
FRESH = tuple(15_625 * 2**k for k in range(9))  # impressions, trained on once: up to 4 million
UNIQUE = FRESH[2:7]  # impressions, trained on for eight epochs
BLEND = "tail_rewind_blend"
# The threshold of tail rewind in proportion to the window. Added when two seeds without it had been
# seen, so the prediction, which is about the threshold of the board's search, does not cover it.
ALONG = "threshold along"
# What a search over two epochs chose under Adam, on windows of 62,500 impressions.
CHOSEN = {
    "plain": Tuned(1e-3, 0.1, None),
    "fal": Tuned(1e-3, 10**-1.5, "log", dense_factor=0.1),
    "meda": Tuned(1e-3, 10**-2.5, None),
    BLEND: Tuned(1e-3, 0.1, 50),
}
METHODS = (*CHOSEN, f"{BLEND}, {ALONG}")
LABELS = {name: BOARD[name].label for name in METHODS[:-1]}
LABELS[METHODS[-1]] = f"{LABELS[BLEND]}, scaled threshold"
COLUMN = "user_x_advertiser"
MEAN = "mean"  # over the objectives


def sizes(profile: Profile) -> Profile:
    """Returns the board's world with as many impressions as the largest window has."""
    board = profile.board()
    return replace(board, impressions_per_day=FRESH[-1] // board.train_days, held_out=62_500)


def trials_of(seed: int) -> list[Run]:
    """Returns the runs of one seed: plain over each window once, and each method repeated."""

    def trial(method: str, n: int, evaluated: tuple[int, ...]) -> Run:
        name, _, variant = method.partition(", ")
        best = CHOSEN[name]
        if variant:
            best = replace(best, hyperparameter=best.hyperparameter * n // UNIQUE[0])
        return Run(
            name,
            seed,
            **asdict(best),
            about={"unique": n, "method": method},
            epochs=evaluated[-1],
            evaluate_epochs=tuple(epochs - 1 for epochs in evaluated),
            evaluate_at=(1.0,),
            share=n / FRESH[-1],
        )

    once = [trial("plain", n, (1,)) for n in FRESH if n not in UNIQUE]
    repeated = [trial(name, n, EPOCHS) for n in UNIQUE for name in METHODS]
    return [*once, *repeated]


def lookups(profile: Profile, seed: int) -> pd.DataFrame:
    """Returns the mean lookups of a touched row of the cross in one epoch, by window."""
    log = window(profile, seed=seed)[0]
    order = torch.randperm(len(log), generator=torch.Generator().manual_seed(seed))
    ids = log.ids[COLUMN][order]  # as a run draws its share
    values = {n: n / len(ids[:n].unique()) for n in UNIQUE}
    rows = pd.DataFrame({"unique": values.keys(), "value": values.values()})
    return rows.assign(remedy="", seed=seed, metric="lookups", group="all")


def run(profile: Profile, device: str = "auto", seeds=None, store=None, log=print) -> pd.DataFrame:
    """Returns the losses of all runs, and each window's lookups a row."""
    profile, seeds = sizes(profile), seeds or SEEDS
    trials = [trial for seed in seeds for trial in trials_of(seed)]
    rows = as_losses(run_all(trials, profile, device, store, log))
    return pd.concat([rows, *(lookups(profile, seed) for seed in seeds)], ignore_index=True)


def losses(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the losses by (objective, remedy, unique, seed), a column an epoch.

    The objectives include their mean.
    """
    mine = rows[(rows["metric"] == "loss") & (rows["group"] == "all")]
    keys = ["objective", "remedy", "unique", "seed"]
    each = mine.pivot_table(index=keys, columns="epoch", values="value")
    mean = each.groupby(keys[1:]).mean()
    return pd.concat([each, pd.concat({MEAN: mean}, names=["objective"])])


def in_fresh_data(rows: pd.DataFrame) -> pd.Series:
    """Returns what every run is worth: the fresh data of the same loss, in epochs of its own.

    Interpolated along plain's one-epoch losses of the same seed, linearly in the logarithm of the
    data. Worse than the smallest window, it is worth that window, which makes harm look smaller
    than it is; better than the largest, NaN. By objective, remedy, unique, seed and epoch.
    """
    found = {}
    for (objective, seed), of in losses(rows).groupby(["objective", "seed"]):
        fresh = of.xs("plain", level="remedy")[1.0].droplevel(["objective", "seed"]).sort_index()
        x, y = np.log(fresh.index.to_numpy()), np.minimum.accumulate(fresh.to_numpy())
        for (_, remedy, unique, _), points in of[of[2.0].notna()].iterrows():
            data = np.interp(-points, -y, x, right=np.nan)
            for epoch, value in zip(points.index, np.exp(data) / unique):
                found[objective, remedy, unique, seed, epoch] = value
    names = ["objective", "remedy", "unique", "seed", "epoch"]
    return pd.Series(found, dtype=float).rename_axis(names)


def judge(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the evidence for C15; a point is a window."""
    by_epoch, found = in_fresh_data(rows).xs(MEAN, level="objective").unstack("epoch"), []
    for name, measure in ((BLEND, "three_repeats"), ("plain", "plain")):
        for n, of in by_epoch.xs(name, level="remedy").groupby("unique"):
            of, point = of.droplevel("unique"), f"{n:,} unique impressions"
            found.append(("C15", measure, point, (of[4.0] - of[1.0]).dropna()))
            if measure == "three_repeats":
                falling = of[2.0] - of[1.0] - (of[8.0] - of[4.0]) / 4
                found.append(("C15", "falling", point, falling.dropna()))
    return evidence(found)


def show(record: Record | None, remedy: str = BLEND) -> None:
    """Displays what repeated epochs are worth, by window and number of epochs."""
    if record is None:
        return
    worth = in_fresh_data(record.rows).xs((MEAN, remedy), level=["objective", "remedy"])
    first = worth.xs(1.0, level="epoch")
    frequency = record.rows[record.rows["metric"] == "lookups"].groupby("unique")["value"].mean()
    cells: dict[str, dict[str, str]] = {}
    for (n, epoch), values in worth.groupby(["unique", "epoch"]):
        of = cells.setdefault(f"{n:,}", {"lookups a row": f"{frequency[n]:.1f}"})
        if epoch > 1:
            of[f"{epoch:.0f} epochs"] = estimate(values.droplevel("epoch") - first.xs(n))
    note = f"{LABELS[remedy]}: worth of the epochs after the first, in epochs of fresh data:"
    tables.show(cells, "unique impressions", note)


def facts(record: Record) -> dict:
    """Returns the values that the findings speak of, by name."""
    rows = record.rows
    worth = in_fresh_data(rows).xs(MEAN).unstack("epoch")
    by_method = worth.groupby(["remedy", "seed"]).mean()
    along, meda, fal = (by_method.xs(name) for name in (METHODS[-1], "meda", "fal"))
    three, seven = ((worth[last] - worth[1.0]).unstack("unique") for last in (4.0, 8.0))
    return by_name(
        three=three.xs(BLEND),
        three_small=three.xs(BLEND).iloc[:, :3].mean(axis=1),
        seven_cost=-seven.xs(BLEND)[1_000_000],
        plain=three.xs("plain"),
        plain_cost=-three.xs("plain").mean(axis=1),
        along=along,
        after_first=along - 1,
        second_percent=100 * (along[2.0] - 1),
        third_percent=100 * (along[3.0] - along[2.0]),
        meda=meda,
        meda_gain=meda[4.0] - meda[1.0],
        fal_cost=fal[1.0] - fal[4.0],
    )

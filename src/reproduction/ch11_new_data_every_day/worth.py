"""Claim C15: what a repeated epoch is worth, in fresh data.

Each method trains on windows of several sizes for four epochs or eight, and plain training once on
windows up to four times as large. A smaller window is a random part of a larger one, from the same
days of the same world. The tables are the world's throughout, so that the rows that a window
touches, and the lookups of each, grow with it. The default setting; rates are those of the board's
search on the smallest of the windows, for the end of epoch 4 and, of plain training, for one epoch;
thresholds grow with the window.
"""

from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import torch

from reproduction import tables
from reproduction.findings import by_name, estimate
from reproduction.judge import evidence
from reproduction.measure import as_losses, relative
from reproduction.records import Record
from reproduction.remedies.board import BOARD
from reproduction.runs import Profile, Run, run_all, window
from reproduction.tuning import chosen, on_board

NAME = "worth"
SEEDS = tuple(range(30, 38))  # no pilot and no tuning has seen them
EPOCHS = (1, 2, 3, 4, 8)
WINDOWS = tuple(2**k for k in range(8))  # trained on once, in days of the board: up to 128
REPEATED = WINDOWS[2:6]  # trained on repeatedly
TAIL, OWN = "tail_rewind", "leave_one_out_votes"
FIXED = f"{TAIL}, threshold of the smallest window"  # in the largest
LABELS = {name: BOARD[name].label for name in ("plain", "meda", TAIL, OWN)}
LABELS[FIXED] = f"{LABELS[TAIL]}, threshold not scaled"
COLUMN = "user_x_advertiser"
MEAN = "mean"  # over the objectives


def sizes(profile: Profile) -> Profile:
    """Returns the board's world with as many impressions as the largest window has."""
    board = profile.board()
    day, days = board.impressions_per_day, board.train_days
    return replace(board, impressions_per_day=WINDOWS[-1] * day // days, held_out=4 * day)


def trials_of(seed: int, day: int) -> list[Run]:
    """Returns the runs of one seed: plain over each window once, and each method repeated.

    day: The impressions of a day of the board.
    """

    def trial(name: str, times: int, epochs: tuple[int, ...]) -> Run:
        method = name.split(",")[0]
        best = chosen(on_board(method))
        if best.hyperparameter is not None and name != FIXED:  # a threshold, of lookups
            scaled = best.hyperparameter * times // REPEATED[0]
            best = replace(best, hyperparameter=scaled)
        return Run(
            method,
            seed,
            **asdict(best),
            about={"unique": times * day, "method": name},
            epochs=epochs[-1],
            evaluate_epochs=tuple(epoch - 1 for epoch in epochs),
            evaluate_at=(1.0,),
            share=times / WINDOWS[-1],
            rule="rowwise_adagrad",
        )

    once = [trial("plain", times, (1,)) for times in WINDOWS if times not in REPEATED]
    repeated = [
        trial(name, times, EPOCHS if name in (TAIL, FIXED) else EPOCHS[:-1])
        for times in REPEATED
        for name in LABELS
        if name != FIXED or times == REPEATED[-1]
    ]
    return [*once, *repeated]


def lookups(profile: Profile, seed: int) -> pd.DataFrame:
    """Returns the mean lookups of a touched row of the cross in one epoch, by window."""
    log = window(profile, seed=seed)[0]
    order = torch.randperm(len(log), generator=torch.Generator().manual_seed(seed))
    ids = log.ids[COLUMN][order]  # as a run draws its share
    sizes = [times * len(ids) // WINDOWS[-1] for times in REPEATED]
    values = {n: n / len(ids[:n].unique()) for n in sizes}
    rows = pd.DataFrame({"unique": values.keys(), "value": values.values()})
    return rows.assign(remedy="", seed=seed, metric="lookups", group="all")


def run(profile: Profile, device: str = "auto", seeds=None) -> pd.DataFrame:
    """Returns the losses of all runs, and each window's lookups a row."""
    day, profile, seeds = profile.board().impressions_per_day, sizes(profile), seeds or SEEDS
    trials = [trial for seed in seeds for trial in trials_of(seed, day)]
    rows = as_losses(run_all(trials, profile, device))
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


def by_epochs(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns `in_fresh_data` of the objectives' mean loss, a column for each number of epochs."""
    return in_fresh_data(rows).xs(MEAN, level="objective").unstack("epoch")


def after_first(worth: pd.DataFrame) -> pd.DataFrame:
    """Returns what the epochs after the first are worth, of `by_epochs`."""
    return worth.sub(worth[1.0], axis=0).drop(columns=1.0)


def twice(rows: pd.DataFrame) -> pd.Series:
    """Returns one epoch over twice the data against two with tail rewind in %, by unique, seed."""
    of = losses(rows).drop(index=MEAN)
    once = of.xs("plain", level="remedy")[1.0].rename(index=lambda n: n // 2, level="unique")
    change = relative(once, of.xs(TAIL, level="remedy")[2.0])
    return change.groupby(["unique", "seed"]).mean()


def judge(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the evidence for C15; a point is a window."""
    by_epoch = after_first(by_epochs(rows))
    tail = by_epoch.xs(TAIL)
    by_window = {
        "three_repeats": tail[4.0],
        "own_label": by_epoch.xs(OWN)[4.0],
        "plain": by_epoch.xs("plain")[4.0],
        "falling": tail[2.0] - (tail[8.0] - tail[4.0]) / 4,
        "twice": twice(rows),
    }
    found = [
        ("C15", measure, f"{n:,} unique impressions", values.droplevel("unique"))
        for measure, of_all in by_window.items()
        for n, values in of_all.dropna().groupby("unique")
    ]
    by_size = tail[4.0].unstack("seed").sort_index()
    smallest, largest = by_size.iloc[0], by_size.iloc[-1]
    found.append(("C15", "size", "", largest - smallest))
    fixed = by_epoch.xs(FIXED)[4.0].droplevel("unique")
    found.append(("C15", "in_proportion", "", largest - fixed))
    return evidence(found)


def show(rows: pd.DataFrame) -> None:
    """Displays what repeated epochs are worth, by window and number of epochs."""
    frequency = rows[rows["metric"] == "lookups"].groupby("unique")["value"].mean()
    cells: dict[str, dict[str, str]] = {}
    worth = after_first(by_epochs(rows)).drop(index="plain")
    for (remedy, n), values in worth.groupby(["remedy", "unique"], sort=False):
        of = cells.setdefault(f"{LABELS[remedy]}, {n:,}", {"lookups a row": f"{frequency[n]:.1f}"})
        for epoch, by_seed in values.items():
            known = by_seed.droplevel(["remedy", "unique"])
            of[f"{epoch:.0f} epochs"] = "–" if known.isna().any() else estimate(known)
    tables.show(
        cells,
        "unique impressions",
        "Worth of the epochs after a method's own first, in fresh ones:",
    )


def facts(record: Record) -> dict:
    """Returns the values that the findings speak of, by name."""
    worth = by_epochs(record.rows)
    by_epoch = after_first(worth)
    tails = {"fixed": by_epoch.xs(FIXED), "scaled": by_epoch.xs(TAIL)}
    by_epoch = by_epoch.drop(index=FIXED)
    return by_name(
        by_window=by_epoch.stack().dropna(),
        total=(worth.drop(columns=8.0) - 1).stack(),  # against one plain epoch
        largest={
            name: of.xs(of.index.unique("unique").max(), level="unique").stack()
            for name, of in tails.items()
        },
        first=worth[1.0].groupby(["remedy", "seed"]).mean(),
        lead=-twice(record.rows),
    )

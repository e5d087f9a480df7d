"""Three windows of KuaiRand, which overlap, each with later days, in the default setting.

The first is the one that the other chapters call KuaiRand. Intervals count the users of the test
days as well as the seeds: both are drawn anew, users in blocks.

Predicted before the runs, for each window, mean over objectives: plain training jumps by more than
10 %; FAL is above MEDA at the end of epoch 2; three epochs with MEDA or with tail rewind end within
1 % of one epoch; leave-one-out rows end epoch 2 above their own epoch 1 by less than 3 %.
"""

import numpy as np
import pandas as pd

from reproduction.findings import by_name
from reproduction.measure import DRAWN
from reproduction.records import Record
from reproduction.runs import N_BLOCKS, USER_BLOCKS, Profile, Run, over_seeds, run_all
from reproduction.style import signed

NAME = "kuairand_windows"
SEEDS = tuple(range(30, 38))
WINDOWS = {"the book's": "kuairand", "early": "kuairand, early", "late": "kuairand, late"}
RATE = 10**-0.5  # of the tables, the best of one epoch
OWN = "leave_one_out_votes"
COMPARED = {"plain": None, "fal": "log", "meda": None, "tail_rewind": 100, OWN: 100}
DRAWS = 2_000
MEASURES = {
    "plain, ¼ into epoch 2": ("plain", 1.25),
    "plain, end of epoch 3": ("plain", 3.0),
    "FAL, end of epoch 3": ("fal", 3.0),
    "MEDA, end of epoch 3": ("meda", 3.0),
    "tail rewind, end of epoch 3": ("tail_rewind", 3.0),
    "leave-one-out rows, end of epoch 2": (OWN, 2.0),
}


def run(profile: Profile, device: str = "auto", seeds=None) -> pd.DataFrame:
    """Returns the losses of each block of users, as rows of runs.COLUMNS with `window`."""
    how = {"epochs": 3, "rule": "rowwise_adagrad", "evaluate_at": (0.25, 1.0)}
    how["group_by"] = USER_BLOCKS
    rates = dict.fromkeys(COMPARED, RATE) | {OWN: 1.0}
    todo = [
        Run(method, 0, 1e-3, rates[method], value, about={"window": window}, data=data, **how)
        for window, data in WINDOWS.items()
        for method, value in COMPARED.items()
    ]
    rows = run_all(over_seeds(seeds or SEEDS, todo), profile, device)
    kept = (rows["metric"] == DRAWN) & (rows["group"] != "all")
    return rows[kept].reset_index(drop=True)


def blocks(rows: pd.DataFrame, window: str, method: str, epoch: float) -> np.ndarray:
    """Returns the losses, (objectives, seeds, blocks of users)."""
    mine = rows[(rows["window"] == window) & (rows["method"] == method)]
    mine = mine[np.isclose(mine["epoch"], epoch)]
    table = mine.pivot_table(index=["objective", "seed"], columns="group", values="value")
    return table.to_numpy().reshape(-1, mine["seed"].nunique(), N_BLOCKS)


def change(rows: pd.DataFrame, window: str, method: str, epoch: float) -> tuple[float, ...]:
    """Returns a loss against one epoch's in %, mean over objectives: mean, low and high.

    One epoch is plain training's; that of leave-one-out rows is their own. The interval is of 95 %,
    from DRAWS draws of seeds and of blocks of users.
    """
    first = method if method == OWN else "plain"
    ours, base = blocks(rows, window, method, epoch), blocks(rows, window, first, 1.0)
    _, n_seeds, n_blocks = ours.shape
    rng = np.random.default_rng(0)
    seeds = rng.integers(n_seeds, size=(DRAWS, n_seeds))
    users = rng.integers(n_blocks, size=(DRAWS, n_blocks))

    def mean(of: np.ndarray) -> np.ndarray:
        return of[:, seeds[:, :, None], users[:, None, :]].mean(axis=(2, 3))

    drawn = 100 * (mean(ours) / mean(base) - 1).mean(axis=0)
    found = 100 * (ours.mean(axis=(1, 2)) / base.mean(axis=(1, 2)) - 1).mean()
    return float(found), *map(float, np.quantile(drawn, (0.025, 0.975)))


def table(rows: pd.DataFrame) -> dict[str, dict[str, str]]:
    """Returns MEASURES in words: a row for each, a column a window."""
    words = "{:.1f} % [{:.1f}, {:.1f}]"
    return {
        what: {w: signed(words.format(*change(rows, w, *point))) for w in WINDOWS}
        for what, point in MEASURES.items()
    }


def facts(record: Record) -> dict:
    """Returns the mean and the ends of the interval by method, epoch and window."""
    rows = record.rows
    points = [*MEASURES.values(), ("fal", 2.0), ("meda", 2.0)]
    found = {(*point, w): change(rows, w, *point) for point in points for w in WINDOWS}
    names = ("mean", "low", "high")
    return by_name(**{n: {key: v[k] for key, v in found.items()} for k, n in enumerate(names)})

"""Chapter 12: the collapse and its remedies on KuaiRand, with and without the cross."""

from dataclasses import replace

import pandas as pd
import torch

from multiepoch.data import Log
from reproduction.measure import jump, losses, relative
from reproduction.runs import Profile, Run, over_seeds, run_all
from reproduction.tuning import tuned

NAME = "ch12_real_logs"
WITH, WITHOUT = "with the cross", "without the cross"
CROSS = "user_x_author"
METHODS = ("plain", "fal", "meda", "tail_rewind")
TRAINED_ON = ("never", "once", "more often")  # how often a row of the cross was, in the window


def setting(cross: str) -> str:
    """Returns how rows name a choice of the cross."""
    return f"{cross}, rates for one epoch"


def runs(epochs: int) -> list[Run]:
    """Returns each method with the cross, and plain and FAL without, at one epoch's best rates.

    These are plain's, tuned with the cross on the validation day. Tail rewind has the tau that was
    tuned for its own rates.
    """
    rates = tuned("plain", 1, data="kuairand")
    values = {"fal": "log", "tail_rewind": tuned("tail_rewind", 3, data="kuairand").hyperparameter}
    return [
        Run(
            name,
            0,
            rates.dense_lr,
            rates.embedding_lr,
            values.get(name),
            setting=setting(cross),
            epochs=epochs,
            data="kuairand",
            cross=cross == WITH,
            group_by=CROSS if (name, cross) == ("plain", WITH) else "",
        )
        for cross in (WITH, WITHOUT)
        for name in (METHODS if cross == WITH else METHODS[:2])
    ]


def run(profile: Profile, device: str = "auto", seeds=None, store=None, log=print) -> pd.DataFrame:
    """Trains on KuaiRand and returns rows of `runs.COLUMNS`.

    A seed draws first weights and the order of batches, not the log. The log has one size, so that
    only fewer runs are quicker: in the profile quick, plain and FAL with the cross.
    """
    todo = runs(profile.epochs)
    if profile.name == "quick":
        todo = [replace(one, epochs=2, evaluate_at=(0.25, 1.0)) for one in todo[:2]]
    return run_all(over_seeds(seeds or profile.seeds, todo), profile, device, store, log)


def jumps(rows: pd.DataFrame, method: str, where: str) -> pd.DataFrame:
    """Returns a method's jumps in a setting in %: seed by objective."""
    return jump(rows, method=method, setting=where).unstack("objective")


def change(rows: pd.DataFrame, method: str, where: str, epoch: float, objective: str) -> pd.Series:
    """Returns an objective's logloss at a point against the run's end of epoch 1, in % by seed."""
    which = {"method": method, "setting": where, "objective": objective}
    return relative(*(losses(rows, epoch=point, **which) for point in (epoch, 1.0)))


def to_one_epoch(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns click's logloss from the end of epoch 1 on, in % of plain's there, by setting."""
    which = {"objective": "click", "by": ("method", "setting", "seed", "epoch")}
    base = losses(rows, method="plain", epoch=1.0, **which)
    points = relative(losses(rows, **which), base).reset_index()
    return points[points["epoch"] >= 1]


def pairs_seen(window: Log, test: Log) -> tuple[float, float]:
    """Returns the % of test impressions with a pair of user and author that the window had.

    Also, of those whose row of the cross was trained on, the % with a row of other pairs alone.
    """
    n_authors = window.schema.cardinality["author"]
    pairs, test_pairs = (p.ids["user"] * n_authors + p.ids["author"] for p in (window, test))
    known, seen = (torch.isin(test_pairs, pairs), torch.isin(test.ids[CROSS], window.ids[CROSS]))
    stranger = int((seen & ~known).sum()) / int(seen.sum())
    return 100 * known.float().mean().item(), 100 * stranger


def jump_by_frequency(rows: pd.DataFrame) -> pd.Series:
    """Returns the plain jump by how often the cross's row was trained on (group).

    Of the tenths that `frequency_groups` makes, only these three have impressions: most rows were
    never trained on, so the edges between tenths are one lookup or two.
    """
    mine = rows[(rows["method"] == "plain") & (rows["setting"] == setting(WITH))]
    groups = dict(zip(TRAINED_ON, sorted(set(mine["group"]) - {"all"}), strict=True))
    found = {name: jump(mine, group=group) for name, group in groups.items()}
    return pd.concat(found, names=["group"]).droplevel(["method", "setting"])

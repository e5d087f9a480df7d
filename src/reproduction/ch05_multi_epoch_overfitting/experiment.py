"""Chapter 5, claims C3 to C5: the jump at the epoch boundary, and its cause."""

from __future__ import annotations

import pandas as pd

from reproduction.measure import at, by_seed, evidence, jump, pick
from reproduction.runs import Profile, Run, over_seeds, run_all
from reproduction.runs.interventions import INTERVENTIONS
from reproduction.tuning import tuned

CHAPTER = "05"
NAME = "ch05_multi_epoch_overfitting"
PLAIN = "several epochs"
KEPT = (1.0, 1 / 2, 1 / 4, 1 / 8, 1 / 16)
FINE = (0.05, 0.1, 0.25, 0.5, 0.75, 1.0)


def thinned(kept: float) -> str:
    """Returns the setting in which a click keeps its label with probability `kept`."""
    return f"1/{round(1 / kept)} of the clicks"


def runs(epochs: int) -> list[Run]:
    """Returns the runs of one seed, at the rates that are best for one epoch."""
    rates = tuned("plain", 1)
    base = dict(method="plain", seed=0, dense_lr=rates.dense_lr, embedding_lr=rates.embedding_lr)
    several = Run(**base, setting=PLAIN, epochs=epochs, evaluate_at=FINE, group_by="product")
    causes = [Run(**base, setting=name, epochs=2, intervention=name) for name in INTERVENTIONS]
    click = {"epochs": 2, "objectives": ("click",)}
    thin = [Run(**base, **click, setting=thinned(kept), keep_positives=kept) for kept in KEPT]
    return [several, *causes, *thin]


def run(profile: Profile, device: str = "auto", seeds=None, store=None, log=print) -> pd.DataFrame:
    """Returns rows of runs.COLUMNS."""
    seeds = seeds or profile.seeds
    return run_all(over_seeds(seeds, runs(profile.epochs)), profile, device, store, log)


def plain_jump(rows: pd.DataFrame, group: str = "all", setting: str = PLAIN) -> pd.Series:
    """Returns the boundary jump of plain training in %, by seed and objective."""
    return jump(pick(rows, "plain", setting), group=group).droplevel(["method", "setting"])


def quarters(rows: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Returns the rise over epoch 2's first quarter, and per quarter over the others, in %."""
    plain = pick(rows, "plain", PLAIN)
    end, quarter = (at(plain, epoch).droplevel(["method", "setting"]) for epoch in (2.0, 1.25))
    return by_seed(plain_jump(rows)), by_seed(100 * (end / quarter - 1)) / 3


def part_gone(rows: pd.DataFrame) -> pd.Series:
    """Returns the % of the plain jump that is gone by intervention (setting), seed, objective."""
    left = {name: plain_jump(rows, setting=name) for name in INTERVENTIONS}
    return 100 * (1 - pd.concat(left, names=["setting"]) / plain_jump(rows))


def part_left(rows: pd.DataFrame) -> pd.Series:
    """Returns the % of the plain jump that is left, mean over objectives, by setting and seed."""
    return 100 - part_gone(rows).groupby(["setting", "seed"]).mean()


def jump_by_group(rows: pd.DataFrame) -> pd.Series:
    """Returns the plain jump by tenth of the products' frequency (group), seed and objective."""
    groups = [group for group in pick(rows, "plain", PLAIN)["group"].unique() if group != "all"]
    return pd.concat({group: plain_jump(rows, group) for group in groups}, names=["group"])


def directions(rows: pd.DataFrame) -> dict[str, bool]:
    """Returns the conditions that hold for every seed."""
    jumps, left = plain_jump(rows), part_left(rows).unstack("setting")
    found = {f"the test loss of {o} jumps": (j > 0).all() for o, j in jumps.groupby("objective")}
    for name in ("labels drawn anew", "fresh impressions"):
        found[f"{name} leave less than half of the jump"] = (left[name] < 50).all()
    alone = left["dense layers frozen"] < left["tables frozen"]
    found["the tables alone do less harm than the dense layers alone"] = alone.all()
    rows_apart = left["infrequent rows frozen"] < left["frequent rows frozen"]
    found["freezing infrequent rows helps more than freezing frequent ones"] = rows_apart.all()
    return found


def judge(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the evidence for C3, C4 and C5."""
    jumps = plain_jump(rows).unstack("objective")
    thin = {kept: by_seed(plain_jump(rows, setting=thinned(kept))) for kept in KEPT}
    tenths = jump_by_group(rows).groupby(["group", "seed"]).mean().unstack("group")
    gone = part_gone(rows).groupby(["setting", "seed"]).mean().unstack("setting")
    c4 = {
        "cart_over_click": jumps["add_to_cart"] - jumps["click"],
        "checkout_over_cart": jumps["checkout"] - jumps["add_to_cart"],
        "thinned": thin[KEPT[-1]] - thin[KEPT[0]],
    }
    c5 = {
        "decile": tenths["0"] - tenths["9"],
        "tail_frozen": gone["infrequent rows frozen"],
        "resampled": gone["labels drawn anew"],
        "dense_frozen": gone["dense layers frozen"],
    }
    return evidence(C3={f"jump_{name}": jumps[name] for name in jumps}, C4=c4, C5=c5)

"""Chapter 5, claims C3 to C5: the jump at the epoch boundary, and what in it does the harm."""

from __future__ import annotations

import pandas as pd

from reproduction.measure import by_seed, evidence, jump, pick
from reproduction.runs import Profile, Run, over_seeds, run_all
from reproduction.runs.interventions import INTERVENTIONS
from reproduction.tuning import tuned

CHAPTER = "05"
NAME = "ch05_multi_epoch_overfitting"
PLAIN = "several epochs"
KEPT = (1.0, 1 / 2, 1 / 4, 1 / 8, 1 / 16)
FINE = (0.05, 0.1, 0.25, 0.5, 0.75, 1.0)


def thinned(kept: float) -> str:
    """The setting in which a click keeps its label with probability `kept`."""
    return f"1/{round(1 / kept)} of the clicks"


def runs(epochs: int) -> list[Run]:
    """At the rates that are best for one epoch: those that one would be using."""
    rates = tuned("plain", 1)
    base = dict(method="plain", seed=0, dense_lr=rates.dense_lr, embedding_lr=rates.embedding_lr)
    several = Run(**base, setting=PLAIN, epochs=epochs, evaluate_at=FINE, group_by="product")
    causes = [Run(**base, setting=name, epochs=2, intervention=name) for name in INTERVENTIONS]
    thin = [Run(**base, setting=thinned(kept), epochs=2, objectives=("click",),
                keep_positives=kept) for kept in KEPT]  # fmt: skip
    return [several, *causes, *thin]


def run(profile: Profile, device: str = "auto", seeds=None, store=None, log=print) -> pd.DataFrame:
    seeds = seeds or profile.seeds
    return run_all(over_seeds(seeds, runs(profile.epochs)), profile, device, store, log)


def part_gone(rows: pd.DataFrame) -> pd.Series:
    """% of the plain jump that an intervention takes away, by setting, seed and objective."""
    plain = jump(pick(rows, "plain", PLAIN)).droplevel(["method", "setting"])
    found = {}
    for name in INTERVENTIONS:
        left = jump(pick(rows, "plain", name)).droplevel(["method", "setting"])
        found[name] = 100 * (1 - left / plain)
    return pd.concat(found, names=["setting"])


def jump_by_group(rows: pd.DataFrame) -> pd.Series:
    """The plain jump in each tenth of the product rows' frequency, by group, seed, objective."""
    mine = pick(rows, "plain", PLAIN)
    groups = [group for group in mine["group"].unique() if group != "all"]
    found = {group: jump(mine, group=group).droplevel(["method", "setting"]) for group in groups}
    return pd.concat(found, names=["group"])


def judge(rows: pd.DataFrame) -> pd.DataFrame:
    """The evidence for C3, C4 and C5."""
    jumps = jump(pick(rows, "plain", PLAIN)).droplevel(["method", "setting"]).unstack("objective")
    few, all_clicks = (
        by_seed(jump(pick(rows, "plain", thinned(kept)))) for kept in (KEPT[-1], KEPT[0])
    )
    tenths = jump_by_group(rows).groupby(["group", "seed"]).mean().unstack("group")
    gone = part_gone(rows).groupby(["setting", "seed"]).mean().unstack("setting")
    return pd.concat(
        [
            evidence("C3", **{f"jump_{name}": jumps[name] for name in jumps}),
            evidence(
                "C4",
                cart_over_click=jumps["add_to_cart"] - jumps["click"],
                checkout_over_cart=jumps["checkout"] - jumps["add_to_cart"],
                thinned=few - all_clicks,
            ),
            evidence(
                "C5",
                decile=tenths["0"] - tenths["9"],
                tail_frozen=gone["infrequent rows frozen"],
                resampled=gone["labels drawn anew"],
                dense_frozen=gone["dense layers frozen"],
            ),
        ],
        ignore_index=True,
    )

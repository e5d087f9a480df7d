"""Chapter 4, claim C2: the gain in one epoch from a learning rate of the tables' own.

The first half asks what the tables' own rate gains under Adam; the second, rule by rule.
"""

import numpy as np
import pandas as pd

from reproduction.findings import by_name, measures
from reproduction.measure import by_seed, curve, losses, pick, relative, samples_to
from reproduction.records import Record
from reproduction.runs import Profile, Run, over_seeds, run_all
from reproduction.tuning import DEEP, tuned

NAME = "ch04_sparse_optimizer"
SHARED = "one shared rate, tuned"
OWN = "tables' own rate, tuned"
WHOLE = "whole network at the tables' rate"
MULTIPLES = (1, 3, 10, 30, 100)
POINTS = tuple(np.round(np.arange(0.1, 1.01, 0.1), 1).tolist())
RIVALS = {  # settings by the label that figures show
    "tables' own rate": OWN,
    "whole network at it": WHOLE,
    "Adagrad on the tables": "adagrad, tuned",
    "row-wise Adagrad": "rowwise_adagrad, tuned",
}
CANDIDATES = {  # of the tuning
    "shared, 1 epoch": "one shared rate",
    "plain, 1 epoch": "tables' own rate",
    "plain adagrad, 1 epoch": "Adagrad on the tables",
    "plain rowwise_adagrad, 1 epoch": "row-wise Adagrad on the tables",
}


def multiple(times: float) -> str:
    """Returns the setting of the sweep with the tables at `times` the dense rate."""
    return f"{times:g}x"


def runs() -> list[Run]:
    """Returns the runs of one seed: the headline, the sweep of the ratio, the other rules."""
    shared, own = tuned("plain", 1, shared=True), tuned("plain", 1)

    def run(setting: str, dense_lr: float, embedding_lr: float, **changes) -> Run:
        changes |= {"setting": setting, "evaluate_at": POINTS, "group_by": "product"}
        return Run("plain", 0, dense_lr, embedding_lr, **changes)

    headline = [
        run(SHARED, shared.dense_lr, shared.embedding_lr),
        run(OWN, own.dense_lr, own.embedding_lr),
        run(WHOLE, own.embedding_lr, own.embedding_lr),
    ]
    sweep = [run(multiple(m), own.dense_lr, m * own.dense_lr) for m in MULTIPLES]
    rules = {rule: tuned("plain", 1, rule=rule) for rule in ("adagrad", "rowwise_adagrad")}
    others = [
        run(f"{rule}, tuned", best.dense_lr, best.embedding_lr, rule=rule)
        for rule, best in rules.items()
    ]
    return headline + sweep + others


def run(profile: Profile, device: str = "auto", seeds=None, store=None, log=print) -> pd.DataFrame:
    """Returns rows of runs.COLUMNS."""
    return run_all(over_seeds(seeds or profile.seeds, runs()), profile, device, store, log)


def speed_up(rows: pd.DataFrame, setting: str = OWN) -> pd.Series:
    """Returns the samples of one epoch over those `setting` needs to the shared rate's loss.

    By seed and objective; 0 if it never gets there.
    """
    target = losses(rows, method="plain", setting=SHARED, epoch=1.0)
    found = {}
    for key, points in curve(pick(rows, "plain", setting)).groupby(["objective", "seed"]):
        found[key] = points["samples"].max() / samples_to(points, target[key])
    return pd.Series(found).rename_axis(["objective", "seed"])


def against(rows: pd.DataFrame, ours: str, theirs: str = OWN, group: str = "all") -> pd.Series:
    """Returns the logloss after one epoch of one setting against another's in %."""
    which = {"method": "plain", "epoch": 1.0, "group": group}
    return relative(*(losses(rows, setting=name, **which) for name in (ours, theirs)))


def by_frequency(rows: pd.DataFrame) -> pd.Series:
    """Returns the own rate's logloss against the shared rate's in % by tenth of the products."""
    groups = sorted(set(rows["group"]) - {"all"}, key=int)
    tenths = {group: against(rows, OWN, SHARED, group) for group in groups}
    return pd.concat(tenths, names=["group"])


def contrast(rows: pd.DataFrame) -> pd.Series:
    """Returns by seed the change on the rarest tenth of the products minus the most frequent."""
    tenths = by_frequency(rows)
    return by_seed(tenths["0"]) - by_seed(tenths["9"])


def trials(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the extent of each rival's tuning and its best rates, as text."""
    found = {}
    for name, label in CANDIDATES.items():
        mine = rows[rows["candidate"] == name]
        best = mine[mine["best"]].iloc[0]
        line = {"trials": str(len(mine))}
        for rate, column in (("tables' rate", "embedding_lr"), ("dense rate", "dense_lr")):
            line[f"{rate}, tried"] = f"{mine[column].min():.2g} to {mine[column].max():.2g}"
            line[f"{rate}, best"] = f"{best[column]:.2g}"
        found[label] = line
    return pd.DataFrame(found).T.rename_axis("rival")


# Rule by rule -----------------------------------------------------------------------------------

BY_RULE = "speed_up"
SEEDS = tuple(range(20, 28))  # no pilot and no tuning has seen them

RULE_POINTS = (0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.14, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
READ_AT = (0.2, 0.5, 1.0)  # of the epoch, at which the shared rate's loss is read
# The conditions, as fields of a Run. One rule trains the whole network.
CONDITIONS: dict[str, dict] = {
    "Adam": {},
    "Adagrad": {"rule": "adagrad", "dense_rule": "adagrad"},
    "SGD": {"rule": "sgd", "dense_rule": "sgd"},
    "Adam, deep": {"hidden": DEEP},
}


def runs_by_rule() -> list[Run]:
    """Returns the runs of one seed: the tuned shared rate and the tuned pair, by condition."""
    found = []
    for name, condition in CONDITIONS.items():
        for which in ("shared", "own"):
            best = tuned("plain", 1, shared=which == "shared", **condition)
            rates = best.dense_lr, best.embedding_lr
            about = {"condition": name, "rates": which}
            found.append(Run("plain", 0, *rates, about=about, evaluate_at=RULE_POINTS, **condition))
    return found


def run_by_rule(
    profile: Profile, device: str = "auto", seeds=None, store=None, log=print
) -> pd.DataFrame:
    """Returns rows of runs.COLUMNS, and `condition` and `rates`."""
    rows = run_all(over_seeds(seeds or SEEDS, runs_by_rule()), profile, device, store, log)
    return rows[rows["metric"].isin(["logloss", "expected_logloss"])]


def speed_up_by_rule(rows: pd.DataFrame) -> pd.Series:
    """Returns how many times fewer samples the tables' own rate needs for the shared rate's loss.

    By condition, point of the epoch, objective and seed. It is 0 if the loss is never reached.
    """
    found = {}
    points = curve(rows, "expected_logloss")
    for key, mine in points.groupby(["condition", "objective", "seed"]):
        shared, own = (mine[mine["rates"] == which] for which in ("shared", "own"))
        shared = shared.set_index(shared["epoch"].round(2))
        for point in READ_AT:
            there = shared.loc[point]
            needed = samples_to(own, there["value"])
            found[key[0], point, *key[1:]] = there["samples"] / needed
    return pd.Series(found).rename_axis(["condition", "point", "objective", "seed"]).sort_index()


def facts(record: Record) -> dict:
    """Returns the values that the findings speak of, by name."""
    rows, base = record.rows, multiple(1)
    settings = {"adagrad": "adagrad, tuned", "rowwise": "rowwise_adagrad, tuned"}
    return measures(record.evidence) | by_name(
        times={m: by_seed(against(rows, multiple(m), base)) for m in MULTIPLES[1:]},
        rule={name: by_seed(against(rows, setting)) for name, setting in settings.items()},
        contrast=contrast(rows),
    )


def facts_by_rule(record: Record) -> dict:
    """Returns those of the record of BY_RULE."""
    speed = speed_up_by_rule(record.rows)
    late = speed.xs(("Adam", 1.0)).groupby("seed").mean()
    return by_name(click=speed.xs("click", level="objective"), late=late)

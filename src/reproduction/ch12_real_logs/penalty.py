"""Claim C14: an L2 penalty on whole tables under dense Adam hides the phenomenon.

A scan of the coefficient and of the steps an epoch; and how often the first epoch is the best one
in the logs of a public benchmark, by coefficient.
"""

from itertools import product
from pathlib import Path

import pandas as pd
from scipy.stats import fisher_exact

from reproduction.findings import by_name
from reproduction.judge import evidence
from reproduction.measure import as_losses, losses, over_objectives, relative
from reproduction.records import Record
from reproduction.runs import Profile, Run, run_all

NAME = "ch12_penalty"
SEEDS = tuple(range(20, 28))

RATE = 10**-1.5
COEFFICIENTS = (0.0, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4)
BATCHES = (1024, 512, 256)
# Held against it, at the same rates: the lazy optimizer, and two decays that say what they do.
AGAINST = (("plain", None), ("adamar", 1e-3), ("adamar", 1e-2), ("adamw", 0.03), ("adamw", 0.3))
# What the chapter runs itself.
LIVE = {"coefficients": (0.0, 1e-7, 1e-6, 1e-5), "batches": (512,), "against": AGAINST[:1]}


def scan(seed: int, coefficients=COEFFICIENTS, batches=BATCHES, against=AGAINST) -> list[Run]:
    """Returns the runs of one seed."""
    trials = [("whole_l2", value) for value in coefficients] + list(against)
    found = []
    for batch, (name, value) in product(batches, trials):
        about = {"coefficient": value or 0.0, "batch": batch}
        how = {"epochs": 2, "evaluate_at": (0.25, 1.0), "batch_size": batch, "about": about}
        found.append(Run(name, seed, 1e-3, RATE, value, **how))
    return found


def run(profile: Profile, device: str = "auto", seeds=None, **which) -> pd.DataFrame:
    """Returns the losses of the scan. which: As in `scan`."""
    trials = [trial for seed in seeds or SEEDS for trial in scan(seed, **which)]
    return as_losses(run_all(trials, profile.board(), device))


def changes(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns jump, gain and harm in %, by remedy, coefficient, batch and seed.

    They are means over objectives. The jump is a quarter into epoch 2 against the end of epoch 1;
    the gain, the end of epoch 2 against that of epoch 1; the harm, the end of epoch 1 against that
    of dense Adam without decay.
    """
    rows = rows.astype({"value": "float64"})
    by = ["remedy", "coefficient", "batch", "objective", "seed"]
    quarter, end, first = (losses(rows, "loss", by=by, epoch=epoch) for epoch in (1.25, 2.0, 1.0))
    undecayed = first.xs(("whole_l2", 0.0), level=["remedy", "coefficient"])
    pairs = {"jump": (quarter, first), "gain": (end, first), "harm": (first, undecayed)}
    return pd.DataFrame({name: over_objectives(relative(*pair)) for name, pair in pairs.items()})


def judge(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the evidence for C14."""
    scanned, found = changes(rows).xs("whole_l2", level="remedy"), []
    for (value, batch), of in scanned.groupby(["coefficient", "batch"]):
        of, point = of.droplevel(["coefficient", "batch"]), f"coefficient {value:g}, batch {batch}"
        if value <= 1e-8:
            found.append(("C14", "jump_small", point, of["jump"]))
        if value >= 1e-5:
            found.append(("C14", "jump_large", point, of["jump"]))
        if value == 1e-5:
            found += [("C14", name, point, of[name]) for name in ("gain", "harm")]
    jump = scanned["jump"].unstack("batch")
    if 1e-6 in jump.index.unique("coefficient"):
        mine = jump.xs(1e-6, level="coefficient")
        found.append(("C14", "steps", "coefficient 1e-06", mine[max(mine)] - mine[min(mine)]))
    return evidence(found)


def facts(record: Record) -> dict:
    """Returns the values that the findings speak of, by name."""
    found = changes(record.rows)
    scanned = found.xs("whole_l2")
    counts = by_penalty(read_bars())
    return by_name(
        scan=scanned.groupby(["coefficient", "seed"]).mean(),
        at_256=found.xs(256, level="batch"),
        public_runs={"small": counts.loc[SMALL].sum(), "large": counts.loc[LARGE].sum()},
        first_best={"small": counts.loc[SMALL, True], "large": counts.loc[LARGE, True]},
        first_best_share={  # in %
            "small": 100 * counts.loc[SMALL, True] / counts.loc[SMALL].sum(),
            "large": 100 * counts.loc[LARGE, True] / counts.loc[LARGE].sum(),
        },
    )


# The logs of a public benchmark ------------------------------------------------------------------
#
# bars.csv has a line for each of 344 training runs of BARS (github reczoo/BARS, commit 5b5e61f,
# under Apache 2.0; Zhu et al., SIGIR 2022), read from the log in each run's README: the validation
# AUC after epochs 1 and 2, the epoch of the best one, and the logloss after epoch 1 and at its
# lowest. `regularizer` is the coefficient of the squared L2 norm of whole tables, empty if the log
# states none. Each run is of one seed.

SMALL, LARGE = "at most 1e-8", "1e-7 and more"


def read_bars() -> pd.DataFrame:
    """Returns the runs of two epochs and more, with `change`: of the AUC in epoch 2, in points."""
    runs = pd.read_csv(Path(__file__).with_name("bars.csv")).dropna(subset="auc_2")
    # The benchmark has two splits of some data sets, as in avazu_x4_001 and avazu_x4_002.
    data = runs["dataset"].str.replace(r"_00\d$", "", regex=True)
    change = 100 * (runs["auc_2"] - runs["auc_1"])
    kind = pd.Series("not stated", runs.index)
    kind[runs["regularizer"] <= 1e-8] = SMALL
    kind[runs["regularizer"] >= 1e-7] = LARGE
    first = runs["best_epoch"] == 1
    return runs.assign(data=data, change=change, kind=kind, first=first)


def by_data(runs: pd.DataFrame) -> pd.DataFrame:
    """Returns a line for each data set: runs, those whose first epoch is best, median change."""
    groups = runs.groupby("data")
    found = groups.agg(runs=("run", "size"), first=("first", "sum"), change=("change", "median"))
    found["regularizer"] = groups["regularizer"].median()
    return found.sort_values("first", ascending=False)


def by_penalty(runs: pd.DataFrame) -> pd.DataFrame:
    """Returns how many runs on Avazu_x4 are best after one epoch, by kind of coefficient."""
    mine = runs[runs["data"] == "avazu_x4"]
    found = pd.crosstab(mine["kind"], mine["first"]).reindex(columns=[True, False], fill_value=0)
    return found.reindex([SMALL, LARGE, "not stated"], fill_value=0)


def exact_test(counts: pd.DataFrame) -> float:
    """Returns Fisher's two-sided p-value for small against large coefficients."""
    return float(fisher_exact(counts.loc[[SMALL, LARGE]])[1])

"""The logs of a public benchmark: how often the first epoch is the best one, and with what decay.

bars.csv has a line for each of 344 training runs of BARS (github reczoo/BARS, commit 5b5e61f, under
Apache 2.0; Zhu et al., SIGIR 2022), read from the log in each run's README: the validation AUC
after epochs 1 and 2, the epoch of the best one, and the logloss after epoch 1 and at its lowest.
`regularizer` is the coefficient of the squared L2 norm of whole tables, empty if the log states
none. Each run is of one seed.
"""

from pathlib import Path

import pandas as pd
from scipy.stats import fisher_exact

SMALL, LARGE = "at most 1e-8", "1e-7 and more"


def read() -> pd.DataFrame:
    """Returns the runs, with `change`: what epoch 2 does to the AUC, in points."""
    runs = pd.read_csv(Path(__file__).with_name("bars.csv"))
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
    found["impressions"] = groups["n_train"].first()
    return found.sort_values("first", ascending=False)


ADS = ("avazu_x1", "avazu_x4", "criteo_x1", "criteo_x4")  # public logs of ads


def additive(runs: pd.DataFrame) -> pd.DataFrame:
    """Returns how far logistic regression is above other models in %, a line a log of ads.

    Its lowest validation loss against the lowest of any model, and against the median model's after
    one epoch: logistic regression takes several, so that its loss after one would say little.
    """
    mine = runs[runs["data"].isin(ADS)]
    ours = mine[mine["model"] == "LR"].groupby("data")["logloss_best"].min()
    others = mine[mine["model"] != "LR"].groupby("data")
    over = {"best": others["logloss_best"].min(), "one_epoch": others["logloss_1"].median()}
    return pd.DataFrame({name: 100 * (ours / loss - 1) for name, loss in over.items()})


def table(runs: pd.DataFrame, data: str = "avazu_x4") -> pd.DataFrame:
    """Returns how many runs of a data set are best after one epoch, by kind of coefficient."""
    mine = runs[runs["data"] == data]
    found = pd.crosstab(mine["kind"], mine["first"]).reindex(columns=[True, False], fill_value=0)
    return found.reindex([SMALL, LARGE, "not stated"], fill_value=0)


def exact_test(counts: pd.DataFrame) -> float:
    """Returns Fisher's two-sided p-value for small against large coefficients."""
    return float(fisher_exact(counts.loc[[SMALL, LARGE]])[1])

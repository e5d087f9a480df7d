"""Chapter 8, claims C7 and C11: every remedy tuned, and the map of who wins where."""

from __future__ import annotations

import math
from dataclasses import asdict, replace

import pandas as pd
import torch

from multiepoch.data import Log
from multiepoch.methods import METHODS
from multiepoch.model import ConversionModel
from multiepoch.remedies import Rewind
from multiepoch.train.metrics import auc
from reproduction import measure
from reproduction.findings import by_name
from reproduction.judge import evidence
from reproduction.measure import curve, losses, relative, share_of_gap_closed
from reproduction.records import Record
from reproduction.runs import Profile, Run, over_seeds, run_all
from reproduction.tuning import tuned

NAME = "ch08_fal_versus_meda"
TUNED = "tuned"
UNDO_LOG = "tail_rewind, undo log"
GROUPS = {"1": (1, 1), "2–3": (2, 3), "4–9": (4, 9), "10–29": (10, 29), "30 up": (30, math.inf)}
TAUS = (10, 50, 100, 500, 2_000, "all")
PARTS = {0.25: "a quarter into", 0.5: "half of", 1.0: "end of"}
POINTS = {n + part: f"{words} epoch {n + 1}" for n in (1, 2, 3) for part, words in PARTS.items()}
MAP_METHODS = ("fal", "meda", "tail_rewind")
MAP_RATES = (10**-1.5, 10**-0.75, 1.0)  # of the tables' best rate for one epoch
MAP_SCALES = (0.5, 1.0, 2.0)  # of users and products; impressions stay the same
# The meaning of a setting in the records.
TAU_OF = {f"tau {tau}": tau for tau in TAUS}
CELLS = {
    f"rate x{rate:.2g}, cardinality x{scale:g}": (rate, scale)
    for scale in MAP_SCALES
    for rate in MAP_RATES
}


def headline(epochs: int) -> list[Run]:
    """Returns each method at its own best rates and hyperparameter for three epochs."""
    more = {"setting": TUNED, "epochs": epochs}
    return [Run(name, 0, **asdict(tuned(name, 3)), **more) for name in METHODS]


def threshold_sweep(epochs: int) -> list[Run]:
    """Returns runs of tail rewind from few rows to all of them, at its own best rates."""
    run = Run("tail_rewind", 0, **asdict(tuned("tail_rewind", 3)), epochs=epochs)
    return [replace(run, setting=name, hyperparameter=tau) for name, tau in TAU_OF.items()]


def map_runs(methods=MAP_METHODS, rates=MAP_RATES, scales=MAP_SCALES) -> list[Run]:
    """Returns methods over the tables' rate and the cardinality, at plain's dense rate."""
    one_epoch = tuned("plain", 1)
    found = []
    for setting, (rate, scale) in CELLS.items():
        for name in methods if rate in rates and scale in scales else ():
            lr = one_epoch.dense_lr, rate * one_epoch.embedding_lr
            more = dict(setting=setting, epochs=3, scale=scale)
            found.append(Run(name, 0, *lr, tuned(name, 3).hyperparameter, **more))
    return found


def run(profile: Profile, device: str = "auto", seeds=None, store=None, log=print) -> pd.DataFrame:
    """Trains the tuned methods; in `long` also the map and the sweep of tau, in `gpu` its corners.

    The other profiles have no time for the map.
    """
    todo = headline(profile.epochs)
    if profile.name == "long":
        todo += map_runs() + threshold_sweep(profile.epochs)
    elif profile.name == "gpu":
        todo += map_runs(("fal", "meda"), MAP_RATES[::2], MAP_SCALES[::2])
    return run_all(over_seeds(seeds or profile.seeds, todo), profile, device, store, log)


def wins(rows: pd.DataFrame, method: str = "fal", other: str = "meda") -> pd.DataFrame:
    """Returns one method's logloss against another's in %, in each case of the map after epoch 1.

    The columns are setting, objective, epoch, seed and value.
    """
    later = rows[rows["setting"].isin(CELLS) & (rows["epoch"] > 1)]
    return relative(*(losses(later, method=name) for name in (method, other))).reset_index()


def share_won(rows: pd.DataFrame, method: str = "fal", other: str = "meda") -> pd.Series:
    """Returns the % of the map's cases in which `method` has the lower logloss, by seed."""
    cases = wins(rows, method, other)
    return 100.0 * (cases["value"] < 0).groupby(cases["seed"]).mean()


def against(rows: pd.DataFrame, method: str, other: str) -> pd.DataFrame:
    """Returns one tuned method's logloss against another's in %, over objectives: seed by epoch."""
    return measure.against(rows, method, other, setting=TUNED)


def worst(rows: pd.DataFrame, other: str) -> pd.Series:
    """Returns tail rewind's logloss against another's at its worst point, in % by seed."""
    change = against(rows, "tail_rewind", other)
    return change[[epoch for epoch in change if epoch in POINTS]].max(axis=1)


def judge(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the evidence for the earlier readings of C7 and, on a fixed window, of C11.

    Rows without the map have none for C7's share of cases.
    """
    found = [("C7-first", "tuned", "", against(rows, "fal", "meda")[3.0])]
    if set(rows["setting"]) & set(CELLS):
        found.insert(0, ("C7-first", "cases", "", share_won(rows)))
    for other in ("fal", "meda"):
        found.append(("C11-first", f"worst_{other}", "", worst(rows, other)))
    return evidence(found)


def sweep(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns tail rewind's mean logloss by tau against putting all rows back, after epoch 1, in %.

    The columns are tau, epoch, seed and value.
    """
    points = curve(rows[rows["setting"].isin(TAU_OF)])
    points = points[points["epoch"] > 1]
    loss = points.groupby(["setting", "epoch", "seed"])["value"].mean().unstack("setting")
    loss = loss.rename(columns=TAU_OF).rename_axis(columns="tau")
    change = 100 * (loss.div(loss["all"], axis=0) - 1)
    return change.stack().rename("value").reset_index()


def gap_closed(rows: pd.DataFrame) -> pd.Series:
    """Returns the % of the gap that a tuned method closes, over objectives: method, epoch, seed."""
    points = share_of_gap_closed(rows[rows["setting"] == TUNED])
    return points.groupby(["method", "epoch", "seed"])["value"].mean()


def leak(window: Log, test: Log, column: str = "user_x_advertiser") -> pd.DataFrame:
    """Measures how well a row's mean click tells clicks from non-clicks, without any training.

    Returns:
        AUC by lookups of the row in the window (the index). Columns second_epoch: the mean
        includes the impression itself; first_epoch: only earlier ones; new_day: on the test day.
    """
    ids, clicks = window.ids[column], window.labels[:, 0]
    counts = measure.tally(ids, clicks, window.schema.cardinality[column])
    lookups, mean, rate = counts[0], measure.mean_labels(counts), clicks.mean().item()
    frame = pd.DataFrame({"row": ids.numpy(), "click": clicks.numpy()})
    by_row = frame.groupby("row")["click"]
    earlier = (by_row.cumsum() - frame["click"] + rate) / (by_row.cumcount() + 1)
    earlier = torch.tensor(earlier.to_numpy())
    test_ids, test_clicks = test.ids[column], test.labels[:, 0]
    found = {}
    for name, (low, high) in GROUPS.items():
        seen = (lookups[ids] >= low) & (lookups[ids] <= high)
        new = (lookups[test_ids] >= low) & (lookups[test_ids] <= high)
        found[name] = {
            "second_epoch": auc(mean[ids][seen], clicks[seen]),
            "first_epoch": auc(earlier[seen], clicks[seen]),
            "new_day": auc(mean[test_ids][new], test_clicks[new]),
        }
    return pd.DataFrame.from_dict(found, orient="index")


def memory(profile: Profile, seed: int = 0, device: str = "cpu") -> pd.DataFrame:
    """Counts the bytes that each method keeps.

    Returns:
        Columns tables, moments and beside, by method. `beside` is what the method needs beyond
        Adam: counters, last steps, the counts of a rewind. A row of its own has tail rewind with
        an undo log (`to="start"`) after a whole epoch. Drawing rows anew also needs room for one
        table for a moment, which isn't counted.
    """
    window = profile.split(profile.world(seed))[0].to(device)
    found = {name: _bytes_of(name, window, profile, seed) for name in (*METHODS, UNDO_LOG)}
    return pd.DataFrame.from_dict(found, orient="index")


def _bytes_of(name: str, window: Log, profile: Profile, seed: int) -> dict:
    undo_log, method = name == UNDO_LOG, name.split(",")[0]
    t = tuned(method, 3)
    torch.manual_seed(seed)
    model = ConversionModel(window.schema).to(window.labels.device)
    optimizer, between_epochs = METHODS[method].build(model, **asdict(t), seed=seed)
    if undo_log:
        below = math.inf if t.hyperparameter == "all" else t.hyperparameter
        between_epochs = Rewind(model, optimizer, below, to="start")
    between_epochs.before_epoch(0)
    size = profile.batch_size
    for start in range(0, len(window) if undo_log else size, size):
        batch = window[start : start + size]
        optimizer.zero_grad()
        model.loss(model(batch.ids, batch.dense), batch.labels).backward()
        optimizer.step()
    found = {"tables": 0, "moments": 0, "beside": between_epochs.n_bytes}
    for table in model.table_parameters().values():
        found["tables"] += table.nbytes
        for key, value in optimizer.embedding.state[table].items():
            if value.dim():
                kind = "moments" if key in ("exp_avg", "exp_avg_sq") else "beside"
                found[kind] += value.nbytes
    return found


def facts(record: Record) -> dict:
    """Returns the values that the findings speak of, by name."""
    rows, others = record.rows, ("fal", "meda")
    return by_name(
        cases=share_won(rows),
        lowest_late=wins(rows).query("epoch > 1.5")["value"].min(),
        fal=against(rows, "fal", "meda"),
        tail={name: against(rows, "tail_rewind", name) for name in others},
        worst={name: worst(rows, name) for name in others},
        gap=gap_closed(rows),
    )

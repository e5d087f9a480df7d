"""Chapter 7, claims C7 and C11: every remedy tuned, and the map of who wins where."""

from __future__ import annotations

import math

import pandas as pd
import torch

from multiepoch.methods import METHODS
from multiepoch.model import ConversionModel
from multiepoch.remedies import Rewind
from multiepoch.stats import interval
from reproduction import measure
from reproduction.measure import (
    at,
    by_seed,
    curve,
    evidence,
    intervals,
    percent_change,
    pick,
)
from reproduction.runs import Profile, Run, over_seeds, run_all
from reproduction.tuning import tuned

CHAPTER = "07"
NAME = "ch07_fal_versus_meda"
TUNED = "tuned"
TAUS = (10, 50, 100, 500, 2_000, "all")
POINTS = (1.25, 1.5, 2.0, 2.25, 2.5, 3.0, 3.25, 3.5, 4.0)
MAP_METHODS = ("fal", "meda", "tail_rewind")
MAP_RATES = (10**-1.5, 10**-0.75, 1.0)  # of the tables' best rate for one epoch
MAP_SCALES = (0.5, 1.0, 2.0)  # of users and products; impressions stay the same


def headline(epochs: int) -> list[Run]:
    """Each method at its own best rates and hyperparameter for three epochs."""
    return [
        Run(name, 0, t.dense_lr, t.embedding_lr, t.hyperparameter, setting=TUNED, epochs=epochs)
        for name in METHODS
        for t in [tuned(name, 3)]
    ]


def threshold_sweep(epochs: int) -> list[Run]:
    """Tail rewind from few rows to all of them, at its own best rates."""
    t = tuned("tail_rewind", 3)
    return [Run("tail_rewind", 0, t.dense_lr, t.embedding_lr, tau, setting=f"tau {tau}",
                epochs=epochs) for tau in TAUS]  # fmt: skip


def map_runs(methods=MAP_METHODS, rates=MAP_RATES, scales=MAP_SCALES) -> list[Run]:
    """Methods over the tables' rate and the cardinality, at the plain dense rate for one epoch."""
    one_epoch = tuned("plain", 1)
    return [
        Run(name, 0, one_epoch.dense_lr, rate * one_epoch.embedding_lr, tuned(name, 3).hyperparameter,
            setting=cell(rate, scale), epochs=3, scale=scale)
        for scale in scales
        for rate in rates
        for name in methods
    ]  # fmt: skip


def cell(rate: float, scale: float) -> str:
    """How the map names a cell."""
    return f"rate x{rate:.2g}, cardinality x{scale:g}"


_CELLS = pd.DataFrame([(cell(rate, scale), rate, scale) for scale in MAP_SCALES
                       for rate in MAP_RATES], columns=["setting", "rate", "scale"])  # fmt: skip


def run(profile: Profile, device: str = "auto", seeds=None, store=None, log=print) -> pd.DataFrame:
    """The long profile has the whole map and the sweep of tau, others the corners of the map.

    In the quick profile the corners stay at one cardinality, which saves making more worlds.
    """
    epochs = profile.epochs
    if profile.name == "long":
        todo = headline(epochs) + map_runs() + threshold_sweep(epochs)
    else:
        scales = MAP_SCALES[1:2] if profile.name == "quick" else MAP_SCALES[::2]
        corners = map_runs(("fal", "meda"), MAP_RATES[::2], scales)
        todo = headline(epochs) + corners
    return run_all(over_seeds(seeds or profile.seeds, todo), profile, device, store, log)


def wins(rows: pd.DataFrame, method: str = "fal", other: str = "meda") -> pd.DataFrame:
    """One method against another, case by case: setting, objective, epoch, seed, value in %."""
    points = curve(rows[rows["setting"].str.startswith("rate")])
    points = points[points["epoch"] > 1]
    keys = ["setting", "objective", "epoch", "seed"]
    mine, theirs = (pick(points, name).set_index(keys)["value"] for name in (method, other))
    return (100 * (mine / theirs - 1)).rename("value").reset_index()


def on_the_map(rows: pd.DataFrame, method: str = "fal", other: str = "meda") -> pd.DataFrame:
    """`wins` with its interval: rate, scale, objective, epoch, mean, low, high."""
    found = intervals(wins(rows, method, other), ["setting", "objective", "epoch"]).reset_index()
    return found.merge(_CELLS, on="setting")


def best_on_the_map(rows: pd.DataFrame, methods=MAP_METHODS) -> pd.DataFrame:
    """The method of the lowest mean logloss in each cell: rate, scale, objective, epoch, method.

    clear: whether the interval of its difference to the second best leaves zero out.
    """
    keys = ["setting", "objective", "epoch"]
    points = curve(rows[rows["setting"].isin(_CELLS["setting"]) & rows["method"].isin(methods)])
    points = points[points["epoch"] > 1]
    found = []
    for where, cell in points.groupby(keys, sort=False):
        by_seed = cell.pivot(index="seed", columns="method", values="value")
        first, second = by_seed.mean().nsmallest(2).index
        high = interval(by_seed[first] / by_seed[second] - 1)[2]
        found.append((*where, first, high < 0))
    return pd.DataFrame(found, columns=[*keys, "method", "clear"]).merge(_CELLS, on="setting")


def against(rows: pd.DataFrame, method: str, other: str) -> pd.DataFrame:
    """Logloss of one tuned method against another's in %, mean over objectives: seed by epoch."""
    return measure.against(rows, TUNED, method, other).groupby("seed").mean()


def judge(rows: pd.DataFrame) -> pd.DataFrame:
    """The evidence for C7 and for the fixed-window half of C11."""
    fal_wins = wins(rows).assign(value=lambda w: 100.0 * (w["value"] < 0))
    end = {name: at(pick(rows, name, TUNED), 3.0) for name in ("fal", "meda")}
    after_first = [epoch for epoch in POINTS if epoch <= rows["epoch"].max()]
    worst = {f"worst_{other}": against(rows, "tail_rewind", other)[after_first].max(axis=1)
             for other in ("fal", "meda")}  # fmt: skip
    return pd.concat(
        [
            evidence("C7", cases=fal_wins.groupby("seed")["value"].mean(),
                     tuned=by_seed(percent_change(end["fal"], end["meda"]))),
            evidence("C11", **worst),
        ],
        ignore_index=True,
    )  # fmt: skip


def sweep(rows: pd.DataFrame) -> pd.DataFrame:
    """Tail rewind's tau against putting all rows back, in %, mean over objectives.

    Columns tau, epoch, mean, low, high, after the first epoch.
    """
    points = curve(rows[rows["setting"].str.startswith("tau ")])
    points = points[points["epoch"] > 1]
    loss = points.groupby(["setting", "epoch", "seed"])["value"].mean().unstack("setting")
    change = 100 * (loss.div(loss["tau all"], axis=0) - 1)
    taus = {f"tau {tau}": tau for tau in TAUS}
    found = change.rename(columns=taus).rename_axis(columns="tau").stack().rename("value")
    return intervals(found, ["tau", "epoch"]).reset_index()


UNDO_LOG = "tail_rewind, undo log"


def memory(profile: Profile, seed: int = 0, device: str = "cpu") -> pd.DataFrame:
    """Bytes that each method keeps: columns tables, moments, beside; indexed by method.

    beside: what the method needs beyond Adam: counters, last steps, counts of a rewind or its
    undo log (`to="start"`, after a whole epoch, in a row of its own). Redrawing also needs room for
    one table for a moment, which isn't counted.
    """
    window = profile.split(profile.world(seed))[0].to(device)
    found = {}
    for name in [*METHODS, UNDO_LOG]:
        t = tuned(name.split(",")[0], 3)
        torch.manual_seed(seed)
        model = ConversionModel(window.schema).to(device)
        optimizer, every_epoch = METHODS[name.split(",")[0]].build(
            model,
            dense_lr=t.dense_lr,
            embedding_lr=t.embedding_lr,
            hyperparameter=t.hyperparameter,
            seed=seed,
        )
        if name == UNDO_LOG:
            below = math.inf if t.hyperparameter == "all" else t.hyperparameter
            every_epoch = Rewind(model, optimizer, below, to="start")
        every_epoch.before_epoch(0)
        size = profile.batch_size
        for start in range(0, len(window) if name == UNDO_LOG else size, size):
            batch = window[start : start + size]
            optimizer.zero_grad()
            model.loss(model(batch.ids, batch.dense), batch.labels).backward()
            optimizer.step()
        found[name] = {"tables": 0, "moments": 0, "beside": every_epoch.n_bytes}
        for table in model.table_parameters().values():
            found[name]["tables"] += table.nbytes
            for key, value in optimizer.embedding.state[table].items():
                if key in ("exp_avg", "exp_avg_sq"):
                    found[name]["moments"] += value.nbytes
                elif value.dim():
                    found[name]["beside"] += value.nbytes
    return pd.DataFrame.from_dict(found, orient="index").rename_axis("method")

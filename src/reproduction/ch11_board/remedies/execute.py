"""Trains one model by one remedy of the board."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from multiepoch.data import PACKAGED_SPLIT, Log, load_kuairand, split_by_day
from multiepoch.methods import EveryEpoch
from multiepoch.model import ConversionModel
from multiepoch.runner import KeptRunner, resolve_device, run_key
from multiepoch.train import train
from multiepoch.train.loop import NonFiniteLoss
from reproduction.ch11_board.remedies.hooks import WholeTables
from reproduction.ch11_board.remedies.registry import BOARD
from reproduction.runs import Profile, workers

NEW_IDS = {"world": ("user", "product"), "kuairand": ("user", "video")}
EVERY = 4  # KuaiRand is evaluated on every fourth impression of its held-out days
BATCH = {"kuairand": 512}
COLUMNS = ["remedy", "setting", "data", "seed", "epoch", "group", "objective", "metric", "value"]


@dataclass(frozen=True)
class Trial:
    """One model trained once. Its result depends on these fields and the profile alone.

    Attributes:
        remedy: A key of BOARD.
        data: "world" or "kuairand".
        seed: Draws the world, the first weights and the order of the impressions.
        rate: Of the tables, before the remedy's own scale.
        hyperparameter: The remedy's own.
        dense_factor: Of the dense rate from epoch 2 on.
        setting: Distinguishes trials of the same remedy.
        epochs: Over the window.
        evaluate_epochs: In which it is evaluated, counted from 0; None for all.
        on: "test" or "validation".
        share: Of each day's impressions, for less unique data from the same world.
        batch_size: 0 for the profile's.
    """

    remedy: str
    data: str
    seed: int
    rate: float
    hyperparameter: Any = None
    dense_factor: float = 1.0
    setting: str = ""
    epochs: int = 4
    evaluate_epochs: tuple[int, ...] | None = None
    evaluate_at: tuple[float, ...] = (0.25, 0.5, 1.0)
    on: str = "test"
    share: float = 1.0
    batch_size: int = 0

    def describe(self) -> str:
        """Names the trial in a progress line."""
        return f"{self.remedy} {self.setting} {self.data} seed {self.seed}"


@lru_cache(maxsize=2)
def window(profile: Profile, data: str, seed: int) -> tuple[Log, Log, Log]:
    """Returns the training window, the validation day and the test days.

    KuaiRand has every second user, which halves the time and keeps the users' rows as they are.
    """
    if data == "world":
        return profile.split(profile.world(seed))
    whole = load_kuairand()
    log, *held_out = split_by_day(whole[whole.ids["user"] % 2 == 0], **PACKAGED_SPLIT)
    return log, *(one[torch.arange(0, len(one), EVERY)] for one in held_out)


def has_new_id(log: Log, held_out: Log, columns: tuple[str, ...]) -> Tensor:
    """Returns 1 for impressions with an id that the window does not have, else 0, int64 (n,)."""
    new = torch.zeros(len(held_out), dtype=torch.bool)
    for name in columns:
        there = torch.bincount(log.ids[name], minlength=log.schema.cardinality[name]) > 0
        new |= ~there[held_out.ids[name]]
    return new.long()


def build(trial: Trial, log: Log, device: str) -> tuple[ConversionModel, list, Any, Any]:
    """Returns model, optimizers, what acts between epochs, and the optimizer of the tables."""
    remedy, value = BOARD[trial.remedy], trial.hyperparameter
    torch.manual_seed(trial.seed)
    model = ConversionModel(log.schema, **remedy.model(value)).to(device)
    rates = {"dense_lr": 1e-3, "embedding_lr": trial.rate * remedy.scale(value)}
    rates["dense_factor"] = trial.dense_factor
    if remedy.whole_tables is not None:
        whole = WholeTables(model, decay=value, decoupled=remedy.whole_tables, **rates)
        return model, whole.optimizers, whole, whole.of_tables
    optimizer, between = remedy.method.build(
        model, hyperparameter=value, seed=trial.seed, epochs=trial.epochs, **rates
    )
    return model, [optimizer], between, optimizer.embedding


def execute(trial: Trial, profile: Profile, device: str = "cpu") -> pd.DataFrame:
    """Trains one model and returns its losses on the held-out day as rows of COLUMNS.

    The loss is the one expected under the true probabilities if they are known. A run whose loss is
    no longer finite has an infinite one.
    """
    remedy = BOARD[trial.remedy]
    log, validation, test = window(profile, trial.data, trial.seed)
    if trial.share < 1:
        every = torch.Generator().manual_seed(trial.seed)
        kept = torch.randperm(len(log), generator=every)[: round(trial.share * len(log))]
        log = log[kept.sort().values]
    held_out = {"test": test, "validation": validation}[trial.on]
    group = has_new_id(log, held_out, NEW_IDS[trial.data])
    if remedy.prepare is not None:
        change = remedy.prepare(log, trial.hyperparameter)
        log, held_out = change(log), change(held_out)
    if remedy.labels is not None:
        log = remedy.labels(log, trial.hyperparameter)
    model, optimizers, between, of_tables = build(trial, log, device)
    started = time.process_time()
    metric = "logloss" if held_out.p_true is None else "expected_logloss"
    try:
        rows = train(
            model,
            optimizers,
            log,
            epochs=trial.epochs,
            batch_size=trial.batch_size or BATCH.get(trial.data, profile.batch_size),
            seed=trial.seed,
            evaluate=held_out,
            evaluate_at=trial.evaluate_at,
            evaluate_epochs=trial.evaluate_epochs,
            between_epochs=between,
            groups=lambda *_: group,
            progress=None,
        )
        rows = rows[(rows["split"] == "test") & rows["metric"].isin([metric, "auc"])]
        rows = rows[(rows["metric"] == metric) | (rows["group"] == "all")]
        rows = rows.assign(metric=rows["metric"].replace(metric, "loss"))
    except NonFiniteLoss:
        end = {"group": "all", "metric": "loss", "value": float("inf"), "epoch": trial.epochs}
        rows = pd.DataFrame([end | {"objective": name} for name in log.objectives])
    extra = {"cpu_seconds": time.process_time() - started} | sizes(model, of_tables, between)
    about = [{"group": "all", "objective": "", "metric": k, "value": v} for k, v in extra.items()]
    rows = pd.concat([rows, pd.DataFrame(about).assign(epoch=float(trial.epochs))])
    names = ("remedy", "setting", "data", "seed")
    rows = rows.assign(**{name: getattr(trial, name) for name in names})
    return rows[COLUMNS].reset_index(drop=True)


def sizes(model: ConversionModel, of_tables: Any, between: EveryEpoch | WholeTables) -> dict:
    """Returns the memory of the tables, of their optimizer's state and of the remedy, in bytes."""
    state = [of_tables.state[table] for table in model.table_parameters().values()]
    return {
        "table_bytes": float(sum(t.nbytes for t in model.table_parameters().values())),
        "state_bytes": float(sum(v.nbytes for one in state for v in one.values())),
        "remedy_bytes": float(between.n_bytes),
    }


def run_trials(
    trials: list[Trial],
    profile: Profile,
    device: str,
    store: Path,
    log: Callable[[str], None] = print,
) -> pd.DataFrame:
    """Returns the rows of every trial, in order; finished ones are kept in `store`."""
    device = resolve_device(device)
    paths = [store / f"{_key(trial, profile, device)}.parquet" for trial in trials]
    with KeptRunner(
        _Keep(profile, device), workers(profile, device), Trial.describe, log
    ) as runner:
        runner(trials, paths)
    return pd.concat([pd.read_parquet(path) for path in paths], ignore_index=True)


def kept(trials: list[Trial], profile: Profile, device: str, store: Path) -> list[Trial]:
    """Returns the trials that are finished in `store`."""
    return [t for t in trials if (store / f"{_key(t, profile, device)}.parquet").exists()]


def _key(trial: Trial, profile: Profile, device: str) -> str:
    what = [asdict(trial), profile.sizes(), device]
    return run_key(what, "multiepoch", "reproduction.ch11_board.remedies")


@dataclass(frozen=True)
class _Keep:
    """Runs a trial and writes its rows; a class, so that it can be sent to a process."""

    profile: Profile
    device: str

    def __call__(self, trial: Trial, path: Path) -> None:
        execute(trial, self.profile, self.device).to_parquet(path, compression="zstd")


def small(profile: Profile) -> Profile:
    """Returns a profile with an eighth of the world, in batches of a quarter."""
    names = ("n_users", "n_products", "n_campaigns", "n_advertisers", "impressions_per_day")
    sizes = {name: getattr(profile, name) // 8 for name in names}
    return replace(profile, **sizes, batch_size=profile.batch_size // 4)

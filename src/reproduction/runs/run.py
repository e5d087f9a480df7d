"""One training run as data, and many runs spread over processes, kept as they finish, resumed.

A `Run` holds everything that its result depends on. Its key names the file that keeps the result.
"""

import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache, partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch.optim import Optimizer

from multiepoch_lab.data import Log, Schema
from multiepoch_lab.model import ConversionModel
from multiepoch_lab.runner import Item, KeptRunner, code_hash, resolve_device, run_key
from multiepoch_lab.train import bayes_optimum, frequency_groups, train, train_days
from multiepoch_lab.train.loop import NonFiniteLoss
from multiepoch_lab.train.metrics import entropy
from reproduction.remedies.board import METHODS
from reproduction.runs import interventions
from reproduction.runs.profiles import Profile, kept_runs
from reproduction.runs.sources import SOURCES, has_new_id, version, window

# On which a run depends.
CODE = ("multiepoch", "multiepoch_lab", "reproduction.runs", "reproduction.remedies")
IDENTITY = ["profile", "device", "seed", "method", "setting"]
COLUMNS = [*IDENTITY, "epoch", "samples", "group", "objective", "metric", "value"]
NEW_IDS, USER_BLOCKS = "new ids", "blocks of users"
N_BLOCKS = 20


@dataclass(frozen=True)
class Run:
    """One model trained once. Its result depends on these fields and the profile alone."""

    method: str  # a key of METHODS
    seed: int  # draws the world, the first weights and the order of the impressions
    dense_lr: float
    embedding_lr: float  # of the tables
    hyperparameter: Any = None  # the method's own
    setting: str = ""  # tells this run from others of the same method; figures show it
    # More columns of the run's rows, by name; they replace those of the same name.
    about: dict[str, Any] = field(default_factory=dict)
    epochs: int = 1  # over the window, or over each day
    data: str = "world"  # a key of SOURCES
    cross: bool = True  # keeps the ultra-sparse id column
    days: int = 0  # trained on one by one, each evaluated on the next; 0 for one window
    times_data: float = 1.0  # impressions per day, in multiples of the profile's
    share: float = 1.0  # of the window's impressions, for less unique data from the same days
    batch_size: int = 0  # impressions a step; 0 for the source's, or else the profile's
    rule: str = "adam"  # the tables' update rule
    world: dict = field(default_factory=dict)  # other constants of the world
    intervention: str = ""  # a key of interventions.INTERVENTIONS or DELAYS
    evaluate_at: tuple[float, ...] = (0.25, 0.5, 1.0)  # fractions of each epoch
    evaluate_epochs: tuple[int, ...] | None = None  # counted from 0; None for all
    day_evaluate_at: tuple[float, ...] = (1.0,)  # fractions of the last epoch over each day
    on: str = "test"  # the held-out day, or "validation"
    # An id column whose row-frequency tenths are evaluated apart; NEW_IDS for impressions without
    # (group "0") and with (group "1") a new id; USER_BLOCKS for N_BLOCKS parts by user.
    group_by: str = ""
    dense_factor: float = 1.0  # of the dense learning rate from epoch 2 on
    dense_rule: str = "adam"  # the dense layers' update rule
    eps: float = 1e-8  # of the tables' rule
    initial_accumulator_value: float = 0.0  # of the tables' Adagrad
    network: dict = field(default_factory=dict)  # more options of the model

    def describe(self) -> str:
        """Names the run in a progress line."""
        about = {"method": self.method, "setting": self.setting} | self.about
        words = [v if isinstance(v, str) else f"{name} {v:g}" for name, v in about.items()]
        return " ".join([*filter(None, words), f"seed {self.seed}"])

    def key(self, profile: Profile, device: str) -> str:
        """Returns the name of the file that keeps the result of this run, whatever it is called."""
        run = asdict(replace(self, setting="", about={}))
        return run_key([run, profile.sizes(), device, version(self.data)], *CODE)


def execute(run: Run, profile: Profile, device: str = "cpu") -> pd.DataFrame:
    """Trains one model and returns its points on the held-out day as rows of COLUMNS.

    A run whose loss is no longer finite has an infinite one.
    """
    parts = (_over_days if run.days else _over_window)(run, profile, device)
    started = time.perf_counter(), time.process_time()
    try:
        rows = parts.train(
            epochs=run.epochs,
            batch_size=run.batch_size or SOURCES[run.data].batch_size or profile.batch_size,
            seed=run.seed,
            progress=None,
        )
        rows = rows[rows["split"] != "running"]
        if run.days:  # 3.25 is a quarter into the last epoch over the fourth day
            rows = rows.assign(epoch=rows["day"] + rows["epoch"] - run.epochs + 1.0)
    except NonFiniteLoss:
        end = {"epoch": float(run.days or run.epochs), "samples": 0, "group": "all"}
        names = product(parts.held_out.objectives, ("logloss", "expected_logloss"))
        rows = pd.DataFrame(
            [end | {"objective": o, "metric": m, "value": math.inf} for o, m in names]
        )
    totals = {
        "seconds": time.perf_counter() - started[0],
        "cpu_seconds": time.process_time() - started[1],
        **sizes(*parts[2:]),
    }
    extra = _ends(parts.held_out) + [("", name, float(value)) for name, value in totals.items()]
    about = pd.DataFrame(extra, columns=["objective", "metric", "value"])
    about = about.assign(epoch=rows["epoch"].max(), samples=rows["samples"].max(), group="all")
    rows = pd.concat([rows, about], ignore_index=True)
    where = torch.cuda.get_device_name(device) if str(device).startswith("cuda") else "cpu"
    rows[IDENTITY] = profile.name, where, run.seed, run.method, run.setting
    return rows[COLUMNS]


class _Parts(NamedTuple):
    """A run that has only to be trained."""

    train: Callable[..., pd.DataFrame]
    held_out: Log
    model: ConversionModel
    optimizers: list[Optimizer]
    every_epoch: Any


def logs(run: Run, profile: Profile) -> tuple[Log, Log, Callable[[Log, Log], torch.Tensor] | None]:
    """Returns the training log and the held-out one of a window, and the groups to evaluate."""
    log, validation, test = window(profile, run.data, run.seed, run.cross, **run.world)
    held_out = {"test": test, "validation": validation}[run.on]
    if run.share < 1:
        order = torch.randperm(len(log), generator=torch.Generator().manual_seed(run.seed))
        log = log[order[: round(run.share * len(log))].sort().values]
    groups = partial(frequency_groups, column=run.group_by) if run.group_by else None
    if run.group_by in (NEW_IDS, USER_BLOCKS):
        group = held_out.ids["user"] % N_BLOCKS
        if run.group_by == NEW_IDS:
            group = has_new_id(log, held_out, SOURCES[run.data].new_ids)

        def groups(_: Log, other: Log) -> torch.Tensor:
            return group.to(other.device)

    return *METHODS[run.method].logs(log, held_out, run.hyperparameter), groups


def _over_window(run: Run, profile: Profile, device: str) -> _Parts:
    log, held_out, groups = logs(run, profile)
    log, held_out = log.to(device), held_out.to(device)
    model, optimizers, every_epoch = build(run, log.schema, device)
    if start_at := getattr(model, "start_at_", None):
        start_at(log.labels.mean(dim=0))
    data, between_epochs = log, every_epoch
    if run.intervention:
        make = (interventions.INTERVENTIONS | interventions.DELAYS)[run.intervention]
        data, between_epochs = make(model, every_epoch, log, profile, run)
    how = {"evaluate": held_out, "evaluate_at": run.evaluate_at, "groups": groups}
    how |= {"evaluate_epochs": run.evaluate_epochs, "between_epochs": between_epochs}
    start = partial(train, model, optimizers, data, **how)
    return _Parts(start, held_out, model, optimizers, every_epoch)


def _over_days(run: Run, profile: Profile, device: str) -> _Parts:
    """Trains day after day, evaluated on the next one; in the rows `epoch` counts the days."""
    world = profile.world(run.seed, **run.world)
    schema = world.schema(run.days)
    per_day = profile.impressions_per_day

    @lru_cache(maxsize=2)  # a day is asked for in each of its epochs, and before as a test day
    def day_log(n: int, day: int) -> Log:
        return replace(world.day(day, n), schema=schema)

    model, optimizers, every_epoch = build(run, schema, device)
    days = partial(day_log, round(run.times_data * per_day)), range(run.days + 1)
    how = {"evaluate_on": partial(day_log, per_day), "evaluate_at": run.day_evaluate_at}
    how |= {"evaluate_epochs": [run.epochs - 1], "between_epochs": every_epoch}
    start = partial(train_days, model, optimizers, *days, **how)
    return _Parts(start, day_log(per_day, run.days), model, optimizers, every_epoch)


def build(run: Run, schema: Schema, device: str) -> tuple[ConversionModel, list[Optimizer], Any]:
    """Returns the model, its optimizers and what acts between the epochs."""
    method = METHODS[run.method]
    torch.manual_seed(run.seed)
    model = method.network(schema, **method.model(run.hyperparameter) | run.network).to(device)
    names = ("dense_lr", "embedding_lr", "hyperparameter", "seed", "rule", "epochs")
    names += ("dense_rule", "dense_factor", "eps", "initial_accumulator_value")
    optimizer, every_epoch = method.build(model, **{name: getattr(run, name) for name in names})
    return model, optimizer if isinstance(optimizer, list) else [optimizer], every_epoch


def _ends(held_out: Log) -> list[tuple[str, str, float]]:
    """Returns the best constant's loss on the held-out day and, if known, the optimum's."""
    if held_out.p_true is not None:
        ends = bayes_optimum(held_out)
    else:
        rate = held_out.labels.double().mean(dim=0).tolist()
        known = {"positive_rate": rate, "constant_logloss": map(entropy, rate)}
        ends = pd.DataFrame(known, index=held_out.objectives)
    return [(name, metric, value) for name, row in ends.iterrows() for metric, value in row.items()]


def sizes(
    model: ConversionModel, optimizers: list[Optimizer], between_epochs: Any
) -> dict[str, float]:
    """Returns the memory of the tables, of the optimizer's row state and of the remedy."""
    tables = list(model.table_parameters().values())
    state = [one.state[table] for table in tables for one in optimizers if table in one.state]
    return {
        "table_bytes": sum(table.nbytes for table in tables),
        "state_bytes": sum(tensor.nbytes for one in state for tensor in one.values()),
        "rewind_bytes": between_epochs.n_bytes,
    }


def run_all(runs: Sequence[Run], profile: Profile, device: str = "auto") -> pd.DataFrame:
    """Returns every run's rows, in the order given. device: "auto", "cpu" or "cuda"."""
    device = resolve_device(device)
    keys = [run.key(profile, device) for run in runs]
    work = partial(execute, profile=profile, device=device)
    tables = kept(work, runs, keys, profile, device, Run.describe)
    # A kept run may have been given another name, and come from another profile of the same size.
    named = [
        table.assign(profile=profile.name, setting=run.setting, **run.about)
        for table, run in zip(tables, runs)
    ]
    return pd.concat(named, ignore_index=True)


def kept(
    work: Callable[[Item], pd.DataFrame],
    items: Sequence[Item],
    keys: Sequence[str],
    profile: Profile,
    device: str,
    describe: Callable[[Item], str],
) -> list[pd.DataFrame]:
    """Returns the table that `work` makes of each item, and prints its progress.

    Finished ones are kept by their key, in the profile's folder in `kept_runs`, and not repeated.
    On a CPU `workers` processes of one thread share the items; on a GPU they are done one after the
    other.
    """
    folder = kept_runs() / profile.name
    paths = [folder / f"{key}.parquet" for key in keys]
    say = partial(print, flush=True)
    work = partial(_keep, work, code_hash(*CODE))
    with KeptRunner(work, workers(profile, device), describe, say) as runner:
        runner(items, paths)
    return [pd.read_parquet(path) for path in paths]


def workers(profile: Profile, device: str) -> int:
    """Returns how many processes share the runs: one on a GPU, else as many as the profile says.

    MULTIEPOCH_WORKERS overrides the profile, for notebooks that run side by side.
    """
    if device != "cpu":
        return 1
    return int(os.environ.get("MULTIEPOCH_WORKERS", profile.workers))


def _keep(work: Callable[[Item], pd.DataFrame], code: str, item: Item, path: Path) -> None:
    if code_hash(*CODE) != code:  # a worker imports what is on disk when it starts
        raise ValueError("the code has changed since this call began; finished runs are kept.")
    work(item).to_parquet(path, compression="zstd")


def over_seeds(seeds: Sequence[int], runs: Sequence[Run]) -> list[Run]:
    """Returns the same runs for each seed."""
    return [replace(run, seed=seed) for seed in seeds for run in runs]

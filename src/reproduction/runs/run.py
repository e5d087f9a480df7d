"""One training run as data, and many runs spread over processes, kept as they finish, resumed.

A `Run` holds everything that its result depends on. Its key names the file that keeps the result.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path

import pandas as pd
import torch

from multiepoch.data import PACKAGED_SPLIT, Log, Schema, load_kuairand, split_by_day
from multiepoch.methods import ALL_METHODS, EveryEpoch, Hyperparameter
from multiepoch.model import ConversionModel
from multiepoch.optim import SparseOptimizer
from multiepoch.runner import KeptRunner, resolve_device, run_key
from multiepoch.train import bayes_optimum, frequency_groups, train, train_days
from multiepoch.train.metrics import entropy
from reproduction.runs import interventions
from reproduction.runs.profiles import Profile

IDENTITY = ["profile", "device", "seed", "method", "setting"]
COLUMNS = [*IDENTITY, "epoch", "samples", "group", "objective", "metric", "value"]

SOURCES = ("world", "kuairand")
# KuaiRand is small: with the profile's batch size an epoch would be some sixty steps.
KUAIRAND_BATCH = 512


@dataclass(frozen=True)
class Run:
    """One model trained once. Its result depends on these fields and the profile alone.

    Attributes:
        method: A key of ALL_METHODS.
        seed: Draws the world, the first weights and the order of the impressions.
        dense_lr: Learning rate of the dense layers.
        embedding_lr: Learning rate of the tables.
        hyperparameter: The method's own.
        setting: Distinguishes this run from others of the same method; figures show it.
        epochs: Over the window, or over each day.
        data: "world" or "kuairand", or either with " without cross" after it.
        days: Days trained on one after the other, each evaluated on the next; 0 for one window.
        times_data: Impressions per day, in multiples of the profile's.
        rule: The tables' update rule.
        scale: Multiplies users and products (see Profile.world).
        world: Other constants of the world.
        intervention: A key of interventions.INTERVENTIONS, "" for none.
        keep_positives: The share of the positives that keep their label.
        objectives: To train on; empty for all.
        evaluate_at: Fractions of each epoch after which the model is evaluated.
        day_evaluate_at: The same, of the last epoch over each day, if there are days.
        on: The held-out day, "test" or "validation".
        group_by: An id column whose row-frequency tenths are evaluated apart, "" for none.
        dense_factor: The factor of the dense learning rate from epoch 2 on.
        dense_rule: The dense layers' update rule.
        hidden: Widths of the shared dense layers; empty for the model's default.
        fal_maximum: FAL's M of every table, where it is larger than the largest count; 0 for none.
    """

    method: str
    seed: int
    dense_lr: float
    embedding_lr: float
    hyperparameter: Hyperparameter = None
    setting: str = ""
    epochs: int = 1
    data: str = "world"
    days: int = 0
    times_data: float = 1.0
    rule: str = "adam"
    scale: float = 1.0
    world: dict = field(default_factory=dict)
    intervention: str = ""
    keep_positives: float = 1.0
    objectives: tuple[str, ...] = ()
    evaluate_at: tuple[float, ...] = (0.25, 0.5, 1.0)
    day_evaluate_at: tuple[float, ...] = (1.0,)
    on: str = "test"
    group_by: str = ""
    dense_factor: float = 1.0
    dense_rule: str = "adam"
    hidden: tuple[int, ...] = ()
    fal_maximum: int = 0

    def describe(self) -> str:
        """Names the run in a progress line."""
        return " ".join(filter(None, [self.method, self.setting, f"seed {self.seed}"]))

    def key(self, profile: Profile, device: str) -> str:
        """Returns the name of the file that keeps the result of this run."""
        return run_key([asdict(self), profile.sizes(), device], "multiepoch", "reproduction.runs")


@lru_cache(maxsize=2)
def _window(profile: Profile, data: str, seed: int, scale: float, world: str):
    """Returns the training window, the validation day and the test days of a source."""
    source, _, rest = data.partition(" ")
    if source not in SOURCES or rest not in ("", "without cross"):
        known = ", ".join(SOURCES)
        raise ValueError(f"no data {data!r}; choose from {known}, or one of them without cross.")
    if source == "kuairand":
        return split_by_day(load_kuairand(cross=not rest), **PACKAGED_SPLIT)
    logs = profile.split(profile.world(seed, scale, **json.loads(world)))
    return tuple(map(_without_cross, logs)) if rest else logs


def _without_cross(log: Log) -> Log:
    """Returns the log of a world without its ultra-sparse id column."""
    ids = {name: column for name, column in log.ids.items() if name != "user_x_advertiser"}
    cardinality = {name: log.schema.cardinality[name] for name in ids}
    return replace(log, schema=replace(log.schema, cardinality=cardinality), ids=ids)


def execute(run: Run, profile: Profile, device: str = "cpu") -> pd.DataFrame:
    """Trains one model and returns its points on the held-out day as rows of COLUMNS."""
    train_one = _train_days if run.days else _train_window
    started = time.perf_counter()
    rows, extra = train_one(run, profile, device)
    extra.append({"metric": "seconds", "value": time.perf_counter() - started})
    last = {"epoch": rows["epoch"].max(), "samples": rows["samples"].max()}
    last |= {"group": "all", "objective": ""}
    rows = pd.concat([rows, pd.DataFrame([last | one for one in extra])], ignore_index=True)
    rows[IDENTITY] = profile.name, _device_name(device), run.seed, run.method, run.setting
    return rows[COLUMNS]


def _train_window(run: Run, profile: Profile, device: str) -> tuple[pd.DataFrame, list[dict]]:
    """Trains over one window; returns its points and the rows about the run as a whole."""
    world = json.dumps(run.world, sort_keys=True)
    log, validation, test = _window(profile, run.data, run.seed, run.scale, world)
    batch_size = profile.batch_size if run.data.startswith("world") else KUAIRAND_BATCH
    held_out = {"test": test, "validation": validation}[run.on]
    if run.objectives or run.keep_positives < 1:
        log, held_out = (
            interventions.thin(one, run.objectives or one.objectives, run.keep_positives, run.seed)
            for one in (log, held_out)
        )
    log, held_out = log.to(device), held_out.to(device)
    model, optimizer, every_epoch = _build(run, log.schema, device)
    data, between_epochs = log, every_epoch
    if run.intervention:
        make = interventions.INTERVENTIONS[run.intervention]
        data, between_epochs = make(model, every_epoch, log, profile, run)
    groups = partial(frequency_groups, column=run.group_by) if run.group_by else None
    rows = train(
        model,
        optimizer,
        data,
        epochs=run.epochs,
        batch_size=batch_size,
        seed=run.seed,
        evaluate=held_out,
        evaluate_at=run.evaluate_at,
        between_epochs=between_epochs,
        groups=groups,
        progress=None,
    )
    # train names the held-out day "test", whichever it is.
    return rows[rows["split"] == "test"], [*_ends(held_out), *_bytes(model, optimizer, every_epoch)]


def _train_days(run: Run, profile: Profile, device: str) -> tuple[pd.DataFrame, list[dict]]:
    """Trains day after day, evaluated on the next one.

    In the rows `epoch` counts the days: 3.25 is a quarter into the last epoch over the fourth.
    """
    world = profile.world(run.seed, run.scale, **run.world)
    schema = world.schema(run.days)
    per_day = profile.impressions_per_day

    @lru_cache(maxsize=2)  # a day is asked for in each of its epochs, and before as a test day
    def day_log(n: int, day: int) -> Log:
        return replace(world.day(day, n), schema=schema)

    model, optimizer, every_epoch = _build(run, schema, device)
    rows = train_days(
        model,
        optimizer,
        partial(day_log, round(run.times_data * per_day)),
        range(run.days + 1),
        epochs=run.epochs,
        evaluate_on=partial(day_log, per_day),
        evaluate_at=run.day_evaluate_at,
        evaluate_epochs=[run.epochs - 1],
        batch_size=profile.batch_size,
        seed=run.seed,
        between_epochs=every_epoch,
        progress=None,
    )
    rows = rows[rows["split"] == "next_day"]
    extra = [*_ends(day_log(per_day, run.days)), *_bytes(model, optimizer, every_epoch)]
    return rows.assign(epoch=rows["day"] + rows["epoch"] - run.epochs + 1.0), extra


def _build(run: Run, schema: Schema, device: str):
    torch.manual_seed(run.seed)
    layers = {"hidden": run.hidden} if run.hidden else {}
    model = ConversionModel(schema, **layers).to(device)
    optimizer, every_epoch = ALL_METHODS[run.method].build(
        model,
        dense_lr=run.dense_lr,
        embedding_lr=run.embedding_lr,
        hyperparameter=run.hyperparameter,
        seed=run.seed,
        rule=run.rule,
        epochs=run.epochs,
        dense_rule=run.dense_rule,
        dense_factor=run.dense_factor,
    )
    if run.fal_maximum:
        for table in model.table_parameters().values():
            optimizer.embedding.state[table]["max_count"] = torch.tensor(
                run.fal_maximum, dtype=torch.int32, device=device
            )
    return model, optimizer, every_epoch


def _ends(held_out: Log) -> list[dict]:
    """Returns the best constant's logloss on the held-out day and, if known, the optimum's."""
    if held_out.p_true is not None:
        ends = bayes_optimum(held_out)
    else:
        rate = held_out.labels.double().mean(dim=0).tolist()
        known = {"positive_rate": rate, "constant_logloss": map(entropy, rate)}
        ends = pd.DataFrame(known, index=held_out.objectives)
    return [
        {"objective": objective, "metric": metric, "value": value}
        for objective, row in ends.iterrows()
        for metric, value in row.items()
    ]


def _bytes(
    model: ConversionModel, optimizer: SparseOptimizer, every_epoch: EveryEpoch
) -> list[dict]:
    """Returns the memory of the tables, of the optimizer's row state and of the remedy."""
    state = optimizer.embedding.state.values()
    sizes = {
        "table_bytes": sum(table.nbytes for table in model.table_parameters().values()),
        "state_bytes": sum(tensor.nbytes for one in state for tensor in one.values()),
        "rewind_bytes": every_epoch.n_bytes,
    }
    return [{"metric": name, "value": float(value)} for name, value in sizes.items()]


def _device_name(device: str) -> str:
    return torch.cuda.get_device_name(device) if str(device).startswith("cuda") else "cpu"


def run_all(
    runs: Sequence[Run],
    profile: Profile,
    device: str = "auto",
    store: Path | None = None,
    log: Callable[[str], None] = print,
) -> pd.DataFrame:
    """Returns every run's rows, in the order given.

    Finished runs are kept in `store` and not repeated. On a CPU `workers` processes of one
    thread share the runs; on a GPU they run one after the other.

    Args:
        runs: The runs, in the order wanted.
        profile: Sizes of the world and the runs.
        device: "auto", "cpu" or "cuda".
        store: Folder of the finished runs, by default `default_store`.
        log: Receives one line per run, with an estimate of the time left.
    """
    device = resolve_device(device)
    store = store or default_store(profile)
    paths = [store / f"{run.key(profile, device)}.parquet" for run in runs]
    work = partial(_keep, profile, device)
    with KeptRunner(work, workers(profile, device), Run.describe, log) as runner:
        runner(runs, paths)
    # A kept run may come from another profile of the same size.
    tables = [pd.read_parquet(path).assign(profile=profile.name) for path in paths]
    return pd.concat(tables, ignore_index=True)


def workers(profile: Profile, device: str) -> int:
    """Returns how many processes share the runs: one on a GPU, else as many as the profile says.

    MULTIEPOCH_WORKERS overrides the profile, for notebooks that run side by side.
    """
    if device != "cpu":
        return 1
    return int(os.environ.get("MULTIEPOCH_WORKERS", profile.workers))


def _keep(profile: Profile, device: str, run: Run, path: Path) -> None:
    execute(run, profile, device).to_parquet(path, compression="zstd")


def default_store(profile: Profile) -> Path:
    """Returns the profile's folder in MULTIEPOCH_RUNS, by default in `runs/`."""
    return Path(os.environ.get("MULTIEPOCH_RUNS", "runs")) / profile.name


def over_seeds(seeds: Sequence[int], runs: Sequence[Run]) -> list[Run]:
    """Returns the same runs for each seed."""
    return [replace(run, seed=seed) for seed in seeds for run in runs]

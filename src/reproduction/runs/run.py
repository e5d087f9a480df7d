"""One training run as data, and many of them: spread over processes, kept as they finish, resumed.

A `Run` holds everything that its result depends on; its key names the file that keeps the result.
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

COLUMNS = ["profile", "device", "seed", "method", "setting", "epoch", "samples", "group",
           "objective", "metric", "value"]  # fmt: skip

# Chapter 2's. KuaiRand is small: with the profile's batch an epoch would be some sixty steps.
KUAIRAND_BATCH = 512

@dataclass(frozen=True)
class Run:
    """One model trained once. Everything a result depends on, beside the profile, is here.

    method: a key of ALL_METHODS; hyperparameter: its own setting; dense_lr, embedding_lr: the two rates.
    setting: what tells this run from others of the same method, as figures call it.
    data: "world", "kuairand", or "kuairand without cross".
    days: 0 for several epochs over one window; else so many days, `epochs` over each, evaluated
        on the next day. times_data: impressions a day, in multiples of the profile's.
    scale, world: changes of the world (see Profile.world).
    intervention: a key of interventions.INTERVENTIONS, "" for none.
    keep_positives: the share of the positives that keep their label.
    objectives: those trained on, all by default.
    on: "test" or "validation", the day it is evaluated on.
    group_by: an id column whose row-frequency tenths are evaluated apart, "" for none.
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
    on: str = "test"
    group_by: str = ""

    def describe(self) -> str:
        """Names the run in a progress line."""
        return " ".join(filter(None, [self.method, self.setting, f"seed {self.seed}"]))

    def key(self, profile: Profile, device: str) -> str:
        """Names the file that keeps the result of this run."""
        leave_out = ("name", "seeds", "tuning_seeds", "epochs", "workers")
        sizes = {name: size for name, size in asdict(profile).items() if name not in leave_out}
        return run_key([asdict(self), sizes, device], "multiepoch", "reproduction.runs")


@lru_cache(maxsize=2)
def _window(profile: Profile, data: str, seed: int, scale: float, world: str):
    """Training window, validation day and test days of a source."""
    if data == "world":
        return profile.split(profile.world(seed, scale, **json.loads(world)))
    return split_by_day(load_kuairand(cross=data == "kuairand"), **PACKAGED_SPLIT)


def execute(run: Run, profile: Profile, device: str = "cpu") -> pd.DataFrame:
    """Trains one model and returns its points on the held-out day as rows of COLUMNS."""
    train_one = _train_days if run.days else _train_window
    started = time.perf_counter()
    rows, extra = train_one(run, profile, device)
    extra.append({"metric": "seconds", "value": time.perf_counter() - started})
    last = {"epoch": rows["epoch"].max(), "samples": rows["samples"].max(), "group": "all",
            "objective": ""}  # fmt: skip
    rows = pd.concat([rows, pd.DataFrame([last | one for one in extra])], ignore_index=True)
    rows = rows.assign(profile=profile.name, device=_device_name(device), seed=run.seed,
                       method=run.method, setting=run.setting)  # fmt: skip
    return rows[COLUMNS]


def _train_window(run: Run, profile: Profile, device: str) -> tuple[pd.DataFrame, list[dict]]:
    """Several epochs over one window: its test points, and what belongs to the run as a whole."""
    world = json.dumps(run.world, sort_keys=True)
    log, validation, test = _window(profile, run.data, run.seed, run.scale, world)
    batch_size = profile.batch_size if run.data == "world" else KUAIRAND_BATCH
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
    rows = train(
        model, optimizer, data, epochs=run.epochs, batch_size=batch_size, seed=run.seed,
        evaluate=held_out, evaluate_at=run.evaluate_at, between_epochs=between_epochs,
        groups=partial(frequency_groups, column=run.group_by) if run.group_by else None,
        progress=None,
    )  # fmt: skip
    # "test" is what train calls the held-out day, whichever it is.
    return rows[rows["split"] == "test"], [*_ends(held_out), *_bytes(model, optimizer, every_epoch)]


def _train_days(run: Run, profile: Profile, device: str) -> tuple[pd.DataFrame, list[dict]]:
    """Day after day: what the model predicts of the next one. `epoch` counts the days."""
    world = profile.world(run.seed, run.scale, **run.world)
    schema = world.schema(run.days)

    per_day = profile.impressions_per_day

    @lru_cache(maxsize=2)  # every epoch over a day asks for it anew, and the day before was its test
    def day_log(n: int, day: int) -> Log:
        return replace(world.day(day, n), schema=schema)

    model, optimizer, every_epoch = _build(run, schema, device)
    rows = train_days(
        model, optimizer, partial(day_log, round(run.times_data * per_day)),
        range(run.days + 1), epochs=run.epochs, evaluate_on=partial(day_log, per_day),
        evaluate_epochs=[run.epochs - 1], batch_size=profile.batch_size, seed=run.seed,
        between_epochs=every_epoch, progress=None,
    )  # fmt: skip
    rows = rows[rows["split"] == "next_day"]
    extra = [*_ends(day_log(per_day, run.days)), *_bytes(model, optimizer, every_epoch)]
    return rows.assign(epoch=rows["day"] + 1.0), extra


def _build(run: Run, schema: Schema, device: str):
    torch.manual_seed(run.seed)
    model = ConversionModel(schema).to(device)
    optimizer, every_epoch = ALL_METHODS[run.method].build(
        model, dense_lr=run.dense_lr, embedding_lr=run.embedding_lr, hyperparameter=run.hyperparameter,
        seed=run.seed, rule=run.rule, epochs=run.epochs,
    )  # fmt: skip
    return model, optimizer, every_epoch


def _ends(held_out: Log) -> list[dict]:
    """The best constant's logloss on the held-out day and, where the truth is known, the best."""
    if held_out.p_true is not None:
        ends = bayes_optimum(held_out)
    else:
        rate = held_out.labels.double().mean(dim=0).tolist()
        ends = pd.DataFrame({"positive_rate": rate, "constant_logloss": map(entropy, rate)},
                            index=held_out.objectives)  # fmt: skip
    return [{"objective": objective, "metric": metric, "value": value}
            for objective, row in ends.iterrows() for metric, value in row.items()]  # fmt: skip


def _bytes(model: ConversionModel, optimizer: SparseOptimizer, every_epoch: EveryEpoch) -> list[dict]:
    """Memory of the tables, of what their optimizer keeps, and of what is kept for going back."""
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
    """Every run's rows, in the order given. Finished runs are kept in `store` and not run again.

    On a CPU `profile.workers` processes share the runs, one thread each; on a GPU one after the
    other. One line a run says how far it is and about how long the rest takes.
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
    """Processes that share the runs: one on a GPU."""
    return profile.workers if device == "cpu" else 1


def _keep(profile: Profile, device: str, run: Run, path: Path) -> None:
    execute(run, profile, device).to_parquet(path, compression="zstd")


def default_store(profile: Profile) -> Path:
    """MULTIEPOCH_RUNS, or `runs/` where the command is called, by profile."""
    return Path(os.environ.get("MULTIEPOCH_RUNS", "runs")) / profile.name


def over_seeds(seeds: Sequence[int], runs: Sequence[Run]) -> list[Run]:
    """The same runs for each seed."""
    return [replace(run, seed=seed) for seed in seeds for run in runs]

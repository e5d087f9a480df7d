"""One training run as data, and many of them: spread over processes, kept as they finish, resumed.

A `Run` holds everything that its result depends on; its key names the file that keeps the result.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache, partial
from multiprocessing import get_context
from pathlib import Path

import pandas as pd
import torch

from multiepoch.data import Log
from multiepoch.experiments import interventions
from multiepoch.experiments.methods import METHODS, Knob
from multiepoch.experiments.profiles import Profile
from multiepoch.metrics import bayes_optimum
from multiepoch.model import ConversionModel
from multiepoch.train import frequency_groups, train

COLUMNS = ["profile", "device", "seed", "method", "setting", "epoch", "samples", "group",
           "objective", "metric", "value"]  # fmt: skip

# A change in one of these makes kept results stale. The rest of the package does not touch a run.
_CODE = ("data", "model.py", "train.py", "evaluation.py", "metrics.py", "optim", "rewind.py",
         "regularize.py", "experiments/methods.py", "experiments/interventions.py",
         "experiments/runs.py")  # fmt: skip


@dataclass(frozen=True)
class Run:
    """One model trained once. Everything a result depends on, beside the profile, is here.

    method: a key of METHODS; knob: its own setting; dense_lr, embedding_lr: the two rates.
    setting: what tells this run from others of the same method, as figures call it.
    scale, drift, churn: changes of the world (see Profile.world).
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
    knob: Knob = None
    setting: str = ""
    passes: int = 1
    rule: str = "adam"
    scale: float = 1.0
    world: dict = field(default_factory=dict)
    intervention: str = ""
    keep_positives: float = 1.0
    objectives: tuple[str, ...] = ()
    evaluate_at: tuple[float, ...] = (0.25, 0.5, 1.0)
    on: str = "test"
    group_by: str = ""

    def key(self, profile: Profile, device: str) -> str:
        sizes = {k: v for k, v in asdict(profile).items()
                 if k not in ("name", "seeds", "tuning_seeds", "passes", "workers")}  # fmt: skip
        text = json.dumps([asdict(self), sizes, device, code_hash(), torch.__version__])
        return hashlib.sha256(text.encode()).hexdigest()[:20]


@lru_cache(maxsize=1)
def code_hash() -> str:
    """A hash of the modules that a run's numbers depend on."""
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for name in _CODE:
        path = root / name
        files = sorted(path.rglob("*.py")) if path.is_dir() else [path] if path.exists() else []
        for file in files:
            digest.update(str(file.relative_to(root)).encode() + file.read_bytes())
    return digest.hexdigest()


@lru_cache(maxsize=2)
def _window(profile: Profile, seed: int, scale: float, world: str) -> tuple[Log, Log, Log]:
    return profile.split(profile.world(seed, scale, **json.loads(world)))


def execute(run: Run, profile: Profile, device: str = "cpu") -> pd.DataFrame:
    """Trains one model and returns its test points as rows of COLUMNS."""
    world = json.dumps(run.world, sort_keys=True)
    window, validation, test = _window(profile, run.seed, run.scale, world)
    log, held_out = window, {"test": test, "validation": validation}[run.on]
    if run.objectives or run.keep_positives < 1:
        log, held_out = (
            interventions.thin(one, run.objectives or one.objectives, run.keep_positives, run.seed)
            for one in (log, held_out)
        )
    log, held_out = log.to(device), held_out.to(device)

    torch.manual_seed(run.seed)
    model = ConversionModel(log.schema).to(device)
    optimizer, every_pass = METHODS[run.method].build(
        model, dense_lr=run.dense_lr, embedding_lr=run.embedding_lr, knob=run.knob,
        seed=run.seed, rule=run.rule,
    )  # fmt: skip
    data = log
    if run.intervention:
        make = interventions.INTERVENTIONS[run.intervention]
        data, every_pass = make(model, every_pass, log, profile, run)
    groups = partial(frequency_groups, column=run.group_by) if run.group_by else None

    started = time.perf_counter()
    rows = train(
        model, optimizer, data, epochs=run.passes, batch_size=profile.batch_size, seed=run.seed,
        evaluate=held_out, evaluate_at=run.evaluate_at, groups=groups, between_passes=every_pass,
        progress=None,
    )  # fmt: skip
    seconds = time.perf_counter() - started
    rows = rows[rows["split"] == "test"]  # what train calls the held-out day, whichever it is
    rows = pd.concat([rows, _extra(rows, held_out, seconds)], ignore_index=True)
    rows = rows.assign(profile=profile.name, device=_device_name(device), seed=run.seed,
                       method=run.method, setting=run.setting)  # fmt: skip
    return rows[COLUMNS]


def _extra(rows: pd.DataFrame, held_out: Log, seconds: float) -> pd.DataFrame:
    """What belongs to the run as a whole: the Bayes optimum, the best constant, the time."""
    extra = [
        {"objective": objective, "metric": metric, "value": value}
        for objective, ends in bayes_optimum(held_out).iterrows()
        for metric, value in ends.items()
    ]
    extra.append({"objective": "", "metric": "seconds", "value": seconds})
    last = {"epoch": rows["epoch"].max(), "samples": rows["samples"].max(), "group": "all"}
    return pd.DataFrame([last | one for one in extra])


def _device_name(device: str) -> str:
    return torch.cuda.get_device_name(device) if str(device).startswith("cuda") else "cpu"


def resolve(device: str) -> str:
    """Device "auto" is the GPU where there is one. ValueError where one is asked for in vain."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(
            f"device {device!r} was asked for, but torch sees no GPU; use cpu or auto."
        )
    return device


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
    device = resolve(device)
    store = store or default_store(profile)
    store.mkdir(parents=True, exist_ok=True)
    paths = [store / f"{run.key(profile, device)}.parquet" for run in runs]
    todo = [(run, path) for run, path in dict(zip(paths, zip(runs, paths))).values()
            if not path.exists()]  # fmt: skip
    if len(todo) < len(runs):
        log(f"{len(runs) - len(todo)} of {len(runs)} runs are kept from before")

    started = time.perf_counter()
    for done, (run, seconds) in enumerate(_finish(todo, profile, device), start=1):
        left = (time.perf_counter() - started) / done * (len(todo) - done)
        name = " ".join(filter(None, [run.method, run.setting, f"seed {run.seed}"]))
        log(f"[{done}/{len(todo)}] {name}: {seconds:.1f} s, about {_minutes(left)} left")
    tables = [pd.read_parquet(path) for path in paths]
    # A kept run may come from another profile of the same size, or carry another label.
    return pd.concat(
        [t.assign(profile=profile.name, method=run.method, setting=run.setting)
         for t, run in zip(tables, runs)], ignore_index=True,
    )  # fmt: skip


def _finish(todo, profile: Profile, device: str):
    """Yields (run, seconds) as each is written."""
    workers = min(profile.workers, len(todo), os.cpu_count() or 1)
    if device != "cpu" or workers <= 1:
        for run, path in todo:
            yield run, _keep(run, profile, device, path)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"),
                             initializer=torch.set_num_threads, initargs=(1,)) as pool:  # fmt: skip
        futures = {pool.submit(_keep, run, profile, device, path): run for run, path in todo}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _keep(run: Run, profile: Profile, device: str, path: Path) -> float:
    started = time.perf_counter()
    rows = execute(run, profile, device)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    rows.to_parquet(partial, compression="zstd")
    os.replace(partial, path)
    return time.perf_counter() - started


def default_store(profile: Profile) -> Path:
    """MULTIEPOCH_RUNS, or `runs/` where the command is called, by profile."""
    return Path(os.environ.get("MULTIEPOCH_RUNS", "runs")) / profile.name


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def over_seeds(seeds: Sequence[int], runs: Sequence[Run]) -> list[Run]:
    """The same runs for each seed."""
    return [replace(run, seed=seed) for seed in seeds for run in runs]

"""Trials: trained once each, spread over processes, kept as they finish."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from multiepoch.compare.plan import Split, Trial, prepared
from multiepoch.data.log import Log
from multiepoch.data.tabular import Columns, MappedLog
from multiepoch.evaluation import predict
from multiepoch.experiments.methods import METHODS
from multiepoch.experiments.runs import one_thread
from multiepoch.model import ConversionModel
from multiepoch.train import train

# Parts of the test day for the interval over impressions. Each has other values of the first id
# column (users, as a rule) with so many that no part holds more than LARGEST_BLOCK of the day, and
# other impressions where there is no such column.
BLOCKS, LARGEST_BLOCK = 20, 0.1
FREQUENCIES = (1, 3, 11, 101)  # edges of the groups of rows: never seen, 1-2, 3-10, 11-100, more
GROUPS = ("never", "1 to 2", "3 to 10", "11 to 100", "more than 100")
EVALUATE_AT = (0.25, 0.5, 1.0)


@dataclass(frozen=True)
class Job:
    """What all trials of one call share."""

    folder: str  # of the mapped log
    columns: Columns
    split: Split
    epochs: int
    batch_size: int

    def settings(self) -> dict:
        return json.loads(json.dumps(asdict(self)))


@dataclass
class Data:
    """The three parts, and how the test impressions fall into blocks and groups.

    block, group: (n_test,) int64; column: the id column of most rows, by whose row the groups are.
    """

    train: Log
    validation: Log
    test: Log
    block: Tensor
    group: Tensor
    column: str


@lru_cache(maxsize=1)
def data(job: Job) -> Data:
    mapped = MappedLog(Path(job.folder), job.columns)
    parts, scale = {}, None
    for part in ("train", "validation", "test"):
        parts[part], scale = prepared(job.split.read(mapped, part), scale)
    test = parts["test"]
    block = next(
        (block for block in (_blocks(test.ids[name]) for name in job.columns.ids)
         if torch.bincount(block, minlength=BLOCKS).max() <= len(test) * LARGEST_BLOCK),
        _blocks(torch.arange(len(test))),
    )  # fmt: skip
    cardinality = parts["train"].schema.cardinality
    column = max(cardinality, key=cardinality.get)
    return Data(**parts, block=block, column=column,
                group=frequency_group(parts["train"], test, column))  # fmt: skip


def _blocks(ids: Tensor) -> Tensor:
    """The block of each impression, (n,); those of one id share one."""
    return (ids * 2_654_435_761 >> 7) % BLOCKS


def frequency_group(train_log: Log, test: Log, column: str) -> Tensor:
    """For each test impression, which of GROUPS the training frequency of its row is in, (n,)."""
    counts = torch.bincount(train_log.ids[column], minlength=train_log.schema.cardinality[column])
    return torch.searchsorted(torch.tensor(FREQUENCIES), counts[test.ids[column]], right=True)


class _Watch:
    """train's `between_passes`: the method's own, and the test losses at the end of each pass."""

    def __init__(self, inner, model: ConversionModel, of: Data) -> None:
        self.inner, self.model, self.data = inner, model, of
        self.blocks: list[list] = []  # by pass: (n_objectives, BLOCKS) sums of losses
        self.groups: list[list] = []  # by pass: (n_objectives, len(GROUPS)) sums of losses

    def before_pass(self, index: int) -> None:
        if index > 0:
            self.look()
        self.inner.before_pass(index)

    def look(self) -> None:
        test = self.data.test
        loss = F.binary_cross_entropy_with_logits(
            predict(self.model, test), test.labels, reduction="none"
        ).double()  # (n_test, n_objectives)
        for sums, of, n in ((self.blocks, self.data.block, BLOCKS),
                            (self.groups, self.data.group, len(GROUPS))):  # fmt: skip
            total = torch.zeros(n, loss.shape[1], dtype=torch.float64).index_add_(0, of, loss)
            sums.append(total.T.tolist())

    def state_dict(self) -> dict:
        return self.inner.state_dict()

    def load_state_dict(self, state: dict) -> None:
        self.inner.load_state_dict(state)


def execute(trial: Trial, job: Job) -> dict:
    """Trains one model. Curves as (split, epoch, objective, metric, value), losses by block."""
    of = data(job)
    torch.manual_seed(trial.seed)
    model = ConversionModel(of.train.schema)
    optimizer, every_pass = METHODS[trial.method].build(
        model, dense_lr=trial.dense_lr, embedding_lr=trial.embedding_lr, knob=trial.knob,
        seed=trial.seed,
    )  # fmt: skip
    watch = _Watch(every_pass, model, of)
    started = time.process_time()  # of this process: what others do beside it does not count
    rows = train(
        model, optimizer, of.train, epochs=job.epochs, batch_size=job.batch_size, seed=trial.seed,
        evaluate={"validation": of.validation, "test": of.test}, evaluate_at=EVALUATE_AT,
        between_passes=watch, progress=None,
    )  # fmt: skip
    seconds = time.process_time() - started
    watch.look()
    state = sum(t.numel() * t.element_size() for t in _tensors(optimizer.embedding.state_dict()))
    tables = sum(p.numel() * p.element_size() for p in model.table_parameters().values())
    points = rows[rows["metric"].isin(["logloss", "auc"])]
    columns = ["split", "epoch", "objective", "metric", "value"]
    return {
        "trial": asdict(trial),
        "points": points[columns].values.tolist(),
        "blocks": watch.blocks,
        "groups": watch.groups,
        "seconds": seconds,
        "bytes": {"tables": tables, "row state": state},
    }


def _tensors(state):
    """Every tensor in nested dicts and lists."""
    if isinstance(state, Tensor):
        yield state
    elif isinstance(state, dict):
        for value in state.values():
            yield from _tensors(value)
    elif isinstance(state, list | tuple):
        for value in state:
            yield from _tensors(value)


# Many trials --------------------------------------------------------------------------------------


class Runner:
    """Runs trials in processes, one thread each; keeps every result in `store` at once."""

    def __init__(self, job: Job, store: Path, total: int, say: Callable[[str], None]) -> None:
        self.job, self.store, self.total, self.say = job, store, total, say
        store.mkdir(parents=True, exist_ok=True)
        self.settings = job.settings()
        self.done, self.ran, self.started = 0, 0, time.perf_counter()
        self.workers = min(os.cpu_count() or 1, total)
        self.pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Runner:
        return self

    def __exit__(self, kind, *_) -> None:
        if self.pool is not None:
            self.pool.shutdown(wait=kind is None, cancel_futures=True)
            if kind is not None:
                for process in multiprocessing.active_children():
                    process.terminate()

    def __call__(self, several: Sequence[Trial]) -> list[dict]:
        """The results in the order given; those kept from before are not run again."""
        paths = [self.store / f"{trial.key(self.settings)}.json" for trial in several]
        todo = [(t, path) for t, path in zip(several, paths) if not path.exists()]
        if kept := len(several) - len(todo):
            self.done += kept
            self.say(f"{kept} of {len(several)} trials are kept from before")
        for trial, seconds in self._finish(todo):
            self.done += 1
            self.ran += 1
            rest = self.total - self.done
            # What runs beside it is half done, on average.
            part = self.ran + min(self.workers - 1, rest) / 2
            left = (time.perf_counter() - self.started) / part * rest
            self.say(f"[{self.done}/{self.total}] {describe(trial)}: {seconds:.1f} s, "
                     f"about {_minutes(left)} left")  # fmt: skip
        return [json.loads(path.read_text()) for path in paths]

    def _finish(self, todo):
        if self.workers <= 1 or len(todo) <= 1:
            with one_thread():
                for trial, path in todo:
                    yield trial, _keep(trial, self.job, path)
            return
        if self.pool is None:
            self.pool = ProcessPoolExecutor(
                self.workers, mp_context=multiprocessing.get_context("spawn"), initializer=_quiet
            )
        futures = {self.pool.submit(_keep, trial, self.job, path): trial for trial, path in todo}
        for future in as_completed(futures):
            yield futures[future], future.result()


def _quiet() -> None:
    """A worker has one thread, leaves Ctrl-C to the process that started it, and ends with it."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


def _keep(trial: Trial, job: Job, path: Path) -> float:
    started = time.perf_counter()
    try:
        result = execute(trial, job)
    except RuntimeError as error:  # a rate so high that the loss is no longer finite
        if "not finite" not in str(error):
            raise
        result = {"trial": asdict(trial), "failed": str(error)}
    write(path, json.dumps(result))
    return time.perf_counter() - started


def write(path: Path, text: str) -> None:
    """A file that appears whole or not at all."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def describe(trial: Trial) -> str:
    knob = f", {METHODS[trial.method].knob} {trial.knob}" if trial.knob is not None else ""
    rates = f"{trial.dense_lr:.2g}"
    if trial.label != "plain":
        rates += f" and {trial.embedding_lr:.2g} for the tables"
    return f"{trial.label}, rate {rates}{knob}, seed {trial.seed}"


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def frequencies(of: Data) -> dict[str, list[float]]:
    """For each id column, the share of test impressions in each of GROUPS."""
    shares = {}
    for column in of.train.ids:
        group = frequency_group(of.train, of.test, column)
        shares[column] = (torch.bincount(group, minlength=len(GROUPS)) / len(group)).tolist()
    return shares


def block_sizes(of: Data) -> tuple[np.ndarray, np.ndarray]:
    """Test impressions in each block and in each group."""
    return (torch.bincount(of.block, minlength=BLOCKS).numpy(),
            torch.bincount(of.group, minlength=len(GROUPS)).numpy())  # fmt: skip

"""Trials: trained once each, spread over processes, kept as they finish."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from multiepoch.data.log import Log
from multiepoch.methods import METHODS
from multiepoch.model import ConversionModel
from multiepoch.runner import KeptRunner
from multiepoch.train import train
from multiepoch.train.evaluation import predict
from multiepoch_compare.plan import Split, Trial, prepared
from multiepoch_compare.readers.tabular import Columns, MappedLog

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
    """train's `between_epochs`: the method's own, and the test losses at the end of each epoch."""

    def __init__(self, inner, model: ConversionModel, of: Data) -> None:
        self.inner, self.model, self.data = inner, model, of
        self.blocks: list[list] = []  # by epoch: (n_objectives, BLOCKS) sums of losses
        self.groups: list[list] = []  # by epoch: (n_objectives, len(GROUPS)) sums of losses

    def before_epoch(self, index: int) -> None:
        if index > 0:
            self.look()
        self.inner.before_epoch(index)

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
    optimizer, every_epoch = METHODS[trial.method].build(
        model, dense_lr=trial.dense_lr, embedding_lr=trial.embedding_lr, hyperparameter=trial.hyperparameter,
        seed=trial.seed,
    )  # fmt: skip
    watch = _Watch(every_epoch, model, of)
    started = time.process_time()  # of this process: what others do beside it does not count
    rows = train(
        model, optimizer, of.train, epochs=job.epochs, batch_size=job.batch_size, seed=trial.seed,
        evaluate={"validation": of.validation, "test": of.test}, evaluate_at=EVALUATE_AT,
        between_epochs=watch, progress=None,
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


class TrialRunner:
    """Runs trials in processes, one thread each; keeps every result in `store` at once."""

    def __init__(self, job: Job, store: Path, total: int, say: Callable[[str], None]) -> None:
        self.store, self.settings = store, job.settings()
        workers = min(os.cpu_count() or 1, total)
        self.runner = KeptRunner(partial(_keep, job), workers, describe, say, total)

    def __enter__(self) -> TrialRunner:
        self.runner.__enter__()
        return self

    def __exit__(self, *error) -> None:
        self.runner.__exit__(*error)

    def __call__(self, trials: Sequence[Trial]) -> list[dict]:
        """The results in the order given; those kept from before are not run again."""
        paths = [self.store / f"{trial.key(self.settings)}.json" for trial in trials]
        self.runner(trials, paths)
        return [json.loads(path.read_text()) for path in paths]


def _keep(job: Job, trial: Trial, path: Path) -> None:
    try:
        result = execute(trial, job)
    except RuntimeError as error:  # a rate so high that the loss is no longer finite
        if "not finite" not in str(error):
            raise
        result = {"trial": asdict(trial), "failed": str(error)}
    path.write_text(json.dumps(result))


def describe(trial: Trial) -> str:
    hyperparameter = (
        f", {METHODS[trial.method].hyperparameter} {trial.hyperparameter}"
        if trial.hyperparameter is not None
        else ""
    )
    rates = f"{trial.dense_lr:.2g}"
    if trial.label != "plain":
        rates += f" and {trial.embedding_lr:.2g} for the tables"
    return f"{trial.label}, rate {rates}{hyperparameter}, seed {trial.seed}"


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

"""One trial of a comparison: the parts of the log, a model trained on them, and its losses."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from multiepoch.optim import lookup_gradients
from multiepoch_compare import plan
from multiepoch_compare.readers import Columns, MappedLog
from multiepoch_lab.data.log import Log, Schema
from multiepoch_lab.files import atomic_write
from multiepoch_lab.methods import METHODS, Around
from multiepoch_lab.model import AdditiveModel, ConversionModel
from multiepoch_lab.regime import Expected, expect
from multiepoch_lab.runner import one_thread
from multiepoch_lab.train import NonFiniteLoss, frequency_groups, predict, train
from multiepoch_lab.train.metrics import auc, entropy, logloss

# For the interval over impressions, a day is divided into blocks: by the first id column (users, as
# a rule) with so many values that no block holds more than LARGEST_BLOCK of the day, or by
# impression if there is no such column.
BLOCKS, LARGEST_BLOCK = 20, 0.1
FREQUENCIES = (1, 3, 11, 101)  # edges of GROUPS, in times that a row was trained on
GROUPS = ("never", "1 to 2", "3 to 10", "11 to 100", "more than 100")
EVALUATE_AT = (0.25, 0.5)  # and at the end of each epoch
_MEASURED = 200  # batches by which the gradient of a lookup is measured
WORSE = 1.05  # training stops where an epoch has raised the loss of the validation day so much


@dataclass(frozen=True)
class Setup:
    """The settings that all trials of one call share.

    `folder` is that of the mapped log; `shared`, the file by which processes share its parts.
    """

    folder: str
    columns: Columns
    split: plan.Split
    epochs: float
    batch_size: int
    shared: str | None = None


@dataclass
class Parts:
    """The three parts of the log, the blocks of two of them, and the group of each test lookup."""

    train: Log
    validation: Log
    test: Log
    tuning_block: Tensor  # (n_validation,) int64
    block: Tensor  # (n_test,) int64
    group: Tensor  # (n_test,) int64
    column: str  # the id column with the most rows; the groups are by its frequencies

    def half_width(self) -> float:
        """Returns about half the width of an interval, in %."""
        return plan.half_width(len(self.test), rates(self.test))

    def sizes(self) -> dict[str, np.ndarray]:
        """Counts the impressions of each block and of each group, as in a result."""
        return {
            name: torch.bincount(of, minlength=n).numpy()
            for name, (_, of, n) in self.sums().items()
        }

    def sums(self) -> dict[str, tuple[str, Tensor, int]]:
        """Returns which part each result of sums is of, its divisions, and how many there are."""
        return {
            "tuning_blocks": ("validation", self.tuning_block, BLOCKS),
            "blocks": ("test", self.block, BLOCKS),
            "groups": ("test", self.group, len(GROUPS)),
        }

    def constant(self) -> np.ndarray:
        """Sums the test losses of predicting the training rates, (n_objectives, BLOCKS)."""
        labels = self.test.labels.double()
        constant = torch.tensor(rates(self.train), dtype=torch.float64).expand_as(labels)
        loss = F.binary_cross_entropy(constant, labels, reduction="none")
        return np.array(summed(loss, self.block, BLOCKS))

    def below(self, threshold: float) -> tuple[float, float]:
        """Returns the share of trained rows that were looked up fewer times, and of lookups."""
        counts = torch.cat([torch.bincount(self.train.ids[name]) for name in self.train.ids])
        counts = counts[counts > 0]
        low = counts < threshold
        return float(low.double().mean()), float(counts[low].sum() / counts.sum())

    def expected(self, batch_size: int, lr: float) -> Expected:
        """Says what to expect of plain training's second epoch, by the id column that has most."""
        log = self.train
        counts = (torch.bincount(log.ids[name]).numpy() for name in log.ids)
        steps = math.ceil(len(log) / batch_size)
        several = [expect(each, steps, lr) for each in counts if each.any()]
        return max(several, key=lambda one: one.rise)

    def frequencies(self) -> dict[str, list[float]]:
        """Returns, for each id column, the share of test lookups in each of GROUPS."""
        logs = self.train, self.test
        groups = {name: frequency_groups(*logs, name, edges=FREQUENCIES) for name in self.train.ids}
        return {
            name: (torch.bincount(group, minlength=len(GROUPS)) / len(group)).tolist()
            for name, group in groups.items()
        }


@lru_cache(maxsize=2)
def read_parts(setup: Setup) -> Parts:
    """Reads the parts. The memory of `setup.shared`, which the first call writes, counts once."""
    if setup.shared is None:
        return _read_parts(setup)
    if not Path(setup.shared).exists():
        parts = _read_parts(setup)
        try:
            with atomic_write(setup.shared) as partial, partial.open("wb") as file:
                torch.save(parts, file)
        except RuntimeError as error:  # torch hides the reason
            raise error.__context__ or error from None
    with torch.serialization.safe_globals([Log, Schema, Parts]):
        return torch.load(setup.shared, mmap=True, weights_only=True)


def _read_parts(setup: Setup) -> Parts:
    mapped = MappedLog(Path(setup.folder), setup.columns)
    logs, scale = {}, None
    for part in plan.PARTS:
        logs[part], scale = plan.prepared(setup.split.read(mapped, part), scale)
    test, by = logs["test"], setup.columns.ids
    tuning_block, block = blocks(logs["validation"], by), blocks(test, by)
    column = max(test.ids, key=test.schema.cardinality.get)
    group = frequency_groups(logs["train"], test, column, edges=FREQUENCIES)
    return Parts(**logs, tuning_block=tuning_block, block=block, group=group, column=column)


def rates(log: Log) -> list[float]:
    """Returns the share of ones of each label."""
    return log.labels.double().mean(dim=0).tolist()


def summed(loss: Tensor, of: Tensor, n: int) -> list[list[float]]:
    """Sums losses, (n_rows, n_objectives), over each of n groups, to (n_objectives, n)."""
    total = torch.zeros(n, loss.shape[1], dtype=torch.float64)
    return total.index_add_(0, of, loss.double()).T.tolist()


def blocks(log: Log, columns: Sequence[str]) -> Tensor:
    """Assigns each impression to a block, by the first column that is fine enough, (n,)."""
    by_column = (_blocks(log.ids[name]) for name in columns)
    small = (b for b in by_column if torch.bincount(b).max() <= len(log) * LARGEST_BLOCK)
    return next(small, _blocks(torch.arange(len(log))))


def _blocks(ids: Tensor) -> Tensor:
    return (ids * 2_654_435_761 >> 7) % BLOCKS


class _Stopped(Exception):
    """Ends a training whose last epoch made it clearly worse."""


class _Measured(Around):
    """Measures the model within each epoch and at its end, before the method acts between epochs.

    Raises _Stopped if an epoch from the second on has made the validation day clearly worse.
    """

    def __init__(self, inner, model, parts: Parts, batch_size: int) -> None:
        super().__init__(inner)
        self.model, self.parts = model, parts
        self.of_ones = rates(parts.validation)
        n_steps = math.ceil(len(parts.train) / batch_size)
        self.stops = {max(1, round(at * n_steps)): at for at in EVALUATE_AT}
        self.epoch, self.step = 0, 0
        self.scores: list[float] = []  # on the validation day, by epoch
        self.points: list[list] = []  # as in the result of `execute`
        # By name and epoch: (n_objectives, n), as in `Parts.sums`.
        self.sums: dict[str, list[list]] = {name: [] for name in parts.sums()}

    def before_epoch(self, index: int) -> None:
        if index > 0:
            self.end(index)
            if index > 1 and self.scores[-1] > WORSE * min(self.scores):
                raise _Stopped
        self.epoch, self.step = index, 0
        super().before_epoch(index)

    def backward(self, impressions: Tensor, closure: Callable[[], Tensor]) -> Tensor:
        if self.step in self.stops:
            self.measure("test", self.epoch + self.stops[self.step], logloss, auc)
        self.step += 1
        return super().backward(impressions, closure)

    def end(self, epoch: float) -> None:
        """Measures the end of an epoch; of one that is not whole, the test logloss alone."""
        if epoch != int(epoch):
            self.measure("test", epoch, logloss)
            return
        if getattr(self.inner.inner, "average", False):
            self.inner.inner.end_epoch()  # takes the end into the mean
        losses = self.measure("validation", epoch, logloss)
        self.scores.append(float(np.mean([x / entropy(p) for x, p in zip(losses, self.of_ones)])))
        self.sum_up("validation")
        self.measure("test", epoch, logloss, auc)
        self.sum_up("test")

    def sum_up(self, part: str) -> None:
        """Adds up the losses that `measure` found last, over the blocks and groups of the part."""
        log = getattr(self.parts, part)
        loss = F.binary_cross_entropy_with_logits(self.logits, log.labels, reduction="none")
        for name, (its, of, n) in self.parts.sums().items():
            if its == part:
                self.sums[name].append(summed(loss, of, n))

    def measure(self, part: str, epoch: float, *metrics: Callable[..., float]) -> list[float]:
        log = getattr(self.parts, part)
        with self.serving():
            self.logits = predict(self.model, log)
        if not torch.isfinite(self.logits).all():
            raise NonFiniteLoss(f"a logit on {part!r} is not finite")
        found = []
        for metric in metrics:
            for logits, labels, objective in zip(self.logits.T, log.labels.T, log.objectives):
                found.append(metric(logits, labels))
                self.points.append([part, float(epoch), objective, metric.__name__, found[-1]])
        return found


def execute(trial: plan.Trial, setup: Setup) -> dict:
    """Trains one model and returns its result as JSON values.

    "points" are the curves as (split, epoch, objective, metric, value); "tuning_blocks", "blocks"
    and "groups" are losses summed after each epoch, as `Parts.sums` says; "seconds" are of CPU
    time.
    """
    parts = read_parts(setup)
    if trial.model == plan.DROPPED:
        logs = {part: getattr(parts, part).without(parts.column) for part in plan.PARTS}
        parts = replace(parts, **logs)
    torch.manual_seed(trial.seed)
    if trial.model == plan.ADDITIVE:
        model: ConversionModel | AdditiveModel = AdditiveModel(parts.train.schema)
        model.start_at_(torch.tensor(rates(parts.train)))
    else:
        model = ConversionModel(parts.train.schema)
    settings = asdict(trial)
    del settings["label"], settings["model"], settings["average"]
    optimizer, every_epoch = METHODS[settings.pop("method")].build(model, **settings)
    if trial.average:
        every_epoch.inner.average = True
    measured = _Measured(every_epoch, model, parts, setup.batch_size)
    started = time.process_time()  # unaffected by other processes
    try:
        train(
            model,
            optimizer,
            parts.train,
            epochs=setup.epochs,
            batch_size=setup.batch_size,
            seed=trial.seed,
            evaluate_epochs=(),
            between_epochs=measured,
            progress=None,
        )
        measured.end(setup.epochs)
    except _Stopped:
        pass
    seconds = time.process_time() - started
    state = optimizer.embedding.state_dict()
    return {
        "points": measured.points,
        **measured.sums,
        "seconds": seconds,
        "bytes": {"tables": _n_bytes(model.table_parameters()), "row state": _n_bytes(state)},
    }


def small_eps(setup: Setup) -> float:
    """Returns an epsilon of row-wise Adagrad that makes a row's first step small.

    It is the root of sixteen times the median squared gradient of a lookup.
    """
    parts = read_parts(setup)
    with one_thread(), torch.random.fork_rng(devices=[]), redirect_stdout(None):
        torch.manual_seed(0)
        model = ConversionModel(parts.train.schema)
        rates_of = {"dense_lr": plan.DENSE_LR, "embedding_lr": plan.DENSE_LR}
        optimizer, _ = METHODS["plain"].build(model, **rates_of)

        def losses() -> Iterator[Tensor]:
            for rows in torch.randperm(len(parts.train)).split(setup.batch_size)[:_MEASURED]:
                ids = {name: column[rows] for name, column in parts.train.ids.items()}
                logits = model(ids, parts.train.dense[rows])
                yield model.losses(logits, parts.train.labels[rows]).sum()
                optimizer.step()

        found = lookup_gradients(model, losses())
    return math.sqrt(max(16 * float(np.median([*found.values()])), 1e-16))


def _n_bytes(state) -> int:
    """Adds up the tensors in nested dicts and lists."""
    if isinstance(state, dict):
        state = list(state.values())
    if isinstance(state, list | tuple):
        return sum(map(_n_bytes, state))
    return state.nbytes if isinstance(state, Tensor) else 0

"""The runs of a comparison: the parts of the log, models trained on them, and their losses."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from multiepoch.optim import lookup_gradients
from multiepoch.remedies import Rewind
from multiepoch_compare import plan
from multiepoch_compare.outlook import BLOCKS, block_of
from multiepoch_compare.plan import Trial
from multiepoch_compare.readers import WholeLog
from multiepoch_lab.data.log import Log, Schema
from multiepoch_lab.files import atomic_write
from multiepoch_lab.methods import METHODS, EveryEpoch
from multiepoch_lab.model import AdditiveModel, ConversionModel
from multiepoch_lab.runner import one_thread
from multiepoch_lab.train import NonFiniteLoss, predict
from multiepoch_lab.train.metrics import auc, entropy

EVALUATE_AT = (0.25, 0.5)  # and at the end of each epoch
SECOND = 1_000_003  # is added to the seed of the second model of a pair
_MEASURED = 200  # batches by which the gradient of a lookup is measured
WORSE = 1.05  # training stops where an epoch has raised the loss of the tuning days so much


@dataclass(frozen=True)
class Setup:
    """The settings that all trials of one call share.

    `log` is a hash of its files and columns; `shared`, the file by which processes share its parts.
    """

    log: str
    split: plan.Split
    batch_size: int
    shared: str


@dataclass
class Parts:
    """The three parts of the log, and the blocks of two of them."""

    train: Log
    validation: Log
    test: Log
    tuning_block: Tensor  # (n_validation,) int64
    block: Tensor  # (n_test,) int64
    column: str  # the id column with the most rows

    def sizes(self) -> dict[str, np.ndarray]:
        """Counts the impressions of each block, as in a result."""
        named = {"tuning_blocks": self.tuning_block, "blocks": self.block}
        return {name: torch.bincount(of, minlength=BLOCKS).numpy() for name, of in named.items()}

    def constant(self) -> np.ndarray:
        """Sums the test losses of predicting the training rates, (n_objectives, BLOCKS)."""
        labels = self.test.labels.double()
        constant = torch.tensor(rates(self.train), dtype=torch.float64).expand_as(labels)
        loss = F.binary_cross_entropy(constant, labels, reduction="none")
        return np.array(_summed(loss, self.block))

    def unseen(self) -> dict[str, list[float]]:
        """Returns, by id column, which shares of test lookups were never, or rarely, trained on."""
        found = {}
        for name, size in self.train.schema.cardinality.items():
            counts = torch.bincount(self.train.ids[name], minlength=size)[self.test.ids[name]]
            each = counts == 0, (counts > 0) & (counts < 3)
            found[name] = [float(one.double().mean()) for one in each]
        return found


def make_parts(log: WholeLog, split: plan.Split) -> Parts:
    """Reads the parts; dense features are scaled by the training days."""
    logs, scale = {}, None
    for part in plan.PARTS:
        logs[part], scale = plan.prepared(log.read(split.rows(log, part)), scale)
    tuning, test = (
        torch.from_numpy(block_of([one.ids[name].numpy() for name in log.columns.ids], len(one)))
        for one in (logs["validation"], logs["test"])
    )
    schema = logs["test"].schema
    column = max(schema.cardinality, key=lambda name: schema.cardinality[name])
    return Parts(**logs, tuning_block=tuning, block=test, column=column)


def share_parts(parts: Parts, path: Path) -> None:
    """Writes the parts for all processes, whose memory of them counts once."""
    try:
        with atomic_write(path) as partial, partial.open("wb") as file:
            torch.save(parts, file)
    except RuntimeError as error:  # torch hides the reason
        raise error.__context__ or error from None


@lru_cache(maxsize=1)
def read_parts(path: str) -> Parts:
    with torch.serialization.safe_globals([Log, Schema, Parts]):
        return torch.load(path, mmap=True, weights_only=True)


def rates(log: Log) -> list[float]:
    """Returns the share of ones of each label."""
    return log.labels.double().mean(dim=0).tolist()


def _summed(loss: Tensor, block: Tensor) -> list[list[float]]:
    """Sums losses, (n_rows, n_objectives), over each block, to (n_objectives, BLOCKS)."""
    total = torch.zeros(BLOCKS, loss.shape[1], dtype=torch.float64)
    return total.index_add_(0, block, loss.double()).T.tolist()


class _Result:
    """What is measured of one trial, as JSON values.

    "points" are curves as (part, epoch, objective, metric, value); "blocks" and "tuning_blocks" are
    losses summed after each epoch over the blocks of the test and of the tuning days.
    """

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.points: list[list] = []
        self.sums: dict[str, list] = {"tuning_blocks": [], "blocks": []}
        self.scores: list[float] = []  # on the tuning days, by epoch

    def add(self, epoch: float, logits: dict[str, Tensor]) -> None:
        """Adds what was predicted, (n, n_objectives) by part; both parts at the end of an epoch."""
        for part, its in logits.items():
            log = getattr(self.parts, part)
            if not torch.isfinite(its).all():
                raise NonFiniteLoss(f"a logit on {part!r} is not finite")
            loss = F.binary_cross_entropy_with_logits(its, log.labels, reduction="none")
            means = loss.double().mean(dim=0).tolist()
            found = {"logloss": means}
            if part == "test":
                found["auc"] = [auc(z, y) for z, y in zip(its.T, log.labels.T)]
            for metric, values in found.items():
                named = zip(log.objectives, values)
                self.points += [[part, float(epoch), name, metric, value] for name, value in named]
            if len(logits) == 2:
                name = "blocks" if part == "test" else "tuning_blocks"
                self.sums[name].append(_summed(loss, getattr(self.parts, name.rstrip("s"))))
            if part == "validation":
                of_ones = rates(log)
                self.scores.append(float(np.mean([x / entropy(p) for x, p in zip(means, of_ones)])))

    @property
    def is_worse(self) -> bool:
        """Tells if the last epoch made the tuning days clearly worse."""
        return self.scores[-1] > WORSE * min(self.scores)


class Model:
    """A model with its optimizer and its remedy, if any, which is trained epoch by epoch."""

    def __init__(self, trial: Trial, parts: Parts, batch_size: int) -> None:
        self.parts, self.batch_size, self.seed = parts, batch_size, trial.seed
        torch.manual_seed(trial.seed)
        schema = parts.train.schema
        if trial.model == plan.ADDITIVE:
            self.model: Any = AdditiveModel(schema)
            self.model.start_at_(torch.tensor(rates(parts.train)))
        else:
            self.model = ConversionModel(schema)
        names = "dense_lr", "embedding_lr", "rule", "eps", "hyperparameter", "seed"
        settings = {name: getattr(trial, name) for name in names}
        self.optimizer, self.every_epoch = METHODS[trial.method].build(self.model, **settings)
        self.parameters = list(self.model.parameters())  # zero_grad looks for them in each call
        self.seconds = 0.0

    def attach(self, trial: Trial) -> Rewind:
        """Lets the reset of a trial follow the first epoch, and returns it."""
        below = math.inf if trial.method == "meda" else float(trial.hyperparameter)
        return Rewind(self.model, self.optimizer, below, seed=trial.seed, average=True)

    def epoch(self, index: int, result: _Result | None = None) -> None:
        """Trains for an epoch, counted from 0, and measures within it."""
        train = self.parts.train
        entropy_of = np.random.SeedSequence((self.seed, 0, index))
        generator = torch.Generator().manual_seed(int(entropy_of.generate_state(1, np.uint64)[0]))
        steps = torch.randperm(len(train), generator=generator).split(self.batch_size)
        stops = {max(1, round(at * len(steps))): at for at in EVALUATE_AT}
        started = time.process_time()  # unaffected by other processes
        self.every_epoch.before_epoch(index)
        for step, rows in enumerate(steps):
            if step in stops and result is not None:
                result.add(index + stops[step], {"test": self.predict("test")})
            losses = self.every_epoch.backward(rows, lambda rows=rows: self._losses(rows))
            if not math.isfinite(losses.sum().item()):
                raise NonFiniteLoss("the loss is not finite")
            self.optimizer.step()
        self.seconds += time.process_time() - started

    def _losses(self, rows: Tensor) -> Tensor:
        train = self.parts.train
        for parameter in self.parameters:
            parameter.grad = None
        logits = self.model({k: ids[rows] for k, ids in train.ids.items()}, train.dense[rows])
        losses = self.model.losses(logits, train.labels[rows])
        losses.sum().backward()
        return losses.detach()

    def predict(self, part: str) -> Tensor:
        return predict(self.model, getattr(self.parts, part))

    def at_end(self) -> dict[str, Tensor]:
        return {part: self.predict(part) for part in ("validation", "test")}

    def n_bytes(self) -> dict[str, int]:
        state = self.optimizer.embedding.state_dict()
        return {"tables": _n_bytes(self.model.table_parameters()), "row state": _n_bytes(state)}


def execute(trials: Sequence[Trial], setup: Setup) -> list[dict]:
    """Trains what several trials of one first epoch need, and returns the result of each.

    That epoch is trained once. What goes on from it is trained on a copy, once for all trials that
    differ only in what they serve.
    """
    parts, first = read_parts(setup.shared), trials[0]
    if first.model == plan.DROPPED:
        logs = {part: getattr(parts, part).without(parts.column) for part in plan.PARTS}
        parts = replace(parts, **logs)
    results = {trial: _Result(parts) for trial in trials}
    diverged: set[Trial] = set()
    trunk = Model(first.first_epoch, parts, setup.batch_size)
    going_on = {trial.training: trial for trial in trials if trial.epochs > 1}
    resets = {
        training: trunk.attach(training)
        for training in going_on
        if training != training.first_epoch
    }
    for reset in resets.values():
        reset.before_epoch(0)  # counts lookups
    try:
        begun = _Result(parts)
        trunk.epoch(0, begun)
        ended = trunk.at_end()
        begun.add(1, ended)
    except NonFiniteLoss:
        return [{"status": "diverged"} for _ in trials]
    for result in results.values():
        result.points, result.scores = [*begun.points], [*begun.scores]
        result.sums = {name: [*sums] for name, sums in begun.sums.items()}
    seconds = dict.fromkeys(trials, trunk.seconds)
    n_bytes = dict.fromkeys(trials, trunk.n_bytes())
    for trial in trials:
        if trial.serve == "pair":
            second = Model(
                replace(first.first_epoch, seed=first.seed + SECOND), parts, setup.batch_size
            )
            try:
                second.epoch(0)
                pair = {part: _mean_of(ended[part], z) for part, z in second.at_end().items()}
                results[trial] = _Result(parts)
                results[trial].add(1, pair)
            except NonFiniteLoss:
                diverged.add(trial)
            seconds[trial] += second.seconds
        if trial.serve != "end":  # two models, or one and the mean of its ends
            n_bytes[trial] = {name: 2 * size for name, size in n_bytes[trial].items()}
    for k, training in enumerate(going_on):
        its = [one for one in trials if one.training == training and one.epochs > 1]
        branch, its_resets = trunk, resets
        if k < len(going_on) - 1:  # a copy shares the log
            branch, its_resets = copy.deepcopy((trunk, resets), {id(parts): parts})
        try:
            _go_on(branch, its_resets, training, {one: results[one] for one in its})
        except NonFiniteLoss:
            diverged.update(its)
        seconds |= dict.fromkeys(its, branch.seconds)
    return [
        {"status": "diverged"}
        if trial in diverged
        else {
            "status": "ok",
            "points": results[trial].points,
            **results[trial].sums,
            "seconds": seconds[trial],
            "bytes": n_bytes[trial],
        }
        for trial in trials
    ]


def _go_on(
    branch: Model, resets: dict[Trial, Rewind], training: Trial, results: dict[Trial, _Result]
) -> None:
    """Trains from the second epoch on; stops where an epoch has made all that is served worse."""
    for other, reset in resets.items():
        if other != training:
            reset.close()
    reset = resets.get(training)
    if reset is not None:
        branch.every_epoch = EveryEpoch(branch.optimizer, reset)
    trained = _Result(branch.parts)  # within an epoch, and of the ends
    for index in range(1, max(trial.epochs for trial in results)):
        within = len(trained.points)
        branch.epoch(index, trained)
        logits = branch.at_end()
        if reset is not None:
            reset.end_epoch()
        for trial, result in results.items():
            result.points += trained.points[within:]
            served = logits
            if trial.serve == "mean" and reset is not None:
                with reset.serving():
                    served = branch.at_end()
            result.add(index + 1, served)
        if all(result.is_worse for result in results.values()):
            return


def _mean_of(logits: Tensor, others: Tensor) -> Tensor:
    """Returns the logits of the mean of two predictions."""
    return torch.logit((logits.double().sigmoid() + others.double().sigmoid()) / 2).float()


def small_eps(setup: Setup) -> float:
    """Returns an epsilon of row-wise Adagrad that makes a row's first step small.

    It is the root of sixteen times the median squared gradient of a lookup.
    """
    parts = read_parts(setup.shared)
    with one_thread(), torch.random.fork_rng(devices=[]), redirect_stdout(None):
        start = Trial("", "plain", plan.DENSE_LR, plan.DENSE_LR)
        trained = Model(start, parts, setup.batch_size)

        def losses() -> Iterator[Tensor]:
            train = parts.train
            for rows in torch.randperm(len(train)).split(setup.batch_size)[:_MEASURED]:
                ids = {name: column[rows] for name, column in train.ids.items()}
                logits = trained.model(ids, train.dense[rows])
                yield trained.model.losses(logits, train.labels[rows]).sum()
                trained.optimizer.step()

        found = lookup_gradients(trained.model, losses())
    return math.sqrt(max(16 * float(np.median([*found.values()])), 1e-16))


def keys(trial: Trial, setup: Setup) -> dict:
    """Returns what a run depends on, as JSON values."""
    return asdict(trial) | asdict(replace(setup, shared=""))


def _n_bytes(state) -> int:
    """Adds up the tensors in nested dicts and lists."""
    if isinstance(state, dict):
        state = list(state.values())
    if isinstance(state, list | tuple):
        return sum(map(_n_bytes, state))
    return state.nbytes if isinstance(state, Tensor) else 0

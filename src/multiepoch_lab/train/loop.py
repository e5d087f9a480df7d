"""Training over a fixed window for several epochs, and day after day.

`train` and `train_days` differ only in the log of an epoch and in the logs it is evaluated on. The
order of the impressions in epoch k is a function of the seed, the same for every method, so that
methods can be compared pair by pair.
"""

import math
import time
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.optim import Optimizer

from multiepoch_lab.data.log import Log, Schema
from multiepoch_lab.methods import Around
from multiepoch_lab.model import ConversionModel
from multiepoch_lab.train.config import TrainConfig
from multiepoch_lab.train.evaluation import measure, predict

# Reading the loss makes a CUDA device wait, so there it is read only this often, in steps.
_CHECK_EVERY = 100


class NonFiniteLoss(RuntimeError):
    """Signals that a loss or a logit is infinite or NaN, most often from too high a rate."""


def train(
    model: ConversionModel,
    optimizer: Optimizer | Sequence[Optimizer],
    log: Log | Callable[[int], Log],
    *,
    evaluate: Log | dict[str, Log] | None = None,
    **options: Any,
) -> pd.DataFrame:
    """Trains for several epochs over a log and returns metrics measured on the way.

    Args:
        model: The model to train.
        optimizer: One optimizer, or several that are stepped in order.
        log: The impressions, or a function from the epoch (0, 1, ...) to them, if later epochs have
            other labels or fresh impressions.
        evaluate: One log, called "test" in the result, or several by name.
        options: The fields of `TrainConfig`; `epochs` is required.

    Returns:
        One row per number, with the columns

        - epoch: epochs done; 1.25 is a quarter into the second
        - samples: impressions trained on so far
        - split: the name of the evaluated log, or "running" for the batches trained on since the
          last evaluation, each scored before its step
        - group: "all", or the number of the group as a string
        - objective, metric, value: logloss, auc, normalized_entropy, calibration and, if the log
          has `p_true`, expected_logloss; without those undefined for labels of one class

    Raises:
        NonFiniteLoss: If the loss is no longer finite.
        ValueError: If an argument is out of range.
        TypeError: If an option is unknown.
    """
    config = TrainConfig(**options)
    splits = {"test": evaluate} if isinstance(evaluate, Log) else dict(evaluate or {})
    if "running" in splits:
        raise ValueError("evaluate has a log named 'running', the name of the training batches.")
    run = _Run(model, optimizer, config)
    splits = {name: split.to(run.device) for name, split in splits.items()}
    log = log.to(run.device) if isinstance(log, Log) else log

    def data(day: int, index: int) -> tuple[Log, dict[str, Log]]:
        return (log if isinstance(log, Log) else log(index).to(run.device)), splits

    return run([0], data).drop(columns="day")


def train_days(
    model: ConversionModel,
    optimizer: Optimizer | Sequence[Optimizer],
    day_log: Callable[[int], Log],
    days: Sequence[int],
    *,
    evaluate_on: Callable[[int], Log] | None = None,
    **options: Any,
) -> pd.DataFrame:
    """Trains day after day and evaluates on the next day, which is not yet seen.

    Args:
        model, optimizer: As in `train`.
        day_log: Returns the impressions of a day; called once for each of `days`, in order.
        days: In order; the last one is only evaluated on.
        evaluate_on: Returns the impressions of a day to evaluate on, if not all of `day_log`'s.
        options: The fields of `TrainConfig`; by default `epochs` is 1 and `evaluate_at` (1.0,).
            `before_epoch` is called with 0 for the first epoch over each day.

    Returns:
        As in `train`. `split` is "next_day" or "running", `epoch` counts the epochs over the
        current day, and a column `day` names the day trained on.

    Raises:
        ValueError: If there are fewer than 2 days; otherwise as in `train`.
    """
    defaults: dict[str, Any] = {"epochs": 1, "evaluate_at": (1.0,)}
    config = TrainConfig(**defaults | options)
    days = [int(day) for day in days]
    if len(days) < 2:
        raise ValueError(f"days is {days}; give at least 2, since the last is only evaluated on.")
    device = next(model.parameters()).device

    @lru_cache(maxsize=2)
    def load(position: int) -> Log:
        return day_log(days[position]).to(device)

    def data(position: int, index: int) -> tuple[Log, dict[str, Log]]:
        log, after = load(position), position + 1
        next_day = evaluate_on(days[after]).to(device) if evaluate_on else load(after)
        return log, {"next_day": next_day}

    return _Run(model, optimizer, config)(days[:-1], data)


class _Run:
    """One run: its parts, its position, and the measurements so far."""

    def __init__(self, model, optimizer, config: TrainConfig) -> None:
        self.model, self.config = model, config
        self.between_epochs = Around(config.between_epochs)
        self.parameters = list(model.parameters())  # model.zero_grad looks for them in each call
        self.optimizers = list(optimizer) if isinstance(optimizer, Sequence) else [optimizer]
        self.device = next(model.parameters()).device
        self.say = config.progress or (lambda line: None)
        self.said: set[str] = set()
        self.day, self.index, self.step, self.samples = 0, 0, 0, 0
        # Sum of losses, and number of impressions, since the last evaluation.
        n = len(model.schema.objectives)
        self.running = torch.zeros(n, dtype=torch.float64, device=self.device)
        self.n_running = 0
        self.history: list[tuple] = []

    def __call__(self, days: Sequence[int], data) -> pd.DataFrame:
        epochs = math.ceil(self.config.epochs)
        for self.day, self.name in enumerate(days):
            for self.index in range(epochs):
                self.title = f"day {self.name}, " * (len(days) > 1)
                self.title += f"epoch {self.index + 1} of {epochs}"
                self.one_epoch(*data(self.day, self.index))
        columns = ["day", "epoch", "samples", "split", "group", "objective", "metric", "value"]
        return pd.DataFrame(self.history, columns=columns)

    def one_epoch(self, log: Log, splits: dict[str, Log]) -> None:
        """Trains on the batches in the order that the seed gives."""
        for name, one in {"train": log, **splits}.items():
            _check_columns(f"{self.title}: log {name!r}", one, self.model.schema)
        if self.index == 0:
            self.between_epochs.new_data()
        self.between_epochs.before_epoch(self.index)
        self.model.train()
        self.log = log  # for `_check`
        self.latest: dict[str, list[float]] = {}  # logloss by split, for `_progress`
        order, batch_size = self._order(len(log)), self.config.batch_size
        n_steps = math.ceil(len(log) / batch_size)
        end = round(n_steps * min(1.0, self.config.epochs - self.index))
        fractions = self.config.evaluate_at if self.index in self.config.evaluated else ()
        stops: dict[int, list[float]] = {}  # the points after each step; a short epoch has few
        for at in fractions:
            stops.setdefault(max(1, round(at * n_steps)), []).append(self.index + at)
        before, self.step = self.samples, 0
        started = time.perf_counter()
        for step in range(end):
            self.one_step(log, order[step * batch_size : (step + 1) * batch_size])
            if step + 1 in stops:
                self._check_running()  # also makes a CUDA device finish what is being timed
                paused = time.perf_counter()
                self._evaluate(stops[step + 1], log, splits)
                started += time.perf_counter() - paused
        self._check_running()
        self.say(self._progress((self.samples - before) / (time.perf_counter() - started)))

    def one_step(self, log: Log, rows: Tensor) -> None:
        losses = self.between_epochs.backward(rows, partial(self.losses, log, rows))
        self.running += losses * len(rows)
        self.n_running += len(rows)
        if self.device.type == "cpu" or (self.step + 1) % _CHECK_EVERY == 0:
            self._check_running()
        for optimizer in self.optimizers:
            optimizer.step()
        self.step += 1
        self.samples += len(rows)

    def losses(self, log: Log, rows: Tensor) -> Tensor:
        """Computes the gradients of a batch; returns its losses, (n_objectives,)."""
        ids = {name: column[rows] for name, column in log.ids.items()}  # (batch,) each
        for parameter in self.parameters:
            parameter.grad = None
        logits = self.model(ids, log.dense[rows])  # (batch, n_objectives)
        losses = self.model.losses(logits, log.labels[rows])  # (n_objectives,)
        losses.sum().backward()
        return losses.detach()

    def _order(self, n: int) -> Tensor:
        """Shuffles the impressions of this epoch on the CPU, to be the same on every device."""
        entropy = np.random.SeedSequence((self.config.seed, self.day, self.index))
        generator = torch.Generator().manual_seed(int(entropy.generate_state(1, np.uint64)[0]))
        return torch.randperm(n, generator=generator).to(self.device)

    def _evaluate(self, epochs: Sequence[float], log: Log, splits: dict[str, Log]) -> None:
        """Measures the model as it is, once for all the points that fall on this step."""
        running = zip(log.objectives, self._running_losses())
        rows = {"running": [("all", objective, "logloss", loss) for objective, loss in running]}
        self.running.zero_()
        self.n_running = 0
        for split, other in splits.items():
            with self.between_epochs.serving():
                logits = predict(self.model, other)
            self._check(torch.isfinite(logits).all(dim=0), f"a logit on {split!r}")
            group = None if self.config.groups is None else self.config.groups(log, other)
            rows[split] = list(measure(logits, other, group, partial(self._say_once, split)))
        for split, measured in rows.items():
            self.history += [
                (self.name, epoch, self.samples, split, *row)
                for epoch in epochs
                for row in measured
            ]
            whole = [row for row in measured if row[0] == "all" and row[2] == "logloss"]
            self.latest[split] = [value for *_, value in whole]

    def _running_losses(self) -> list[float]:
        return (self.running / self.n_running).tolist()

    def _say_once(self, split: str, line: str) -> None:
        """Reports something once in a run, not at every evaluation."""
        if (line := f"{split}: {line}") not in self.said:
            self.said.add(line)
            self.say(line)

    def _progress(self, rate: float) -> str:
        if self.n_running:  # the epoch did not end with an evaluation
            self.latest["running"] = self._running_losses()
        line = f"{self.title}: {rate:,.0f} examples/s"
        for split, losses in self.latest.items():
            named = (f"{k} {loss:.4f}" for k, loss in zip(self.model.schema.objectives, losses))
            line += f"; {split} logloss {', '.join(named)}"
        return line

    def _check_running(self) -> None:
        """Stops the run if a loss since the last evaluation was not finite."""
        self._check(torch.isfinite(self.running), "the loss")

    def _check(self, finite: Tensor, what: str) -> None:
        """Stops the run if an objective is not finite, bool (n_objectives,), and says why."""
        if all(ok := finite.tolist()):
            return
        objective, found = self.model.schema.objectives[ok.index(False)], []
        for name, weight in self.model.table_parameters().items():
            bad = (~torch.isfinite(weight)).any(dim=1).nonzero()[:, 0]
            if len(bad):
                found.append(f"table {name!r} has {len(bad)} rows that are not, first {bad[0]}")
        for name, column in zip(self.log.schema.dense, self.log.dense.T):
            bad = (~torch.isfinite(column)).nonzero()[:, 0]
            if len(bad):
                found.append(f"dense feature {name!r} is not in impression {bad[0]}")
        delay = "" if self.device.type == "cpu" else f", or up to {_CHECK_EVERY} steps earlier"
        where = f"{self.title}, after {self.step} steps{delay}"
        others = "; ".join(found) or "every table and dense feature is"
        why = f"{what} of objective {objective!r} is not finite; {others}"
        raise NonFiniteLoss(f"{where}: {why}. Try a lower learning rate, or fix the features.")


def _check_columns(what: str, log: Log, schema: Schema) -> None:
    for kind, has, needs in [
        ("id columns", tuple(log.schema.cardinality), tuple(schema.cardinality)),
        ("dense features", log.schema.dense, schema.dense),
        ("objectives", log.objectives, schema.objectives),
    ]:
        if has != needs:
            raise ValueError(f"{what} has {kind} {has}; the model was built for {needs}.")
    if len(log) == 0:
        raise ValueError(f"{what} has no impression; it needs at least 1.")

"""Training over a fixed window for several epochs, and day after day.

`train` and `train_days` differ only in which log an epoch is over and what it is evaluated on; the
epoch itself is `_Run.one_epoch`. A run is a function of its seed: the order of the impressions in
epoch k is the same for every method, so that methods can be compared pair by pair.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.optim import Optimizer

from multiepoch.data.log import Log, Schema
from multiepoch.model import ConversionModel
from multiepoch.train import checkpoint as checkpoints
from multiepoch.train.evaluation import (
    evaluate,
    frequency_edges,
    frequency_groups,
    measure,
    predict,
)

__all__ = [
    "BetweenEpochs", "evaluate", "frequency_edges", "frequency_groups", "predict", "train",
    "train_days",
]  # fmt: skip

# A look at the loss makes a CUDA device wait, so there it is looked at only this often, in steps.
_LOOK_EVERY = 100


class BetweenEpochs(Protocol):
    """Something done before each epoch over the same data, such as redrawing the tables."""

    def before_epoch(self, index: int) -> None:
        """index: 0 before the first epoch over some data, k >= 1 before it is seen again."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


# From the log trained on and the log evaluated on: a group for each impression of the latter, (n,).
Groups = Callable[[Log, Log], Tensor]


def train(
    model: ConversionModel,
    optimizer: Optimizer | Sequence[Optimizer],
    log: Log | Callable[[int], Log],
    *,
    epochs: int,
    evaluate: Log | dict[str, Log] | None = None,
    evaluate_at: Sequence[float] = (0.25, 0.5, 1.0),
    groups: Groups | None = None,
    batch_size: int = 4096,
    seed: int = 0,
    loss_weights: dict[str, float] | None = None,
    between_epochs: BetweenEpochs | None = None,
    scheduler: Any = None,
    checkpoint: str | Path | None = None,
    checkpoint_seconds: float = 300.0,
    progress: Callable[[str], None] | None = print,
) -> pd.DataFrame:
    """Trains for `epochs` epochs over a log and says how good the model was on the way.

    log: the impressions, or a function from the epoch (0, 1, ...) to them, for a later epoch over
        other labels or fresh impressions.
    evaluate: one log, called "test" in the result, or several by name.
    evaluate_at: fractions of an epoch in (0, 1] after which to evaluate.
    groups: also evaluate within each group of impressions, e.g. `frequency_groups`.
    loss_weights: by objective; 1 where not named.
    between_epochs: its `before_epoch(k)` is called before epoch k.
    scheduler: a learning-rate scheduler, or several, stepped after every batch.
    checkpoint: a file to go on from where it exists, and to write to at the end of each epoch,
        on Ctrl-C, and every `checkpoint_seconds`. On the CPU a run that was stopped and goes on
        gives what the run would have given, bit for bit.
    progress: is given one line an epoch; None for silence.

    Returns one row for each number, with columns
        epoch: epochs done, 1.25 being a quarter into the second;
        samples: impressions trained on so far;
        split: the name of the log evaluated on, or "running" for the batches trained on since the
            last evaluation, each seen before the step on it;
        group: "all", or the number of the group as a string;
        objective, metric, value: metric is logloss, auc, normalized_entropy or calibration.
            What labels of one class leave undefined has no row, and `progress` is told so.
    Raises RuntimeError where the loss is no longer finite, ValueError where `checkpoint` is of
    another run, and KeyboardInterrupt on Ctrl-C, after the step at hand and a checkpoint.
    """
    splits = {"test": evaluate} if isinstance(evaluate, Log) else dict(evaluate or {})
    _check_at_least_one("epochs", epochs)
    if "running" in splits:
        raise ValueError("evaluate has a log named 'running'; that names the batches trained on.")
    run = _Run(
        model, optimizer, evaluate_at, groups, batch_size, seed, loss_weights, between_epochs,
        scheduler, checkpoint, checkpoint_seconds, progress,
        settings={
            "epochs": epochs,
            "data": None if checkpoint is None
            else checkpoints.describe_log(log(0) if callable(log) else log),
            "evaluate": {name: checkpoints.describe_log(split) for name, split in splits.items()},
        },
    )  # fmt: skip
    splits = {name: split.to(run.device) for name, split in splits.items()}
    fixed = None if callable(log) else log.to(run.device)

    def data(day: int, index: int) -> tuple[Log, dict[str, Log]]:
        return (log(index).to(run.device) if fixed is None else fixed), splits

    return run([0], epochs, data).drop(columns="day")


def train_days(
    model: ConversionModel,
    optimizer: Optimizer | Sequence[Optimizer],
    day_log: Callable[[int], Log],
    days: Sequence[int],
    *,
    epochs: int = 1,
    evaluate_on: Callable[[int], Log] | None = None,
    evaluate_at: Sequence[float] = (1.0,),
    evaluate_epochs: Sequence[int] | None = None,
    groups: Groups | None = None,
    batch_size: int = 4096,
    seed: int = 0,
    loss_weights: dict[str, float] | None = None,
    between_epochs: BetweenEpochs | None = None,
    scheduler: Any = None,
    checkpoint: str | Path | None = None,
    checkpoint_seconds: float = 300.0,
    progress: Callable[[str], None] | None = print,
) -> pd.DataFrame:
    """Trains day after day, always evaluating on the day that comes next and was not yet seen.

    day_log: the impressions of a day; asked for each of `days` once, in order. A run that goes on
        from a checkpoint also asks for the first, to see that it is the same data.
    days: in order; the last one is only evaluated on, never trained on.
    epochs: over each day before the next one comes; `before_epoch` is called with 0 for the first.
    evaluate_on: the impressions of a day to evaluate on, where not all of `day_log`'s.
    evaluate_at: fractions of each epoch in (0, 1].
    evaluate_epochs: the epochs over a day, counted from 0, in which to evaluate; None for all.

    Everything else, and what is returned and raised, as in `train`; `split` is "next_day" or
    "running", `epoch` counts the epochs over the day at hand, and a column `day` names the day
    trained on.
    """
    _check_at_least_one("epochs", epochs)
    days = [int(day) for day in days]
    if len(days) < 2:
        raise ValueError(f"days is {days}; give at least 2, the last to be evaluated on only.")
    evaluate_epochs = range(epochs) if evaluate_epochs is None else evaluate_epochs
    if not set(evaluate_epochs) <= set(range(epochs)):
        raise ValueError(
            f"evaluate_epochs is {list(evaluate_epochs)}; the {epochs} epochs over a day are "
            f"counted from 0 to {epochs - 1}."
        )
    device = next(model.parameters()).device

    @lru_cache(maxsize=2)
    def load(position: int) -> Log:
        return day_log(days[position]).to(device)

    run = _Run(
        model, optimizer, evaluate_at, groups, batch_size, seed, loss_weights, between_epochs,
        scheduler, checkpoint, checkpoint_seconds, progress,
        settings={
            "days": days, "epochs": epochs, "evaluate_epochs": sorted(evaluate_epochs),
            "data": None if checkpoint is None else checkpoints.describe_log(load(0)),
        },
    )  # fmt: skip

    def data(position: int, index: int) -> tuple[Log, dict[str, Log]]:
        if evaluate_on is None:
            return load(position), {"next_day": load(position + 1)}
        return load(position), {"next_day": evaluate_on(days[position + 1]).to(run.device)}

    return run(days[:-1], epochs, data, evaluate_epochs)


class _Run:
    """One run: what it trains, where it stands, and what it has measured so far."""

    def __init__(
        self, model, optimizer, evaluate_at, groups, batch_size, seed, loss_weights,
        between_epochs, scheduler, checkpoint, checkpoint_seconds, progress, settings,
    ) -> None:  # fmt: skip
        _check_at_least_one("batch_size", batch_size)
        if not all(0 < fraction <= 1 for fraction in evaluate_at):
            raise ValueError(f"evaluate_at is {evaluate_at}; give fractions in (0, 1].")
        objectives = model.schema.objectives
        weights = dict.fromkeys(objectives, 1.0) | (loss_weights or {})
        if len(weights) > len(objectives):
            raise ValueError(f"loss_weights names {list(weights)}; objectives are {objectives}.")
        self.model, self.groups, self.between_epochs = model, groups, between_epochs
        self.optimizers, self.schedulers = _as_list(optimizer), _as_list(scheduler)
        self.batch_size, self.seed, self.evaluate_at = batch_size, seed, tuple(evaluate_at)
        self.device = next(model.parameters()).device
        self.weights = torch.tensor(list(weights.values()), dtype=torch.float32, device=self.device)
        self.path = None if checkpoint is None else Path(checkpoint)
        self.checkpoint_seconds = checkpoint_seconds
        if self.path is not None:  # now, not after hours of training
            self.path.parent.mkdir(parents=True, exist_ok=True)
        self.say = progress or (lambda line: None)
        self.told: set[str] = set()
        self.settings = settings | {
            "seed": seed, "batch_size": batch_size, "evaluate_at": list(evaluate_at),
            "loss_weights": weights, "schema": repr(model.schema),
            "parameters": {name: list(p.shape) for name, p in model.named_parameters()},
            "optimizers": checkpoints.describe_optimizers(self.optimizers),
            "between_epochs": type(between_epochs).__name__,
        }  # fmt: skip

        # Where the run stands: the batches of (day, epoch) up to `step` are done.
        self.day, self.index, self.step, self.samples = 0, 0, 0, 0
        # Sum of losses, and number of impressions, since the last evaluation.
        self.running = torch.zeros(len(objectives), dtype=torch.float64, device=self.device)
        self.n_running = 0
        self.history: list[tuple] = []

    def __call__(self, days: Sequence[int], epochs: int, data, evaluate_epochs=None):
        self.evaluate_epochs = set(range(epochs) if evaluate_epochs is None else evaluate_epochs)
        self._resume()
        with checkpoints.interrupts_deferred() as self.interrupted:
            for day, name in enumerate(days):
                for index in range(epochs):
                    if (day, index) >= (self.day, self.index):
                        self.day, self.index, self.name = day, index, name
                        self.title = f"day {name}, " * (len(days) > 1)
                        self.title += f"epoch {index + 1} of {epochs}"
                        self.one_epoch(*data(day, index))
        columns = ["day", "epoch", "samples", "split", "group", "objective", "metric", "value"]
        return pd.DataFrame(self.history, columns=columns)

    def one_epoch(self, log: Log, splits: dict[str, Log]) -> None:
        """All batches of the log that are not done yet, in the order that the seed gives."""
        for name, one in {"train": log, **splits}.items():
            _check_columns(f"{self.title}: log {name!r}", one, self.model.schema)
        if self.step == 0 and self.between_epochs is not None:
            self.between_epochs.before_epoch(self.index)
        self.model.train()
        self.log = log  # for `_stop`
        self.latest: dict[str, list[float]] = {}  # logloss by split, for `_progress`
        order = self._order(len(log))
        n_steps = math.ceil(len(log) / self.batch_size)
        stops = {max(1, round(fraction * n_steps)): fraction for fraction in self.evaluate_at}
        if self.index not in self.evaluate_epochs:
            stops = {}
        seconds, n_timed = 0.0, 0
        self.saved_at = started = time.perf_counter()
        for step in range(self.step, n_steps):
            rows = order[step * self.batch_size : (step + 1) * self.batch_size]
            self.one_step(log, rows)
            n_timed += len(rows)
            if step + 1 in stops:
                self._check_running()  # also makes a CUDA device finish what is being timed
                seconds += time.perf_counter() - started
                self._evaluate(self.index + stops[step + 1], log, splits)
                started = time.perf_counter()
            if step + 1 < n_steps and self._save_is_due():
                self._check_running()
                seconds += time.perf_counter() - started
                self._save()
                started = time.perf_counter()
        self._check_running()
        seconds += time.perf_counter() - started
        self.say(self._progress(n_timed / seconds))
        self.index, self.step = self.index + 1, 0
        self._save()

    def one_step(self, log: Log, rows: Tensor) -> None:
        ids = {name: column[rows] for name, column in log.ids.items()}  # (batch,) each
        logits = self.model(ids, log.dense[rows])  # (batch, n_objectives)
        losses = self.model.losses(logits, log.labels[rows])  # (n_objectives,)
        self.running += losses.detach() * len(rows)
        self.n_running += len(rows)
        if self.device.type == "cpu" or (self.step + 1) % _LOOK_EVERY == 0:
            self._check_running()
        self.model.zero_grad()
        (self.weights * losses).sum().backward()
        for optimizer in self.optimizers:
            optimizer.step()
        for scheduler in self.schedulers:
            scheduler.step()
        self.step += 1
        self.samples += len(rows)

    def _order(self, n: int) -> Tensor:
        """The impressions of this epoch, shuffled on the CPU: the same on every device."""
        entropy = np.random.SeedSequence((self.seed, self.day, self.index))
        generator = torch.Generator().manual_seed(int(entropy.generate_state(1, np.uint64)[0]))
        return torch.randperm(n, generator=generator).to(self.device)

    def _evaluate(self, epoch: float, log: Log, splits: dict[str, Log]) -> None:
        running = zip(log.objectives, self._running_losses())
        rows = {"running": [("all", objective, "logloss", loss) for objective, loss in running]}
        self.running.zero_()
        self.n_running = 0
        for split, other in splits.items():
            logits = predict(self.model, other)
            finite = torch.isfinite(logits).all(dim=0).tolist()
            if not all(finite):
                self._stop(log.objectives[finite.index(False)], f"a logit on {split!r}")
            group = None if self.groups is None else self.groups(log, other)
            rows[split] = list(measure(logits, other, group, partial(self._tell, split)))
        for split, measured in rows.items():
            self.history += [(self.name, epoch, self.samples, split, *row) for row in measured]
            self.latest[split] = [value for group, _, metric, value in measured
                                  if group == "all" and metric == "logloss"]  # fmt: skip

    def _running_losses(self) -> list[float]:
        return (self.running / self.n_running).tolist()

    def _tell(self, split: str, line: str) -> None:
        """Once a run, not at every evaluation."""
        if (line := f"{split}: {line}") not in self.told:
            self.told.add(line)
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
        """Stops where a loss since the last evaluation was not finite."""
        finite = torch.isfinite(self.running).tolist()
        if not all(finite):
            self._stop(self.model.schema.objectives[finite.index(False)], "the loss")

    def _stop(self, objective: str, what: str) -> None:
        """Says where values are not finite. Only a lost run pays for the search."""
        found = []
        for name, weight in self.model.table_parameters().items():
            bad = (~torch.isfinite(weight)).any(dim=1).nonzero()[:, 0]
            if len(bad):
                found.append(f"table {name!r} has {len(bad)} rows that are not, first {bad[0]}")
        for name, column in zip(self.log.schema.dense, self.log.dense.T):
            bad = (~torch.isfinite(column)).nonzero()[:, 0]
            if len(bad):
                found.append(f"dense feature {name!r} is not in impression {bad[0]}")
        looked = "" if self.device.type == "cpu" else f", or up to {_LOOK_EVERY} steps earlier"
        raise RuntimeError(
            f"{self.title}, after {self.step} steps{looked}: {what} of objective {objective!r} is "
            f"not finite; {'; '.join(found) or 'every table and dense feature is'}. "
            "Try a lower learning rate, or mend the features."
        )

    def _save_is_due(self) -> bool:
        due = time.perf_counter() - self.saved_at >= self.checkpoint_seconds
        return self.interrupted.is_set() or (self.path is not None and due)

    def _save(self) -> None:
        """Writes the checkpoint if there is to be one, then ends the run if Ctrl-C was pressed."""
        if self.path is not None:
            parts = {name: part.state_dict() for name, part in self._parts().items()}
            checkpoints.save(self.path, parts | {
                "settings": self.settings,
                "position": [self.day, self.index, self.step, self.samples, self.n_running],
                "running": self.running,
                "history": self.history,
                "random": checkpoints.random_state(),
            })  # fmt: skip
            self.saved_at = time.perf_counter()
        if self.interrupted.is_set():
            raise KeyboardInterrupt(
                f"interrupted after {self.samples:,} impressions; "
                + (f"call again with checkpoint={str(self.path)!r} to go on from here."
                   if self.path else "nothing is saved: give checkpoint= to be able to go on.")
            )  # fmt: skip

    def _resume(self) -> None:
        content = self.path and checkpoints.load(self.path, self.settings)
        if not content:
            return
        for name, part in self._parts().items():
            part.load_state_dict(content[name])
        self.day, self.index, self.step, self.samples, self.n_running = content["position"]
        self.running.copy_(content["running"])
        self.history = content["history"]
        checkpoints.set_random_state(content["random"])
        self.say(f"Goes on from {self.path}, {self.samples:,} impressions done.")

    def _parts(self) -> dict[str, Any]:
        parts = {"model": self.model}
        parts |= {f"optimizer {k}": part for k, part in enumerate(self.optimizers)}
        parts |= {f"scheduler {k}": part for k, part in enumerate(self.schedulers)}
        if self.between_epochs is not None:
            parts["between epochs"] = self.between_epochs
        return parts


def _as_list(one_or_several: Any) -> list:
    if one_or_several is None:
        return []
    return list(one_or_several) if isinstance(one_or_several, Sequence) else [one_or_several]


def _check_columns(what: str, log: Log, schema: Schema) -> None:
    for kind, has, needs in [
        ("id columns", tuple(log.schema.cardinality), tuple(schema.cardinality)),
        ("dense features", log.schema.dense, schema.dense),
        ("objectives", log.objectives, schema.objectives),
    ]:
        if has != needs:
            raise ValueError(f"{what} has {kind} {has}, and the model was made for {needs}.")
    if len(log) == 0:
        raise ValueError(f"{what} has no impression; give it at least 1.")


def _check_at_least_one(name: str, value: int) -> None:
    if value < 1:
        raise ValueError(f"{name} is {value}; it must be at least 1.")

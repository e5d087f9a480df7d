"""Interventions on the second epoch that isolate the cause of the jump.

Each takes (model, every_epoch, log, profile, run) and returns the data, as a log or a function of
the epoch, and an object whose `before_epoch` the training loop calls.
"""

import math
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from multiepoch.optim.lookups import gradient_of
from multiepoch_lab.data import AdsWorld, Log
from multiepoch_lab.methods import Around

TAIL = 100  # a row with fewer impressions in the window counts as infrequent


def resample(log: Log, seed: int) -> Log:
    """Returns the same impressions with labels drawn anew from the true probabilities."""
    generator = torch.Generator().manual_seed(seed)
    # One draw for all labels of an impression, as the world does: p_true falls along the funnel.
    draw = torch.rand((len(log), 1), generator=generator).to(log.device)
    return log.with_labels((draw < log.p_true).to(log.labels))


# Share of conversions that have come, by days since the click: a third within the hour, half within
# a day, all but 13 % within two weeks (Chapelle, KDD 2014, on Criteo's traffic); none after thirty.
DELAY = {1 / 24: 0.35, 1.0: 0.50, 14.0: 0.87, 30.0: 1.0}


def visible(log: Log, seed: int, until: float | None = None) -> Log:
    """Returns the log with those labels that had come by a time; clicks come at once.

    Each impression's delay is drawn from DELAY, log-linear in between, and is that of all of its
    conversions. It is the same for one seed whatever the time.

    Args:
        log: Of AdsWorld, whose dense features have the hour.
        seed: Of the delays.
        until: In days since day 0 began; None for the end of each impression's own day.
    """
    sine, cosine = (log.dense[:, log.schema.dense.index(f"hour_{name}")] for name in ("sin", "cos"))
    part = torch.atan2(sine, cosine) / (2 * math.pi) % 1  # of the day
    waited = (1 - part) if until is None else until - log.day - part
    days, come = map(torch.tensor, zip((1e-3, 0.0), *DELAY.items()))
    generator = torch.Generator().manual_seed(seed)
    draw = torch.rand(len(log), generator=generator, dtype=torch.float64).to(log.device)
    at = torch.bucketize(draw, come[1:-1].to(draw), right=True)
    (low, high), logs = (come.to(draw)[at + k] for k in (0, 1)), days.to(draw).log()
    delay = (logs[at] + (draw - low) / (high - low) * (logs[at + 1] - logs[at])).exp()
    labels = log.labels * (delay <= waited)[:, None].to(log.labels)
    labels[:, 0] = log.labels[:, 0]
    return log.with_labels(labels)


class FromSecondEpoch(Around):
    """Calls `action` once, before the second epoch and after the method's own `before_epoch`."""

    def __init__(self, every_epoch, action) -> None:
        super().__init__(every_epoch)
        self.action = action

    def before_epoch(self, index: int) -> None:
        super().before_epoch(index)
        if index == 1:
            self.action()


def freeze(model, every_epoch, log, profile, run, tables: bool):
    """Freezes the tables, or else the dense layers, from the second epoch on."""

    def stop() -> None:
        for one in model.table_parameters().values() if tables else model.dense_parameters():
            one.requires_grad_(False)
            one.grad = None

    return log, FromSecondEpoch(every_epoch, stop)


def _freeze_rows(weight: Tensor, frozen: Tensor) -> None:
    """Removes frozen rows from the gradient, so that no optimizer touches them.

    Args:
        weight: Shape (rows, dim).
        frozen: bool, shape (rows,).
    """

    def keep_the_others(parameter: Tensor) -> None:
        rows, values = parameter.grad._indices(), parameter.grad._values()
        kept = ~frozen[rows[0]]
        parameter.grad = gradient_of(rows[:, kept], values[kept], parameter.shape)

    weight.register_post_accumulate_grad_hook(keep_the_others)


def freeze_rows(model, every_epoch, log, profile, run, infrequent: bool):
    """Freezes rows seen fewer than TAIL times in the window, or as a control the others."""

    def freeze() -> None:
        for name, weight in model.table_parameters().items():
            count = torch.bincount(log.ids[name], minlength=len(weight))
            _freeze_rows(weight, (count < TAIL) == infrequent)

    return log, FromSecondEpoch(every_epoch, freeze)


def resample_labels(model, every_epoch, log, profile, run):
    """Shows later epochs the same impressions with labels drawn anew, so that nothing leaks."""

    def data(index: int) -> Log:
        return resample(log, 1_000 * index + run.seed) if index else log

    return data, every_epoch


def late_labels(model, every_epoch, log, profile, run, first: float | None, then: float | None):
    """Shows labels as visible by one time in epoch 1, by another later.

    Times are as in `visible`, but counted from the end of the window.
    """

    def data(index: int) -> Log:
        past = then if index else first
        return visible(log, run.seed, None if past is None else profile.train_days + past)

    return data, every_epoch


def fresh_impressions(model, every_epoch, log, profile, run):
    """Shows later epochs other impressions of the same days: more data instead of more epochs."""
    world = profile.world(run.seed, **run.world)
    n = math.ceil(len(log) / profile.train_days)

    def data(index: int) -> Log:
        return more_of_each_day(world, log, profile.train_days, n * index, n) if index else log

    return data, every_epoch


def more_of_each_day(world: AdsWorld, log: Log, days: int, after: int, n: int) -> Log:
    """Returns n impressions of each day of a window, past the first `after` of the day."""
    more = Log.concat([world.day(day, after + n)[-n:] for day in range(days)])
    return replace(more, schema=log.schema).to(log.device)


INTERVENTIONS = {
    "dense layers frozen": partial(freeze, tables=False),
    "tables frozen": partial(freeze, tables=True),
    "infrequent rows frozen": partial(freeze_rows, infrequent=True),
    "frequent rows frozen": partial(freeze_rows, infrequent=False),
    "labels drawn anew": resample_labels,
    "fresh impressions": fresh_impressions,
}
# Of conversions that come late: never corrected, corrected a day after the window in epoch 2, and
# trained on a day late from the first epoch on.
DELAYS = {
    "labels as they came": partial(late_labels, first=None, then=None),
    "labels corrected": partial(late_labels, first=None, then=1.0),
    "labels awaited": partial(late_labels, first=1.0, then=1.0),
}

"""The registry of methods: the name, the construction and the hyperparameter of each remedy.

A new method is a class in `multiepoch.optim` or `multiepoch.remedies`, and one entry here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from multiepoch.optim import AdaptiveRegularization, FrequencyAdaptiveLR, SparseOptimizer
from multiepoch.remedies import (
    LeaveOneOutRows,
    Rewind,
    TableGroups,
    TwoFoldTables,
    meda,
    meda_groups,
    meda_restored,
    tail_rewind,
)

Hyperparameter = float | str | None
Remedy = Rewind | TableGroups | LeaveOneOutRows | TwoFoldTables

# The scales of chapter 6, as arguments of FrequencyAdaptiveLR.
FAL_SCALES: dict[str, dict] = {
    "log": {"scale": "log"},
    "linear": {"scale": "linear"},
    "square root": {"scale": "power", "exponent": 0.5},
    "threshold 20": {"scale": "threshold", "threshold": 20},
    "threshold 100": {"scale": "threshold", "threshold": 100},
    "log of steps": {"scale": "log", "count": "steps"},
    "log, gap decay 0.5": {"scale": "log", "gap_decay": 0.5},
}
# More values of their parameters, which no tuning tries.
FAL_VARIANTS = FAL_SCALES | {
    "threshold 5": {"scale": "threshold", "threshold": 5},
    "threshold 500": {"scale": "threshold", "threshold": 500},
    "log, gap decay 0.1": {"scale": "log", "gap_decay": 0.1},
    "log, gap decay 0.9": {"scale": "log", "gap_decay": 0.9},
}


def _adam(params: Iterable[nn.Parameter], lr: float) -> torch.optim.Adam:
    """Builds Adam, fused where every supported torch can: small batches train a tenth faster."""
    params = list(params)
    fused = all(p.device.type in ("cpu", "cuda") and p.is_floating_point() for p in params)
    return torch.optim.Adam(params, lr=lr, fused=fused or None)


DENSE_RULES: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": _adam,
    "adagrad": torch.optim.Adagrad,
    "sgd": torch.optim.SGD,
}


class EveryEpoch:
    """Announces each epoch to FAL and to the remedy: the `between_epochs` of `train`."""

    def __init__(
        self,
        optimizer: SparseOptimizer,
        rewind: Remedy | None = None,
        dense_factor: float = 1.0,
    ) -> None:
        self.optimizer, self.rewind, self.dense_factor = optimizer, rewind, dense_factor
        self._dense_lrs = [group["lr"] for group in optimizer.dense.param_groups]

    def before_epoch(self, index: int) -> None:
        self.optimizer.embedding.set_epoch(index)
        if self.dense_factor != 1:
            factor = self.dense_factor if index > 0 else 1.0
            for group, lr in zip(self.optimizer.dense.param_groups, self._dense_lrs):
                group["lr"] = factor * lr
            self.optimizer.keep_ratio()
        if self.rewind is not None:
            if index == 0 and isinstance(self.rewind, Rewind):
                self.rewind.epoch = None  # `train` calls this at the start of an epoch only
            self.rewind.before_epoch(index)

    def serving(self) -> AbstractContextManager:
        """Serves the rows that the remedy serves."""
        return getattr(self.rewind, "serving", nullcontext)()

    def backward(self, impressions: Tensor, closure: Callable[[], Tensor]) -> Tensor:
        """Computes the gradients of a batch as the remedy has it."""
        backward = getattr(self.rewind, "backward", None)
        return closure() if backward is None else backward(impressions, closure)

    @property
    def n_bytes(self) -> int:
        """The memory that the remedy takes now."""
        return 0 if self.rewind is None else self.rewind.n_bytes

    def state_dict(self) -> dict[str, Any]:
        return {} if self.rewind is None else self.rewind.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if self.rewind is not None:
            self.rewind.load_state_dict(state)


@dataclass(frozen=True)
class Method:
    """Describes how to build a method, and its hyperparameter beside the two learning rates.

    Attributes:
        label: Its name in figures and tables.
        row_lr: Builds the optimizer's `row_lr` from the hyperparameter.
        row_decay: Builds the optimizer's `row_decay` from the hyperparameter.
        rewind: Builds the object that acts between epochs; called as in `build`.
        hyperparameter: The name of the hyperparameter; "" for none.
        grid: The values to try, the default first.
    """

    label: str
    row_lr: Callable[[Any], FrequencyAdaptiveLR] | None = None
    row_decay: Callable[[Any], AdaptiveRegularization] | None = None
    rewind: Callable[..., Remedy] | None = None
    hyperparameter: str = ""
    grid: tuple[Hyperparameter, ...] = (None,)

    def build(
        self,
        model: nn.Module,
        *,
        dense_lr: float,
        embedding_lr: float,
        hyperparameter: Hyperparameter = None,
        seed: int = 0,
        rule: str = "adam",
        epochs: int = 1,
        dense_rule: str = "adam",
        dense_factor: float = 1.0,
    ) -> tuple[SparseOptimizer, EveryEpoch]:
        """Returns the optimizer, and the `between_epochs` of `train`.

        The dense layers learn by dense_rule, a key of DENSE_RULES. From the second epoch over the
        data on, dense_factor multiplies their learning rate.
        """
        optimizer = SparseOptimizer.from_model(
            model,
            dense_lr=dense_lr,
            embedding_lr=embedding_lr,
            dense=DENSE_RULES[dense_rule],
            rule=rule,
            row_lr=self.row_lr and self.row_lr(hyperparameter),
            row_decay=self.row_decay and self.row_decay(hyperparameter),
        )
        given = {"hyperparameter": hyperparameter, "seed": seed, "epochs": epochs}
        rewind = self.rewind and self.rewind(model=model, optimizer=optimizer, **given)
        return optimizer, EveryEpoch(optimizer, rewind, dense_factor)


def _rewind_tail(
    model, optimizer, hyperparameter, seed, epochs, to="reinit", serve="trained"
) -> Rewind:
    below = math.inf if hyperparameter == "all" else float(hyperparameter)
    return tail_rewind(model, optimizer, below, to, seed, serve=serve)


def _leave_one_out(model, optimizer, hyperparameter, seed, epochs, **options) -> LeaveOneOutRows:
    return LeaveOneOutRows(model, optimizer, float(hyperparameter), **options)


_TAU: dict[str, Any] = {"hyperparameter": "tau", "grid": (100, 20, 50, 200, 500, 2000)}

METHODS: dict[str, Method] = {
    "plain": Method("plain"),
    "fal": Method(
        "FAL",
        row_lr=lambda scale: FrequencyAdaptiveLR(**FAL_VARIANTS[scale]),
        hyperparameter="scale",
        grid=tuple(scale for scale in FAL_SCALES if scale != "log of steps"),
    ),
    "meda": Method("MEDA", rewind=lambda model, optimizer, seed, **_: meda(model, optimizer, seed)),
    "adamar": Method(
        "AdamAR",
        row_decay=AdaptiveRegularization,
        hyperparameter="alpha",
        grid=(1e-2, 1e-4, 1e-3, 3e-3, 3e-2, 1e-1),
    ),
    "tail_rewind": Method("tail rewind", rewind=_rewind_tail, **_TAU),
    "fal_tail_rewind": Method(
        "FAL + tail rewind", lambda tau: FrequencyAdaptiveLR(), rewind=_rewind_tail, **_TAU
    ),
}

# Under continual training a row holds what earlier days taught it, so these methods return rows to
# the start of the day. The entry "meda" above redraws the tables there, too.
DAY_METHODS: dict[str, Method] = {
    "meda_restored": Method(
        "MEDA (restored)", rewind=lambda model, optimizer, **_: meda_restored(model, optimizer)
    ),
    "meda_groups": Method(
        "MEDA (groups)",
        rewind=lambda model, optimizer, seed, epochs, **_: meda_groups(
            model, optimizer, epochs, seed
        ),
    ),
    "day_tail_rewind": Method(
        "tail rewind (to the day's start)", rewind=partial(_rewind_tail, to="start"), **_TAU
    ),
}

# Chapter 10: the rewinds with blended serving, and two controls whose rows do not know the label of
# the impression that they predict. "in_sample" is the rule of "leave_one_out" with the leak.
OWN_LABEL_METHODS: dict[str, Method] = {
    "tail_rewind_blend": Method(
        "tail rewind, blended", rewind=partial(_rewind_tail, serve="blend"), **_TAU
    ),
    "day_tail_rewind_blend": Method(
        "tail rewind (to the day's start), blended",
        rewind=partial(_rewind_tail, to="start", serve="blend"),
        **_TAU,
    ),
    "meda_blend": Method(
        "MEDA, blended",
        rewind=lambda model, optimizer, seed, **_: meda(model, optimizer, seed, serve="blend"),
    ),
    "leave_one_out": Method("leave-one-out rows", rewind=_leave_one_out, **_TAU),
    "leave_one_out_bf16": Method(
        "leave-one-out rows, bfloat16 votes",
        rewind=partial(_leave_one_out, votes=torch.bfloat16),
        **_TAU,
    ),
    "leave_one_out_int8": Method(
        "leave-one-out rows, 8-bit votes",
        rewind=partial(_leave_one_out, votes=torch.int8),
        **_TAU,
    ),
    "sum_rule": Method(
        "tail rewind, sum rule",
        rewind=partial(_leave_one_out, exclude=False, reset=True),
        **_TAU,
    ),
    "in_sample": Method("in-sample rows", rewind=partial(_leave_one_out, exclude=False), **_TAU),
    "two_fold": Method(
        "two-fold tables", rewind=lambda model, optimizer, **_: TwoFoldTables(model, optimizer)
    ),
    "two_fold_tail": Method(
        "two-fold tables, two passes",
        rewind=lambda model, optimizer, hyperparameter, **_: TwoFoldTables(
            model, optimizer, float(hyperparameter)
        ),
        **_TAU,
    ),
}

ALL_METHODS = METHODS | DAY_METHODS | OWN_LABEL_METHODS

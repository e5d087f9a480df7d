"""The library's methods as entries: how each is built, and its hyperparameter.

A new method is a class in `multiepoch.optim` or `multiepoch.remedies`, and one entry here.
"""

import math
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from multiepoch import remedies
from multiepoch.optim import AdaptiveRegularization, FrequencyAdaptiveLR, SparseOptimizer
from multiepoch_lab.blended import Blended
from multiepoch_lab.leave_one_out import LeaveOneOutRows
from multiepoch_lab.table_groups import meda_groups
from multiepoch_lab.two_fold import TwoFoldTables

Hyperparameter = float | str | None

# The scales of chapter 7, as arguments of FrequencyAdaptiveLR.
FAL_SCALES: dict[str, dict] = {
    "log": {"scale": "log"},
    "linear": {"scale": "linear"},
    "square root": {"scale": "power", "exponent": 0.5},
    "threshold 20": {"scale": "threshold", "threshold": 20},
    "threshold 100": {"scale": "threshold", "threshold": 100},
    "log of steps": {"scale": "log", "count": "steps"},
    "log, gap decay 0.5": {"scale": "log", "gap_decay": 0.5},
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


class Around:
    """Passes the calls of `train`'s `between_epochs` on to `inner`, if any; a base to override."""

    def __init__(self, inner: Any = None) -> None:
        self.inner = inner

    def before_epoch(self, index: int) -> None:
        """Prepares epoch `index`, counted from 0."""
        if self.inner is not None:
            self.inner.before_epoch(index)

    def serving(self) -> AbstractContextManager:
        """Returns the context in which the model is evaluated."""
        return getattr(self.inner, "serving", nullcontext)()

    def new_data(self) -> None:
        """Says that the next epoch 0 is over new data, also after a resume."""
        if hasattr(self.inner, "new_data"):
            self.inner.new_data()

    def backward(self, impressions: Tensor, closure: Callable[[], Any]) -> Any:
        """Computes the gradients of a batch; returns what the closure returns."""
        backward = getattr(self.inner, "backward", None)
        return closure() if backward is None else backward(impressions, closure)

    @property
    def n_bytes(self) -> int:
        """The memory that is kept for this, in bytes."""
        return getattr(self.inner, "n_bytes", 0)


class EveryEpoch(Around):
    """Announces each epoch to FAL, to the dense learning rate and to the remedy."""

    def __init__(
        self, optimizer: SparseOptimizer, inner: Any = None, dense_factor: float = 1.0
    ) -> None:
        super().__init__(inner)
        self.optimizer, self.dense_factor = optimizer, dense_factor

    def before_epoch(self, index: int) -> None:
        self.optimizer.set_epoch(index)
        if self.dense_factor != 1:
            factor = self.dense_factor if index > 0 else 1.0
            for group in self.optimizer.dense.param_groups:
                _scale_rate(group, factor)
            self.optimizer.keep_ratio()
        super().before_epoch(index)


def _scale_rate(group: dict[str, Any], factor: float) -> None:
    """Multiplies a group's rate, whatever a scheduler made of it, by the factor of an epoch.

    The last factor is in the group, so that it is saved with the rate.
    """
    last = group.get("epoch_factor", 1.0)
    if factor == last:
        return
    if last == 0:  # of a rate of 0, nothing else is left
        group["lr"] = group["thawed_lr"] * factor
    else:
        group["thawed_lr"] = group["lr"] / last
        group["lr"] *= factor / last
    group["epoch_factor"] = factor


@dataclass(frozen=True)
class Method:
    """Describes how to build a method, and its hyperparameter beside the two learning rates.

    Attributes:
        row_lr: Builds the optimizer's `row_lr` from the hyperparameter.
        row_decay: Builds the optimizer's `row_decay` from the hyperparameter.
        remedy: Builds the object that acts between and within epochs; called as in `build`.
        hyperparameter: The name of the hyperparameter; "" for none.
        grid: The values to try, the default first.
    """

    row_lr: Callable[[Any], FrequencyAdaptiveLR] | None = None
    row_decay: Callable[[Any], AdaptiveRegularization] | None = None
    remedy: Callable[..., Any] | None = None
    hyperparameter: str = ""
    grid: tuple[Any, ...] = (None,)

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
        eps: float = 1e-8,
        initial_accumulator_value: float = 0.0,
    ) -> tuple[SparseOptimizer, EveryEpoch]:
        """Returns the optimizer, and the `between_epochs` of `train`.

        The hyperparameter is by default the first of `grid`; eps and initial_accumulator_value are
        those of `EmbeddingOptimizer`.
        The dense layers learn by dense_rule, a key of DENSE_RULES; dense_factor multiplies their
        rate from the second epoch over the data on.
        """
        if hyperparameter is None:
            hyperparameter = self.grid[0]
        optimizer = SparseOptimizer.from_model(
            model,
            dense_lr=dense_lr,
            embedding_lr=embedding_lr,
            dense=DENSE_RULES[dense_rule],
            rule=rule,
            eps=eps,
            initial_accumulator_value=initial_accumulator_value,
            row_lr=self.row_lr and self.row_lr(hyperparameter),
            row_decay=self.row_decay and self.row_decay(hyperparameter),
        )
        given = {"hyperparameter": hyperparameter, "seed": seed, "epochs": epochs}
        remedy = self.remedy and self.remedy(model=model, optimizer=optimizer, **given)
        return optimizer, EveryEpoch(optimizer, remedy, dense_factor)


def _tail(model, optimizer, hyperparameter, seed, epochs, to="reinit"):
    below = math.inf if hyperparameter == "all" else float(hyperparameter)
    return remedies.tail_rewind(model, optimizer, below, to, seed=seed)


def _meda(model, optimizer, hyperparameter, seed, epochs):
    return remedies.meda(model, optimizer, seed=seed)


def _blended(model, optimizer, remedy, **given):
    return Blended(model, optimizer, remedy(model=model, optimizer=optimizer, **given))


TAU: dict[str, Any] = {"hyperparameter": "tau", "grid": (100, 20, 50, 500, 200, 2000)}

METHODS: dict[str, Method] = {
    "plain": Method(),
    "fal": Method(
        row_lr=lambda scale: FrequencyAdaptiveLR(**FAL_SCALES[scale]),
        hyperparameter="scale",
        grid=tuple(scale for scale in FAL_SCALES if scale != "log of steps"),
    ),
    "adamar": Method(
        row_decay=AdaptiveRegularization,
        hyperparameter="alpha",
        grid=(1e-2, 1e-4, 1e-3, 1e-1, 3e-3, 3e-2),
    ),
    "meda": Method(remedy=_meda),
    "tail_rewind": Method(remedy=_tail, **TAU),
    # Blended serving leaves training as it is.
    "meda_blend": Method(remedy=partial(_blended, remedy=_meda)),
    "tail_rewind_blend": Method(remedy=partial(_blended, remedy=_tail), **TAU),
    # Under continual training, these return rows to the start of the day; "meda" redraws them.
    "meda_restored": Method(
        remedy=lambda model, optimizer, **_: remedies.meda_restored(model, optimizer)
    ),
    "day_tail_rewind": Method(remedy=partial(_tail, to="start"), **TAU),
    "day_tail_rewind_blend": Method(
        remedy=partial(_blended, remedy=partial(_tail, to="start")), **TAU
    ),
    "meda_groups": Method(
        remedy=lambda model, optimizer, seed, epochs, **_: meda_groups(
            model, optimizer, epochs, seed
        )
    ),
    # Rows that do not know the label of the impression that they predict.
    "leave_one_out_votes": Method(
        remedy=lambda model, optimizer, hyperparameter, **_: LeaveOneOutRows(
            model, optimizer, hyperparameter
        ),
        **TAU,
    ),
    "two_fold": Method(remedy=lambda model, optimizer, **_: TwoFoldTables(model, optimizer)),
}

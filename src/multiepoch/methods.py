"""The registry of methods: the name, the construction and the hyperparameter of each remedy.

To add a method, add its class to `multiepoch.optim` or `multiepoch.remedies` and one entry to
`METHODS`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from multiepoch.optim import AdaptiveRegularization, FrequencyAdaptiveLR, SparseOptimizer
from multiepoch.remedies import Rewind, TableGroups, meda, meda_groups, meda_restored

Hyperparameter = float | str | None

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


class EveryEpoch:
    """Announces each epoch to FAL and to the rewind: the `between_epochs` of `train`."""

    def __init__(
        self, optimizer: SparseOptimizer, rewind: Rewind | TableGroups | None = None
    ) -> None:
        self.optimizer, self.rewind = optimizer, rewind

    def before_epoch(self, index: int) -> None:
        self.optimizer.embedding.set_epoch(index)
        if self.rewind is not None:
            self.rewind.before_epoch(index)

    @property
    def n_bytes(self) -> int:
        """The memory that the rewind takes now."""
        return 0 if self.rewind is None else self.rewind.n_bytes

    def state_dict(self) -> dict[str, Any]:
        return {} if self.rewind is None else self.rewind.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if self.rewind is not None:
            self.rewind.load_state_dict(state)


@dataclass(frozen=True)
class Build:
    """Arguments for building the rewind of a method."""

    model: nn.Module
    optimizer: SparseOptimizer
    hyperparameter: Hyperparameter
    seed: int
    epochs: int

    @property
    def below(self) -> float:
        """The hyperparameter as the threshold of a tail rewind."""
        return math.inf if self.hyperparameter == "all" else float(self.hyperparameter)


@dataclass(frozen=True)
class Method:
    """Describes how to build a method, and its hyperparameter beside the two learning rates.

    Attributes:
        label: Its name in figures and tables.
        row_lr: Builds the optimizer's `row_lr` from the hyperparameter.
        row_decay: Builds the optimizer's `row_decay` from the hyperparameter.
        rewind: Builds the object that acts between epochs.
        hyperparameter: The name of the hyperparameter; "" for none.
        grid: The values to try, the default first.
    """

    label: str
    row_lr: Callable[[Any], FrequencyAdaptiveLR] | None = None
    row_decay: Callable[[Any], AdaptiveRegularization] | None = None
    rewind: Callable[[Build], Rewind | TableGroups] | None = None
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
    ) -> tuple[SparseOptimizer, EveryEpoch]:
        """Returns the optimizer, and the `between_epochs` of `train`."""
        optimizer = SparseOptimizer.from_model(
            model,
            dense_lr=dense_lr,
            embedding_lr=embedding_lr,
            rule=rule,
            row_lr=self.row_lr and self.row_lr(hyperparameter),
            row_decay=self.row_decay and self.row_decay(hyperparameter),
        )
        build = Build(model, optimizer, hyperparameter, seed, epochs)
        return optimizer, EveryEpoch(optimizer, self.rewind and self.rewind(build))


def _redraw_tail(b: Build) -> Rewind:
    return Rewind(b.model, b.optimizer, b.below, "reinit", b.seed)


_THRESHOLDS = (100, 20, 50, 200, 500, 2000)

METHODS: dict[str, Method] = {
    "plain": Method("plain"),
    "fal": Method(
        "FAL",
        row_lr=lambda scale: FrequencyAdaptiveLR(**FAL_SCALES[scale]),
        hyperparameter="scale",
        grid=tuple(scale for scale in FAL_SCALES if scale != "log of steps"),
    ),
    "meda": Method("MEDA", rewind=lambda b: meda(b.model, b.optimizer, b.seed)),
    "adamar": Method(
        "AdamAR",
        row_decay=AdaptiveRegularization,
        hyperparameter="alpha",
        grid=(1e-2, 1e-4, 1e-3, 3e-3, 3e-2, 1e-1),
    ),
    "tail_rewind": Method(
        "tail rewind", rewind=_redraw_tail, hyperparameter="tau", grid=_THRESHOLDS
    ),
    "fal_tail_rewind": Method(
        "FAL + tail rewind",
        row_lr=lambda tau: FrequencyAdaptiveLR(),
        rewind=_redraw_tail,
        hyperparameter="tau",
        grid=_THRESHOLDS,
    ),
}

# Under continual training a row holds what earlier days taught it, so these methods return rows to
# the start of the day. The entry "meda" above redraws the tables there, too.
DAY_METHODS: dict[str, Method] = {
    "meda_restored": Method(
        "MEDA (restored)", rewind=lambda b: meda_restored(b.model, b.optimizer)
    ),
    "meda_groups": Method(
        "MEDA (groups)", rewind=lambda b: meda_groups(b.model, b.optimizer, b.epochs, b.seed)
    ),
    "day_tail_rewind": Method(
        "tail rewind (to the day's start)",
        rewind=lambda b: Rewind(b.model, b.optimizer, b.below, "start", b.seed),
        hyperparameter="tau",
        grid=_THRESHOLDS,
    ),
}

ALL_METHODS = METHODS | DAY_METHODS

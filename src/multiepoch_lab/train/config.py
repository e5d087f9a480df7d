"""`TrainConfig`: the options that `train` and `train_days` share."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from multiepoch_lab.data.log import Log


class BetweenEpochs(Protocol):
    """Acts before each epoch over the same data, as a rewind of the tables does.

    It may also have `serving()`, a context in which the model is evaluated, as `Rewind` has it;
    and `backward(impressions, closure)`, as `LeaveOneOutRows` has it: called in place of the
    closure, which computes the losses of the impressions, int64 (n,), and their gradients, and
    returns the losses. The optimizers step after it.
    """

    def before_epoch(self, index: int) -> None:
        """Prepares epoch `index`: 0 over new data, k >= 1 for its k-th repetition."""


# From the training log and the evaluated log: a group for each impression of the latter, (n,).
Groups = Callable[[Log, Log], Tensor]


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Holds the options of a training run.

    Args:
        epochs: Epochs over the window or, in `train_days`, over each day. 1.25 are one and
            a quarter.
        evaluate_at: Fractions of an epoch, in (0, 1], after which to evaluate.
        evaluate_epochs: The epochs, counted from 0, in which to evaluate; None for all.
        groups: Also evaluates within each group of impressions, e.g. `frequency_groups`.
        batch_size: Impressions per step.
        seed: Decides the order of the impressions.
        between_epochs: Its `before_epoch(k)` is called before epoch k.
        progress: Is called with one line per epoch; None for silence.

    Raises:
        ValueError: If an option is out of range.
    """

    epochs: float
    evaluate_at: Sequence[float] = (0.25, 0.5, 1.0)
    evaluate_epochs: Sequence[int] | None = None
    groups: Groups | None = None
    batch_size: int = 4096
    seed: int = 0
    between_epochs: BetweenEpochs | None = None
    progress: Callable[[str], None] | None = print

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            if (value := getattr(self, name)) < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1.")
        if not all(0 < fraction <= 1 for fraction in self.evaluate_at):
            raise ValueError(f"evaluate_at is {self.evaluate_at}; give fractions in (0, 1].")
        n_epochs = math.ceil(self.epochs)
        if not self.evaluated <= set(range(n_epochs)):
            known = f"epochs are counted from 0 to {n_epochs - 1}"
            raise ValueError(f"evaluate_epochs is {sorted(self.evaluated)}; {known}.")

    @property
    def evaluated(self) -> set[int]:
        """The epochs in which to evaluate."""
        given = self.evaluate_epochs
        return set(range(math.ceil(self.epochs)) if given is None else given)

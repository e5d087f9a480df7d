"""One entry of the registry of remedies: a method, with what only research needs beside."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from multiepoch_lab import methods
from multiepoch_lab.data import Log
from multiepoch_lab.model import ConversionModel
from reproduction.remedies.hooks import WholeTables


@dataclass(frozen=True)
class Remedy(methods.Method):
    """A method that may also change the logs or the model, and how a search tries it.

    If it is `held_back`, it is read off the runs of the remedy of that name: within an epoch it
    serves the model that this one had at the end of the last.

    Attributes:
        label: Its name in figures and tables.
        group: The kind of remedy, of those on the board.
        formula: What it does, in LaTeX.
        source: Where it is from, and which reading of it this is.
        needs: What a training job must keep or know for it.
    """

    label: str = ""
    group: str = ""
    formula: str = ""
    source: str = ""
    needs: str = "nothing"

    # Changes the training window and the held-out log, by the hyperparameter.
    logs: Callable[[Log, Log, Any], tuple[Log, Log]] = lambda window, held_out, _: (
        window,
        held_out,
    )
    network: Callable[..., nn.Module] = ConversionModel  # what is trained
    model: Callable[[Any], dict] = lambda _: {}  # options of the network by the hyperparameter
    scale: Callable[[Any], float] = lambda _: 1.0  # of the tables' rates, if its rule needs others
    dense_factors: tuple[float, ...] = (1.0, 0.1, 0.03, 0.01)  # from epoch 2 on, for a search
    rule: str = "rowwise_adagrad"  # of the tables, on the board
    once: bool = False  # trains for one epoch, whatever the others do
    held_back: str = ""


@dataclass(frozen=True)
class OnWholeTables(Remedy):
    """A decay of whole tables. decoupled: as in `hooks.WholeTables`."""

    decoupled: bool = False

    def build(self, model: nn.Module, *, hyperparameter: Any = None, **options: Any) -> Any:
        """Returns the optimizers and the `between_epochs` of `train`; for Adam alone."""
        names = ("dense_lr", "embedding_lr", "dense_factor")
        rates = {name: options[name] for name in names if name in options}
        whole = WholeTables(model, decay=hyperparameter, decoupled=self.decoupled, **rates)
        return whole.optimizers, whole


def of(name: str, label: str, **changes: Any) -> Remedy:
    """Returns the library's method of that name as an entry, with changes."""
    return Remedy(**vars(methods.METHODS[name]) | {"label": label} | changes)

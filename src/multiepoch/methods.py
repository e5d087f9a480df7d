"""The methods that are compared, each a line: what it does to a row's rate, its decay, its return.

To add a method, add its class to `optim`, `regularize` or `rewind` and one entry to `METHODS`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from multiepoch.model import ConversionModel
from multiepoch.optim import FrequencyAdaptiveLR, SparseOptimizer
from multiepoch.optim.adamar import AdaptiveRegularization
from multiepoch.remedies import Rewind, meda, meda_groups, meda_restored

Knob = float | str | None

# What the chapters call a scale, as the arguments of FrequencyAdaptiveLR.
FAL_SCALES: dict[str, dict] = {
    "log": {"scale": "log"},
    "linear": {"scale": "linear"},
    "square root": {"scale": "power", "exponent": 0.5},
    "threshold 20": {"scale": "threshold", "threshold": 20},
    "threshold 100": {"scale": "threshold", "threshold": 100},
    "log of steps": {"scale": "log", "count": "steps"},
    "log, gap decay 0.5": {"scale": "log", "gap_decay": 0.5},
}


class EveryPass:
    """Tells FAL which pass it is and lets a method put rows back: train's `between_passes`."""

    def __init__(self, optimizer: SparseOptimizer, rewind: Rewind | None = None) -> None:
        self.optimizer, self.rewind = optimizer, rewind

    def before_pass(self, index: int) -> None:
        self.optimizer.embedding.set_epoch(index)
        if self.rewind is not None:
            self.rewind.before_pass(index)

    @property
    def n_bytes(self) -> int:
        """Memory of what is kept for going back."""
        return 0 if self.rewind is None else self.rewind.n_bytes

    def state_dict(self) -> dict:
        return {} if self.rewind is None else self.rewind.state_dict()

    def load_state_dict(self, state: dict) -> None:
        if self.rewind is not None:
            self.rewind.load_state_dict(state)


@dataclass(frozen=True)
class Method:
    """How a method is built and what there is to tune beside the two rates.

    label: what figures call it. look: its colour and dash pattern there, none where it shares
        those of the name before its bracket.
    row_lr, row_decay: from the knob to the argument of EmbeddingOptimizer.
    rewind: from (model, optimizer, knob, seed, passes) to what puts rows back between passes.
    knob, knobs: the name of what is tuned beside the rates, and its grid, the default first.
    """

    label: str
    row_lr: Callable[[Knob], FrequencyAdaptiveLR | None] = lambda knob: None
    row_decay: Callable[[Knob], AdaptiveRegularization | None] = lambda knob: None
    rewind: Callable[[ConversionModel, SparseOptimizer, Knob, int, int], Rewind | None] = (
        lambda model, optimizer, knob, seed, passes: None
    )
    knob: str = ""
    knobs: tuple[Knob, ...] = (None,)
    look: tuple[str, str | tuple] | None = None

    def build(
        self,
        model: ConversionModel,
        *,
        dense_lr: float,
        embedding_lr: float,
        knob: Knob = None,
        seed: int = 0,
        rule: str = "adam",
        passes: int = 1,
    ) -> tuple[SparseOptimizer, EveryPass]:
        """The optimizer, and what happens before each pass."""
        optimizer = SparseOptimizer.from_model(
            model,
            dense_lr=dense_lr,
            embedding_lr=embedding_lr,
            rule=rule,
            row_lr=self.row_lr(knob),
            row_decay=self.row_decay(knob),
        )
        return optimizer, EveryPass(optimizer, self.rewind(model, optimizer, knob, seed, passes))


def _fal(knob: Knob) -> FrequencyAdaptiveLR:
    return FrequencyAdaptiveLR(**FAL_SCALES[knob])


def _tail_rewind(to: str):
    def make(model, optimizer, tau, seed, passes) -> Rewind:
        return Rewind(model, optimizer, math.inf if tau == "all" else tau, to, seed)

    return make


_TAUS = (100, 20, 50, 200, 500, 2000)

METHODS: dict[str, Method] = {
    "plain": Method("plain", look=("#000000", "-")),
    "fal": Method("FAL", row_lr=_fal, knob="scale",
                  knobs=("log", "linear", "square root", "threshold 20", "threshold 100",
                         "log, gap decay 0.5"),
                  look=("#0072B2", (0, (4, 1, 1, 1)))),
    "meda": Method("MEDA", rewind=lambda m, o, knob, seed, passes: meda(m, o, seed),
                   look=("#D55E00", (0, (3, 1.5)))),
    "adamar": Method("AdamAR", row_decay=AdaptiveRegularization, knob="alpha",
                     knobs=(1e-2, 1e-4, 1e-3, 3e-3, 3e-2, 1e-1),
                     look=("#B5538F", (0, (1, 1)))),
    "tail_rewind": Method("tail rewind", rewind=_tail_rewind("draw"), knob="tau", knobs=_TAUS,
                          look=("#00835F", (0, (8, 1.5, 1, 1.5)))),
    "fal_tail_rewind": Method("FAL + tail rewind", row_lr=lambda tau: FrequencyAdaptiveLR(),
                              rewind=_tail_rewind("draw"), knob="tau", knobs=_TAUS,
                              look=("#8822EE", (0, (5, 1, 1, 1, 1, 1)))),
}  # fmt: skip

# Day after day, where a row holds what earlier days taught it: going back means to the start of
# the day. MEDA's `meda` above is its redrawn meaning here.
DAY_METHODS: dict[str, Method] = {
    "meda_restored": Method("MEDA (restored)", rewind=lambda m, o, knob, seed, passes:
                            meda_restored(m, o)),
    "meda_groups": Method("MEDA (groups)", rewind=lambda m, o, knob, seed, passes:
                          meda_groups(m, o, passes, seed)),
    "day_tail_rewind": Method("tail rewind (to the day's start)", rewind=_tail_rewind("start"),
                              knob="tau", knobs=_TAUS),
}  # fmt: skip

ALL_METHODS = METHODS | DAY_METHODS

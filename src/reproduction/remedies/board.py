"""The board: one entry a remedy. An entry is all that a new remedy needs beside its class."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from multiepoch.optim import AdaptiveRegularization, FrequencyAdaptiveLR
from multiepoch.remedies import Rewind, meda, tail_rewind
from multiepoch_lab.data import Log
from multiepoch_lab.methods import ALL_METHODS, TAU
from reproduction.remedies import hooks
from reproduction.remedies.baselines import BASELINES
from reproduction.remedies.remedy import OnWholeTables, Remedy, hook, of


def hashed(window: Log, held_out: Log, share: float) -> tuple[Log, Log]:
    """Hashes each id column into `share` of its rows."""
    sizes = {name: max(1, round(share * n)) for name, n in window.schema.cardinality.items()}

    def change(one: Log) -> Log:
        # The multiplier is odd and large, so that the ids that meet are far apart.
        ids = {k: ((v * 0x9E3779B97F4A7C1) >> 16) % sizes[k] for k, v in one.ids.items()}
        return one.with_ids(ids, sizes)

    return change(window), change(held_out)


def filtered(window: Log, held_out: Log, below: int) -> tuple[Log, Log]:
    """Gives all ids that the window has fewer than `below` times one row together."""
    new: dict[str, Tensor] = {}
    for name, n in window.schema.cardinality.items():
        kept = torch.bincount(window.ids[name], minlength=n) >= below
        new[name] = torch.where(kept, kept.cumsum(0) - 1, kept.sum())
    sizes = {name: int(row.max()) + 1 for name, row in new.items()}

    def change(one: Log) -> Log:
        ids = {name: new[name][column] for name, column in one.ids.items()}
        return one.with_ids(ids, sizes)

    return change(window), change(held_out)


def smoothed(window: Log, held_out: Log, share: float) -> tuple[Log, Log]:
    """Moves each label of the window towards its objective's mean by `share` of the way."""
    labels = window.labels
    return window.with_labels(labels.lerp(labels.mean(dim=0), share)), held_out


def without_sparsest(window: Log, held_out: Log, _: Any) -> tuple[Log, Log]:
    """Drops the id column with the most distinct values in the window."""
    sparsest = max(window.ids, key=lambda name: len(window.ids[name].unique()))
    return window.without(sparsest), held_out.without(sparsest)


def _from_zero(model, **_) -> None:
    for table in model.table_parameters().values():
        torch.nn.init.zeros_(table)


def _pair(model, optimizer, value: float, beside: Callable, reset: Callable) -> hooks.Hook:
    return beside(model, optimizer, value, reset(model, optimizer))


def _blended(model, optimizer, tau: float = 100):
    return tail_rewind(model, optimizer, tau, "reinit", serve="blend")


_ONCE = {"group": "reference", "once": True, "dense_factors": (1.0,)}
_AVERAGE = {"hyperparameter": "decay", "grid": (0.99, 0.999, 0.9), "group": "pair"}
_L2 = {"hyperparameter": "λ", "grid": (1e-6, 1e-5, 3e-5, 1e-4)}
_SHARE = {"hyperparameter": "p", "grid": (0.1, 0.2, 0.4, 0.6)}
_COUNTS, _NO_TABLE = "lookups by row", "the tables as one dense parameter"
_REPEATS = "to know that the data repeat"
_SECOND_COPY = f"{_COUNTS}, a threshold, a second copy of the tail"

BOARD: dict[str, Remedy] = {
    "plain": of("plain", dense_factors=(1.0,)),
    "adam_once": of("plain", label="one epoch, Adam on the tables", rule="adam", **_ONCE),
    "adagrad_once": of("plain", label="one epoch, Adagrad on the tables", rule="adagrad", **_ONCE),
    "additive_once": replace(
        BASELINES["additive"],
        label="one epoch, additive model",
        formula=r"z = b + \textstyle\sum_t b_{t,i}",
        source="logistic regression on ids; a bias for each",
        needs="nothing",
        rule="adagrad",  # a row holds an objective's bias beside another's
        **_ONCE,
    ),
    "low_rate": Remedy(
        "lower table rate",
        group="rate",
        formula=r"\eta_T \leftarrow f\,\eta_T",
        source="the control that MEDA's reviewers asked for",
        hyperparameter="f",
        grid=(0.3, 0.1, 0.03, 0.01),
        scale=lambda f: f,
        dense_factors=(1.0,),
    ),
    "dense_factor": Remedy(
        "dense rate falls from epoch 2",
        group="rate",
        formula=r"\eta_D \leftarrow f\,\eta_D,\quad e \ge 2",
        source="chapter 8",
        needs=_REPEATS,
        hyperparameter="f, of the dense rate",
        dense_factors=(0.3, 0.1, 0.03, 0.01),
    ),
    "fal": of("fal"),
    "meda": of("meda"),
    "threshold_meda": Remedy(
        "MEDA for large tables",
        remedy=lambda model, optimizer, hyperparameter, seed, **_: Rewind(
            model, optimizer, seed=seed, min_rows=hyperparameter + 1
        ),
        group="reset",
        formula=r"w_i \sim p_0 \text{ if } |T| > V",
        source="baseline of the TAAC 2026 conversion task",
        needs="a threshold of rows",
        hyperparameter="V",
        grid=(100, 1_000, 7_000, 20_000),
    ),
    "tail_rewind": of("tail_rewind"),
    "tail_rewind_blend": of("tail_rewind_blend"),
    "meda_held": of("meda", label="MEDA, last epoch's model served", held_back="meda"),
    "tail_rewind_held": of(
        "tail_rewind", label="tail rewind, last epoch's model served", held_back="tail_rewind"
    ),
    "adamar": of("adamar", label="AdamAR, on touch"),
    "adamar_zero": Remedy(
        "AdamAR, on touch, tables from zero",
        row_decay=AdaptiveRegularization,
        remedy=_from_zero,
        hyperparameter="alpha",
        grid=(1e-2, 1e-4, 1e-3, 1e-1),
        group="decay",
        formula=r"w_i = 0 \text{ at first}",
        source="arXiv 2511.06374, whose code starts there",
        needs="the step of each row's last update",
    ),
    "touched_l2": Remedy(
        "L2 on touched rows",
        remedy=hook(hooks.TouchedL2),
        group="decay",
        formula=r"g_i \leftarrow g_i + \lambda w_i \text{ if touched}",
        source="common in sparse frameworks; frequent rows shrink more, as in DiFacto (WSDM 2016)",
        **_L2,
    ),
    "even_l2": Remedy(
        "L2 on touched rows by 1/n",
        remedy=hook(hooks.TouchedL2, even=True),
        group="decay",
        formula=r"g_i \leftarrow g_i + \lambda w_i / F_i \text{ if touched}",
        source="mini-batch aware L2, DIN, arXiv 1706.06978",
        needs=_COUNTS,
        hyperparameter="λ",
        grid=(1e-4, 1e-3, 1e-2, 1e-5),
    ),
    "whole_l2": OnWholeTables(
        "L2 on whole tables, Adam",
        group="decay",
        formula=r"g_i \leftarrow g_i + \lambda w_i \text{ for all } i",
        source="as FuxiCTR has it; chapter 11",
        rule="adam",
        needs=_NO_TABLE,
        hyperparameter="λ",
        grid=(1e-7, 1e-6, 1e-5, 1e-4),
    ),
    "adamw": OnWholeTables(
        "AdamW on tables",
        group="decay",
        formula=r"w_i \leftarrow (1 - \eta_T \lambda)\,w_i - \eta_T d_i \text{ for all } i",
        source="Loshchilov and Hutter, arXiv 1711.05101",
        rule="adam",
        needs=_NO_TABLE,
        hyperparameter="λ",
        grid=(1e-2, 1e-1, 0.3, 1.0),
        decoupled=True,
    ),
    "filter": Remedy(
        "frequency filter",
        group="ids",
        formula=r"i \leftarrow 0 \text{ if } F_i < m",
        source="Zhang et al., arXiv 2209.06053, among others",
        needs="a pass over the data, or counts",
        hyperparameter="m",
        grid=(2, 5, 10, 30),
        logs=filtered,
    ),
    "hash_hundredth": Remedy(
        "hashing to a hundredth",
        group="ids",
        formula=r"i \leftarrow h(i) \bmod |T|/100",
        source="Zhang et al., arXiv 2209.06053",
        logs=lambda window, held_out, _: hashed(window, held_out, 0.01),
    ),
    "no_cross": Remedy(
        "sparsest column dropped",
        group="ids",
        formula=r"\text{without the ids of one column}",
        source="the control that costs least",
        logs=without_sparsest,
    ),
    "small_dim": Remedy(
        "smaller dimension",
        group="ids",
        formula=r"w_i \in \mathbb{R}^{d},\quad d < 16",
        source="the usual advice",
        hyperparameter="d",
        grid=(1, 2, 4, 8),
        model=lambda d: {"embedding_dim": d},
    ),
    "dropout": Remedy(
        "embedding dropout",
        remedy=hook(hooks.Dropout),
        group="noise",
        formula=r"w_{ik} \leftarrow w_{ik} b_{ik} / (1 - p),\; b \sim \mathrm{Bernoulli}(1 - p)",
        source="Srivastava et al., JMLR 2014",
        **_SHARE,
    ),
    "sse": Remedy(
        "stochastic shared embeddings",
        remedy=hook(hooks.SharedEmbeddings),
        group="noise",
        formula=r"i \leftarrow j \sim \mathrm{Uniform}(T) \text{ with probability } p",
        source="Wu et al., arXiv 1905.10630 (SSE-SE)",
        hyperparameter="p",
        grid=(0.01, 0.03, 0.1, 0.3),
    ),
    "cowclip": Remedy(
        "CowClip",
        remedy=hook(hooks.CowClip),
        group="rate",
        formula=r"|g_i| \le F_i^\text{batch} \max(r |w_i|, 10^{-5})",
        source="Zheng et al., arXiv 2204.06240",
        hyperparameter="r",
        grid=(1e-5, 1e-4, 1e-3, 1e-2),
    ),
    "label_smoothing": Remedy(
        "label smoothing",
        group="noise",
        formula=r"y \leftarrow (1 - \varepsilon)\,y + \varepsilon \bar y",
        source="Szegedy et al., arXiv 1512.00567; towards the objective's mean, which keeps "
        "calibration",
        hyperparameter="ε",
        grid=(0.03, 0.1, 0.2, 0.4),
        logs=smoothed,
    ),
    "sensitivity": Remedy(
        "sensitivity penalty",
        remedy=hook(hooks.SensitivityPenalty),
        group="dense layers",
        formula=r"\lambda \textstyle\sum_t |\partial z / \partial w_t|^2 / n_t "
        r"\text{, dense layers only}",
        source="what can be built from the abstract of UWSR, arXiv 2609.34083",
        needs=f"{_COUNTS}, a second forward and backward pass",
        hyperparameter="λ",
        grid=(1e-3, 1e-2, 1e-1, 1.0),
    ),
    "sharpness": Remedy(
        "SAM on the dense layers",
        remedy=hook(hooks.SharpnessAware),
        group="dense layers",
        formula=r"\nabla_D L(D + \rho\,\nabla_D L / |\nabla_D L|)",
        source="Foret et al., arXiv 2010.01412; AdamAR's paper compares with it",
        needs="a second forward and backward pass",
        hyperparameter="ρ",
        grid=(0.03, 0.01, 0.1, 0.3),
    ),
    "frozen_tables": Remedy(
        "tables frozen from epoch 2",
        remedy=lambda model, optimizer, **_: hooks.FrozenTables(model, optimizer),
        group="dense layers",
        formula=r"\eta_T = 0,\quad e \ge 2",
        source="Zhang et al., arXiv 2209.06053, as a diagnosis",
        needs=_REPEATS,
    ),
    "frozen_dense": Remedy(
        "dense layers frozen from epoch 2",
        group="dense layers",
        formula=r"\eta_D = 0,\quad e \ge 2",
        source="Zhang et al., arXiv 2209.06053, as a diagnosis",
        needs=_REPEATS,
        dense_factors=(0.0,),
    ),
    "two_fold": of("two_fold"),
    "leave_one_out_votes": of(
        "leave_one_out_votes", label="leave-one-out rows", scale=lambda _: 3.0
    ),
    "meda_average": Remedy(
        "MEDA + average of the dense weights",
        remedy=hook(_pair, beside=hooks.DenseAverage, reset=meda),
        formula=r"\text{both}",
        source="a team's report on the TAAC 2026 task, second-hand",
        needs=_REPEATS,
        **_AVERAGE,
    ),
    "blend_average": Remedy(
        "tail rewind, blended + average of the dense weights",
        remedy=hook(_pair, beside=hooks.DenseAverage, reset=_blended),
        formula=r"\text{both},\; \tau = 100",
        source="a pair",
        needs=_SECOND_COPY,
        **_AVERAGE,
    ),
    "blend_l2": Remedy(
        "tail rewind, blended + L2 on touched rows",
        remedy=hook(_pair, beside=hooks.TouchedL2, reset=_blended),
        group="pair",
        formula=r"\text{both},\; \tau = 100",
        source="a pair",
        needs=_SECOND_COPY,
        **_L2,
    ),
    "blend_fal": Remedy(
        "tail rewind, blended + FAL",
        row_lr=lambda _: FrequencyAdaptiveLR(),
        remedy=hook(_blended),
        **TAU,
        group="pair",
        formula=r"\text{both}",
        source="a pair",
        needs=_SECOND_COPY,
    ),
}

# Every method that a `Run` can name. Of two entries of a name, the board's: its label and its
# search may differ.
METHODS: dict[str, Remedy] = {name: of(name) for name in ALL_METHODS} | BASELINES | BOARD

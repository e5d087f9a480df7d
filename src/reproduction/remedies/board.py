"""The board: one entry a remedy. An entry is all that a new remedy needs beside its class."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from multiepoch.data import Log
from multiepoch.methods import TAU
from multiepoch.optim import FrequencyAdaptiveLR
from multiepoch.remedies import Rewind, meda, tail_rewind
from reproduction.remedies import hooks
from reproduction.remedies.remedy import OnWholeTables, Remedy, hook, of
from reproduction.remedies.sum_rows import SumRows


def hashed(window: Log, held_out: Log, share: float) -> tuple[Log, Log]:
    """Hashes each id column into `share` of its rows."""
    sizes = {name: max(1, round(share * n)) for name, n in window.schema.cardinality.items()}

    def change(one: Log) -> Log:
        # The multiplier is odd and large, so that the ids that meet are far apart.
        ids = {k: ((v * 0x9E3779B97F4A7C1) >> 16) % sizes[k] for k, v in one.ids.items()}
        return replace(one, ids=ids, schema=replace(one.schema, cardinality=sizes))

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
        return replace(one, ids=ids, schema=replace(one.schema, cardinality=sizes))

    return change(window), change(held_out)


def smoothed(window: Log, held_out: Log, share: float) -> tuple[Log, Log]:
    """Moves each label of the window towards its objective's mean by `share` of the way."""
    labels = window.labels
    return window.with_labels(labels.lerp(labels.mean(dim=0), share)), held_out


def _with_l2(model, optimizer, coefficient: float, reset: Callable[..., Any]) -> hooks.TouchedL2:
    return hooks.TouchedL2(model, optimizer, coefficient, reset(model, optimizer))


def _blended(model, optimizer, tau: float = 100):
    return tail_rewind(model, optimizer, tau, "reinit", serve="blend")


_L2 = {"hyperparameter": "λ", "grid": (1e-6, 1e-5, 3e-5, 1e-4)}
_SHARE = {"hyperparameter": "p", "grid": (0.1, 0.2, 0.4, 0.6)}
_COUNTS, _NO_TABLE = "lookups by row", "the tables as one dense parameter"
_REPEATS = "to know that the data repeat"
_SECOND_COPY = f"{_COUNTS}, a threshold, a second copy of the tail"

BOARD: dict[str, Remedy] = {
    "plain": of("plain", dense_factors=(1.0,)),
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
        source="baseline of the TAAC 2026 conversion task; under Adam, whose moments are reset too",
        needs="a threshold of rows",
        hyperparameter="V",
        grid=(100, 1_000, 7_000, 20_000),
    ),
    "tail_rewind": of("tail_rewind"),
    "tail_rewind_blend": of("tail_rewind_blend"),
    "adamar": of("adamar", label="AdamAR, on touch"),
    "adamar_everywhere": Remedy(
        "AdamAR, every row in every step",
        remedy=hook(hooks.WaitingDecay, reading="everywhere"),
        group="decay",
        formula=r"w_i \leftarrow \max(0, 1 - \alpha I)\,w_i \text{ in every step}",
        source="arXiv 2511.06374, second reading: a row decays while it waits",
        needs="the step of each row's last update; a pass over the tables in each step",
        hyperparameter="α",
        grid=(1e-6, 1e-5, 1e-4, 1e-3),
    ),
    "adamar_fbgemm": Remedy(
        "AdamAR, times the rate",
        remedy=hook(hooks.WaitingDecay, reading="fbgemm"),
        group="decay",
        formula=r"w_i \leftarrow \max(0.1, 1 - \eta_T \alpha I)\,w_i \text{ when touched}",
        source="third reading: ROWWISE_RMSPROP_AR of FBGEMM 1.9, under Adam",
        needs="the step of each row's last update",
        hyperparameter="α",
        grid=(1e-2, 1e-1, 1.0, 10.0),
    ),
    "touched_l2": Remedy(
        "L2 on touched rows",
        remedy=hook(hooks.TouchedL2),
        group="decay",
        formula=r"g_i \leftarrow g_i + \lambda w_i \text{ if touched}",
        source="common in sparse frameworks",
        **_L2,
    ),
    "whole_l2": OnWholeTables(
        "L2 on whole tables, Adam",
        group="decay",
        formula=r"g_i \leftarrow g_i + \lambda w_i \text{ for all } i",
        source="as FuxiCTR has it; chapter 12",
        needs=_NO_TABLE,
        hyperparameter="λ",
        grid=(1e-7, 1e-6, 1e-5, 1e-4),
    ),
    "adamw": OnWholeTables(
        "AdamW on tables",
        group="decay",
        formula=r"w_i \leftarrow (1 - \eta_T \lambda)\,w_i - \eta_T d_i \text{ for all } i",
        source="Loshchilov and Hutter, arXiv 1711.05101",
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
    "hash_tenth": Remedy(
        "hashing to a tenth",
        group="ids",
        formula=r"i \leftarrow h(i) \bmod |T|/10",
        source="Zhang et al., arXiv 2209.06053",
        logs=lambda window, held_out, _: hashed(window, held_out, 0.1),
    ),
    "hash_hundredth": Remedy(
        "hashing to a hundredth",
        group="ids",
        formula=r"i \leftarrow h(i) \bmod |T|/100",
        source="Zhang et al., arXiv 2209.06053",
        logs=lambda window, held_out, _: hashed(window, held_out, 0.01),
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
    "row_dropout": Remedy(
        "row dropout from epoch 2",
        remedy=hook(hooks.Dropout, rows=True, from_epoch=1),
        group="noise",
        formula=r"w_i \leftarrow 0 \text{ with probability } p,\; e \ge 2",
        source="ours, a control",
        needs=_REPEATS,
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
    "frozen_tables": Remedy(
        "tables frozen from epoch 2",
        remedy=lambda model, optimizer, **_: hooks.LaterTableRate(model, optimizer, 0.0),
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
    "leave_one_out": Remedy(
        "leave-one-out rows",
        remedy=hook(SumRows),
        **TAU,
        group="own label",
        formula=r"w_0 - \eta (G - g_k) / \sqrt{S - g_k^2 + c}",
        source="a control of chapter 9; its rows are sums, so its rates are 30 times as high",
        needs="a vector for each lookup of an infrequent row",
        scale=lambda _: 30.0,
    ),
    "meda_l2": Remedy(
        "MEDA + L2 on touched rows",
        remedy=hook(_with_l2, reset=meda),
        group="pair",
        formula=r"\text{both}",
        source="a pair",
        needs=_REPEATS,
        **_L2,
    ),
    "meda_fal": Remedy(
        "MEDA + FAL",
        row_lr=lambda _: FrequencyAdaptiveLR(),
        remedy=lambda model, optimizer, **_: meda(model, optimizer),
        group="pair",
        formula=r"\text{both}",
        source="a pair",
        needs=_COUNTS,
    ),
    "blend_l2": Remedy(
        "tail rewind, blended + L2 on touched rows",
        remedy=hook(_with_l2, reset=_blended),
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

"""The board: one entry a remedy. An entry is all that a new remedy needs beside its class."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from multiepoch.data import Log
from multiepoch.methods import METHODS, OWN_LABEL_METHODS, Method
from multiepoch.optim import FrequencyAdaptiveLR
from multiepoch.remedies import LeaveOneOutRows, Rewind, meda, tail_rewind
from reproduction.ch11_board.remedies import hooks

# From the training window and the hyperparameter: changes every log, the training window's own too.
Prepare = Callable[[Log, Any], Callable[[Log], Log]]


@dataclass(frozen=True)
class Remedy:
    """An entry of the board.

    Attributes:
        label: Its name on the board.
        group: The kind of remedy, for figures.
        formula: What it does, in LaTeX.
        source: Where it is from, and which reading of it this is.
        needs: What a training job must keep or know for it.
        method: Builds the optimizer, and what acts between and within epochs.
        grid: The values of its hyperparameter that the search tries.
        hyperparameter: The name of the hyperparameter; "" for none.
        prepare: Changes the logs, such as their ids.
        labels: Changes the labels of the training window: a function of (log, hyperparameter).
        model: Options of the ConversionModel by the hyperparameter.
        whole_tables: For `hooks.WholeTables`: whether the decay is decoupled. None for row updates.
        scale: Multiplies the tables' rates of the search, if its rule needs others.
        dense_factors: The factors of the dense rate from epoch 2 on that the search tries.
    """

    label: str
    group: str
    formula: str
    source: str
    needs: str = "nothing"
    method: Method = METHODS["plain"]
    grid: tuple[Any, ...] = (None,)
    hyperparameter: str = ""
    prepare: Prepare | None = None
    labels: Callable[[Log, Any], Log] | None = None
    model: Callable[[Any], dict] = lambda value: {}
    whole_tables: bool | None = None
    scale: Callable[[Any], float] = lambda value: 1.0
    dense_factors: tuple[float, ...] = (1.0, 0.1)


def hashed(log: Log, share: float) -> Callable[[Log], Log]:
    """Returns a function that hashes each id column into `share` of its rows."""
    sizes = {name: max(1, round(share * n)) for name, n in log.schema.cardinality.items()}

    def change(one: Log) -> Log:
        # The multiplier is odd and large, so that the ids that meet are far apart.
        ids = {k: ((v * 0x9E3779B97F4A7C1) >> 16) % sizes[k] for k, v in one.ids.items()}
        return replace(one, ids=ids, schema=replace(one.schema, cardinality=sizes))

    return change


def filtered(log: Log, below: int) -> Callable[[Log], Log]:
    """Returns a function that gives all ids seen fewer than `below` times one row together."""
    new: dict[str, Tensor] = {}
    for name, n in log.schema.cardinality.items():
        kept = torch.bincount(log.ids[name], minlength=n) >= below
        new[name] = torch.where(kept, kept.cumsum(0) - 1, kept.sum())
    sizes = {name: int(row.max()) + 1 for name, row in new.items()}

    def change(one: Log) -> Log:
        ids = {name: new[name][column] for name, column in one.ids.items()}
        return replace(one, ids=ids, schema=replace(one.schema, cardinality=sizes))

    return change


def smoothed(log: Log, share: float) -> Log:
    """Moves each label towards its objective's mean by `share` of the way."""
    return log.with_labels(log.labels.lerp(log.labels.mean(dim=0), share))


def _method(make: Callable[..., Any], **row_options: Any) -> Method:
    """Returns a method whose hook is make(model, optimizer, hyperparameter)."""

    def rewind(model, optimizer, hyperparameter, **_):
        return make(model, optimizer, hyperparameter)

    return Method("", rewind=rewind, **row_options)


def _with_l2(reset: Callable[..., Any]) -> Method:
    """Returns a method that joins reset(model, optimizer) and an L2 penalty on touched rows."""

    def make(model, optimizer, coefficient):
        l2 = hooks.TouchedL2(model, optimizer, coefficient)
        return hooks.Together(model, optimizer, reset(model, optimizer), l2)

    return _method(make)


def _with_fal(reset: Callable[..., Any]) -> Method:
    """Returns a method that joins reset(model, optimizer, hyperparameter) and FAL(log)."""
    return _method(reset, row_lr=lambda _: FrequencyAdaptiveLR())


def _blended(model, optimizer, tau: float):
    return tail_rewind(model, optimizer, tau, "reinit", serve="blend")


_TAU = {"hyperparameter": "τ", "grid": (20, 50, 100, 500)}
_L2 = {"hyperparameter": "λ", "grid": (1e-6, 1e-5, 3e-5, 1e-4)}
_COUNTS, _NO_TABLE = "lookups by row", "the tables as one dense parameter"

BOARD: dict[str, Remedy] = {
    "plain": Remedy(
        "plain", "reference", r"w \leftarrow w - \eta_T\,d", "the reference", dense_factors=(1.0,)
    ),
    "low_rate": Remedy(
        "lower table rate",
        "rate",
        r"\eta_T \leftarrow f\,\eta_T",
        "the control that MEDA's reviewers asked for",
        hyperparameter="f",
        grid=(0.3, 0.1, 0.03, 0.01),
        scale=lambda f: f,
        dense_factors=(1.0,),
    ),
    "dense_factor": Remedy(
        "dense rate falls from epoch 2",
        "rate",
        r"\eta_D \leftarrow f\,\eta_D,\quad e \ge 2",
        "chapter 7",
        "to know that the data repeat",
        hyperparameter="f, of the dense rate",
        dense_factors=(0.3, 0.1, 0.03, 0.01),
    ),
    "fal": Remedy(
        "FAL",
        "rate",
        r"\eta_T[i] = \eta_T \log(F_i + 1) / \log(\max_j F_j + 1)",
        "Qiu et al., arXiv 2505.05605; log, linear or a threshold",
        _COUNTS,
        METHODS["fal"],
        ("log", "linear", "square root", "threshold 20"),
        "scale",
    ),
    "meda": Remedy(
        "MEDA",
        "reset",
        r"w_i \sim p_0,\quad \text{before each epoch } e \ge 2",
        "Liu et al., arXiv 2305.19531",
        "to know that the data repeat",
        METHODS["meda"],
    ),
    "threshold_meda": Remedy(
        "MEDA for large tables",
        "reset",
        r"w_i \sim p_0 \text{ if } |T| > V",
        "baseline of the TAAC 2026 conversion task; under Adam, whose moments are reset too",
        "a threshold of rows",
        Method(
            "",
            rewind=lambda model, optimizer, hyperparameter, seed, **_: Rewind(
                model, optimizer, seed=seed, min_rows=hyperparameter + 1
            ),
        ),
        (100, 1_000, 7_000, 20_000),
        "V",
    ),
    "tail_rewind": Remedy(
        "tail rewind",
        "reset",
        r"w_i \sim p_0 \text{ if } F_i < \tau",
        "ours, chapter 7",
        f"{_COUNTS}, a threshold",
        METHODS["tail_rewind"],
        **_TAU,
    ),
    "tail_rewind_blend": Remedy(
        "tail rewind, blended",
        "reset",
        r"w_\text{served} = s_i w_i + (1 - s_i) w_i^\text{old}",
        "ours, chapter 10",
        f"{_COUNTS}, a threshold, a second copy of the tail",
        OWN_LABEL_METHODS["tail_rewind_blend"],
        **_TAU,
    ),
    "adamar": Remedy(
        "AdamAR, on touch",
        "decay",
        r"w_i \leftarrow \max(0, 1 - \alpha I)\,w_i \text{ when touched after } I \text{ steps}",
        "arXiv 2511.06374 as we read it; the rate does not multiply α",
        "the step of each row's last update",
        METHODS["adamar"],
        (1e-4, 1e-3, 1e-2, 1e-1),
        "α",
    ),
    "adamar_everywhere": Remedy(
        "AdamAR, every row in every step",
        "decay",
        r"w_i \leftarrow \max(0, 1 - \alpha I)\,w_i \text{ in every step}",
        "arXiv 2511.06374, second reading: a row decays while it waits",
        "the step of each row's last update; a pass over the tables in each step",
        _method(partial(hooks.WaitingDecay, reading="everywhere")),
        (1e-6, 1e-5, 1e-4, 1e-3),
        "α",
    ),
    "adamar_fbgemm": Remedy(
        "AdamAR, times the rate",
        "decay",
        r"w_i \leftarrow \max(0.1, 1 - \eta_T \alpha I)\,w_i \text{ when touched}",
        "third reading: ROWWISE_RMSPROP_AR of FBGEMM 1.9, under Adam",
        "the step of each row's last update",
        _method(partial(hooks.WaitingDecay, reading="fbgemm")),
        (1e-2, 1e-1, 1.0, 10.0),
        "α",
    ),
    "touched_l2": Remedy(
        "L2 on touched rows",
        "decay",
        r"g_i \leftarrow g_i + \lambda w_i \text{ if touched}",
        "common in sparse frameworks",
        "nothing",
        _method(hooks.TouchedL2),
        **_L2,
    ),
    "whole_l2": Remedy(
        "L2 on whole tables, Adam",
        "decay",
        r"g_i \leftarrow g_i + \lambda w_i \text{ for all } i",
        "as FuxiCTR has it; chapter 12",
        _NO_TABLE,
        grid=(1e-7, 1e-6, 1e-5, 1e-4),
        hyperparameter="λ",
        whole_tables=False,
    ),
    "adamw": Remedy(
        "AdamW on tables",
        "decay",
        r"w_i \leftarrow (1 - \eta_T \lambda)\,w_i - \eta_T d_i \text{ for all } i",
        "Loshchilov and Hutter, arXiv 1711.05101",
        _NO_TABLE,
        grid=(1e-2, 1e-1, 0.3, 1.0),
        hyperparameter="λ",
        whole_tables=True,
    ),
    "filter": Remedy(
        "frequency filter",
        "ids",
        r"i \leftarrow 0 \text{ if } F_i < m",
        "Zhang et al., arXiv 2209.06053, among others",
        "a pass over the data, or counts",
        grid=(2, 5, 10, 30),
        hyperparameter="m",
        prepare=filtered,
    ),
    "hash_tenth": Remedy(
        "hashing to a tenth",
        "ids",
        r"i \leftarrow h(i) \bmod |T|/10",
        "Zhang et al., arXiv 2209.06053",
        prepare=lambda log, _: hashed(log, 0.1),
    ),
    "hash_hundredth": Remedy(
        "hashing to a hundredth",
        "ids",
        r"i \leftarrow h(i) \bmod |T|/100",
        "Zhang et al., arXiv 2209.06053",
        prepare=lambda log, _: hashed(log, 0.01),
    ),
    "small_dim": Remedy(
        "smaller dimension",
        "ids",
        r"w_i \in \mathbb{R}^{d},\quad d < 16",
        "the usual advice",
        grid=(1, 2, 4, 8),
        hyperparameter="d",
        model=lambda d: {"embedding_dim": d},
    ),
    "dropout": Remedy(
        "embedding dropout",
        "noise",
        r"w_{ik} \leftarrow w_{ik} b_{ik} / (1 - p),\; b \sim \mathrm{Bernoulli}(1 - p)",
        "Srivastava et al., JMLR 2014",
        method=_method(hooks.Dropout),
        grid=(0.1, 0.2, 0.4, 0.6),
        hyperparameter="p",
    ),
    "row_dropout": Remedy(
        "row dropout from epoch 2",
        "noise",
        r"w_i \leftarrow 0 \text{ with probability } p,\; e \ge 2",
        "ours, a control",
        "to know that the data repeat",
        _method(partial(hooks.Dropout, rows=True, from_epoch=1)),
        (0.1, 0.2, 0.4, 0.6),
        "p",
    ),
    "sse": Remedy(
        "stochastic shared embeddings",
        "noise",
        r"i \leftarrow j \sim \mathrm{Uniform}(T) \text{ with probability } p",
        "Wu et al., arXiv 1905.10630 (SSE-SE)",
        method=_method(hooks.SharedEmbeddings),
        grid=(0.01, 0.03, 0.1, 0.3),
        hyperparameter="p",
    ),
    "cowclip": Remedy(
        "CowClip",
        "rate",
        r"|g_i| \le F_i^\text{batch} \max(r |w_i|, 10^{-5})",
        "Zheng et al., arXiv 2204.06240",
        method=_method(hooks.CowClip),
        grid=(1e-5, 1e-4, 1e-3, 1e-2),
        hyperparameter="r",
    ),
    "label_smoothing": Remedy(
        "label smoothing",
        "noise",
        r"y \leftarrow (1 - \varepsilon)\,y + \varepsilon \bar y",
        "Szegedy et al., arXiv 1512.00567; towards the objective's mean, which keeps calibration",
        grid=(0.03, 0.1, 0.2, 0.4),
        hyperparameter="ε",
        labels=smoothed,
    ),
    "sensitivity": Remedy(
        "sensitivity penalty",
        "dense layers",
        r"\lambda \textstyle\sum_t |\partial z / \partial w_t|^2 / n_t \text{, dense layers only}",
        "what can be built from the abstract of UWSR, arXiv 2609.34083",
        f"{_COUNTS}, a second forward and backward pass",
        _method(hooks.SensitivityPenalty),
        (1e-3, 1e-2, 1e-1, 1.0),
        "λ",
    ),
    "frozen_tables": Remedy(
        "tables frozen from epoch 2",
        "dense layers",
        r"\eta_T = 0,\quad e \ge 2",
        "Zhang et al., arXiv 2209.06053, as a diagnosis",
        "to know that the data repeat",
        _method(lambda model, optimizer, _: hooks.LaterTableRate(model, optimizer, 0.0)),
    ),
    "frozen_dense": Remedy(
        "dense layers frozen from epoch 2",
        "dense layers",
        r"\eta_D = 0,\quad e \ge 2",
        "Zhang et al., arXiv 2209.06053, as a diagnosis",
        "to know that the data repeat",
        dense_factors=(0.0,),
    ),
    "two_fold": Remedy(
        "two-fold tables",
        "own label",
        r"\text{dense layers on fold } k \text{ read tables of fold } 1 - k",
        "a control of chapter 10",
        "three copies of the tables, three passes a batch",
        OWN_LABEL_METHODS["two_fold"],
    ),
    "leave_one_out": Remedy(
        "leave-one-out rows",
        "own label",
        r"w_0 - \eta (G - g_k) / \sqrt{S - g_k^2 + c}",
        "a control of chapter 10; its rows are sums, so its rates are 30 times as high",
        "a vector for each lookup of an infrequent row",
        _method(lambda model, optimizer, tau: LeaveOneOutRows(model, optimizer, float(tau))),
        scale=lambda _: 30.0,
        **_TAU,
    ),
    "meda_l2": Remedy(
        "MEDA + L2 on touched rows",
        "pair",
        r"\text{both}",
        "a pair",
        "to know that the data repeat",
        _with_l2(meda),
        **_L2,
    ),
    "meda_fal": Remedy(
        "MEDA + FAL",
        "pair",
        r"\text{both}",
        "a pair",
        _COUNTS,
        _with_fal(lambda model, optimizer, _: meda(model, optimizer)),
    ),
    "blend_l2": Remedy(
        "tail rewind, blended + L2 on touched rows",
        "pair",
        r"\text{both},\; \tau = 100",
        "a pair",
        f"{_COUNTS}, a threshold, a second copy of the tail",
        _with_l2(partial(_blended, tau=100)),
        **_L2,
    ),
    "blend_fal": Remedy(
        "tail rewind, blended + FAL",
        "pair",
        r"\text{both}",
        "a pair",
        f"{_COUNTS}, a threshold, a second copy of the tail",
        _with_fal(_blended),
        **_TAU,
    ),
}

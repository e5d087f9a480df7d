"""The one registry of what a run can train by; those of a `group` are the lines of the board.

A new remedy is its class and an entry here.
"""

from functools import partial
from typing import Any

from multiepoch_lab.data import Log
from multiepoch_lab.model import AdditiveModel
from reproduction.remedies import hooks
from reproduction.remedies.baselines import FactorizationMachine
from reproduction.remedies.remedy import OnWholeTables, Remedy, of


def without_sparsest(window: Log, held_out: Log, _: Any) -> tuple[Log, Log]:
    """Drops the id column with the most distinct values in the window."""
    sparsest = max(window.ids, key=lambda name: len(window.ids[name].unique()))
    return window.without(sparsest), held_out.without(sparsest)


def _touched_l2(model, optimizer, hyperparameter, seed, epochs, even):
    return hooks.TouchedL2(model, hyperparameter, even)


_ONCE = {"group": "reference", "once": True, "dense_factors": (1.0,)}
_COUNTS, _NO_TABLE = "lookups by row", "the tables as one dense parameter"
_REPEATS = "to know that the data repeat"
_TAIL = {
    "group": "reset",
    "formula": r"w_i \sim p_0 \text{ if } F_i < \tau",
    "source": "ours, chapter 8",
    "needs": f"{_COUNTS}, a threshold",
}

METHODS: dict[str, Remedy] = {
    "plain": of(
        "plain",
        "plain",
        group="reference",
        formula=r"w \leftarrow w - \eta_T\,d",
        source="the reference",
        dense_factors=(1.0,),
    ),
    "adam_once": of("plain", "one epoch, Adam on the tables", rule="adam", **_ONCE),
    "additive_once": Remedy(
        label="one epoch, additive model",
        network=AdditiveModel,
        formula=r"z = b + \textstyle\sum_t b_{t,i}",
        source="logistic regression on ids; a bias for each",
        rule="adagrad",  # a row holds an objective's bias beside another's
        **_ONCE,
    ),
    "low_rate": Remedy(
        label="lower table rate",
        group="rate",
        formula=r"\eta_T \leftarrow f\,\eta_T",
        source="the control that MEDA's reviewers asked for",
        hyperparameter="f",
        grid=(0.3, 0.1, 0.03, 0.01),
        scale=lambda f: f,
        dense_factors=(1.0,),
    ),
    "dense_factor": Remedy(
        label="dense rate falls from epoch 2",
        group="rate",
        formula=r"\eta_D \leftarrow f\,\eta_D,\quad e \ge 2",
        source="chapter 8",
        needs=_REPEATS,
        hyperparameter="f, of the dense rate",
        dense_factors=(0.3, 0.1, 0.03, 0.01),
    ),
    "fal": of(
        "fal",
        "FAL",
        group="rate",
        formula=r"\eta_T[i] = \eta_T \log(F_i + 1) / \log(\max_j F_j + 1)",
        source="Qiu et al., arXiv 2505.05605; log, linear or a threshold",
        needs=_COUNTS,
    ),
    "meda": of(
        "meda",
        "MEDA",
        group="reset",
        formula=r"w_i \sim p_0,\quad \text{before each epoch } e \ge 2",
        source="Liu et al., arXiv 2305.19531",
        needs=_REPEATS,
    ),
    "tail_rewind": of("tail_rewind", "tail rewind", **_TAIL),
    "tail_rewind_blend": of(
        "tail_rewind_blend",
        "tail rewind, blended",
        group="reset",
        formula=r"w_\text{served} = s_i w_i + (1 - s_i) w_i^\text{old}",
        source="ours",
        needs=f"{_COUNTS}, a threshold, a second copy of the tail",
    ),
    "tail_rewind_held": of(
        "tail_rewind",
        "tail rewind, last epoch's model served",
        held_back="tail_rewind",
        **_TAIL,
    ),
    "adamar": of(
        "adamar",
        "AdamAR",
        group="decay",
        formula=r"w_i \leftarrow \max(0, 1 - \alpha I)\,w_i "
        r"\text{ when touched after } I \text{ steps}",
        source="arXiv 2511.06374 as we read it; the rate does not multiply α",
        needs="the step of each row's last update",
    ),
    "touched_l2": Remedy(
        label="L2 on touched rows",
        remedy=partial(_touched_l2, even=False),
        group="decay",
        formula=r"g_i \leftarrow g_i + \lambda w_i \text{ if touched}",
        source="common in sparse frameworks; frequent rows shrink more, as in DiFacto (WSDM 2016)",
        hyperparameter="λ",
        grid=(1e-6, 1e-5, 3e-5, 1e-4),
    ),
    "even_l2": Remedy(
        label="L2 on touched rows by 1/n",
        remedy=partial(_touched_l2, even=True),
        group="decay",
        formula=r"g_i \leftarrow g_i + \lambda w_i / F_i \text{ if touched}",
        source="mini-batch aware L2, DIN, arXiv 1706.06978",
        needs=_COUNTS,
        hyperparameter="λ",
        grid=(1e-4, 1e-3, 1e-2, 1e-5),
    ),
    "whole_l2": OnWholeTables(
        label="L2 on whole tables, Adam",
        group="decay",
        formula=r"g_i \leftarrow g_i + \lambda w_i \text{ for all } i",
        source="as FuxiCTR has it; chapter 11",
        rule="adam",
        needs=_NO_TABLE,
        hyperparameter="λ",
        grid=(1e-7, 1e-6, 1e-5, 1e-4),
    ),
    "adamw": OnWholeTables(
        label="AdamW on tables",
        group="decay",
        formula=r"w_i \leftarrow (1 - \eta_T \lambda)\,w_i - \eta_T d_i \text{ for all } i",
        source="Loshchilov and Hutter, arXiv 1711.05101",
        rule="adam",
        needs=_NO_TABLE,
        hyperparameter="λ",
        grid=(1e-2, 1e-1, 0.3, 1.0),
        decoupled=True,
    ),
    "no_cross": Remedy(
        label="sparsest column dropped",
        group="ids",
        formula=r"\text{without the ids of one column}",
        source="the control that costs least",
        logs=without_sparsest,
    ),
    "two_fold": of(
        "two_fold",
        "two-fold tables",
        group="own label",
        formula=r"\text{dense layers on fold } k \text{ read tables of fold } 1 - k",
        source="a control",
        needs="three copies of the tables, three passes a batch",
    ),
    "leave_one_out_votes": of(
        "leave_one_out_votes",
        "leave-one-out rows",
        group="own label",
        formula=r"w - v_k,\quad v_k = -\eta\,g_k / \sqrt{m\,(n + 4)}",
        source="ours",
        needs="a vote for each lookup",
        scale=lambda _: 3.0,
    ),
    # Not on the board.
    "meda_blend": of("meda_blend", "MEDA, blended"),
    "meda_restored": of("meda_restored", "MEDA (restored)"),
    "meda_groups": of("meda_groups", "MEDA (groups)"),
    "day_tail_rewind": of("day_tail_rewind", "tail rewind (to the day's start)"),
    "day_tail_rewind_blend": of(
        "day_tail_rewind_blend", "tail rewind (to the day's start), blended"
    ),
    "additive": Remedy(label="additive model", network=AdditiveModel),
    "machine": Remedy(label="factorization machine", network=FactorizationMachine),
}
BASELINES = ("additive", "machine")  # by which the interplay of ids is measured
BOARD = {name: one for name, one in METHODS.items() if one.group}

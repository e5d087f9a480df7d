"""The record of a comparison: everything that the report shows, as JSON values and estimates."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np

from multiepoch_compare import plan, verdict
from multiepoch_compare.estimates import Estimate, Losses, difference
from multiepoch_compare.run import GROUPS, Parts, rates

_FIELDS = "epochs", "trained", "before", "onset", "second", "last", "in_one_epoch", "quarter"
_FIELDS += "against_constant", "against_plain", "against_advised"


def record(
    objectives: tuple[str, ...], epochs: int, parts: Parts, results, choices, control
) -> dict:
    """Judges the results and choices by label and the control, as from `tune.tune_and_run`."""
    sizes = parts.sizes()
    losses = {label: Losses(several, sizes) for label, several in results.items()}
    tuning = {label: Losses(one, sizes, "tuning_blocks") for label, one in results.items()}
    constant = Losses([{"blocks": parts.constant()[None]}], sizes)
    seen = verdict.own_label(results["plain"], control)
    n, half, needed = len(parts.test), parts.half_width(), plan.rows_needed(rates(parts.test))
    judged = verdict.judge(
        choices,
        losses,
        tuning,
        constant,
        quarters={label: verdict.quarter(several) for label, several in results.items()},
        seen=seen,
        refusal=verdict.too_few(n, half, needed) if half > plan.COARSEST else None,
    )
    tail = [choice.trial.hyperparameter for k, choice in choices.items() if k == plan.TAIL]
    methods = []
    for v in judged.verdicts:
        own, several = losses[v.label], results[v.label]
        groups = np.mean([r["groups"][: v.trained] for r in several], axis=0)
        methods.append(
            {
                "label": v.label,
                "setting": f"{v.label}: {v.choice.trial.in_words()}",
                "trial": asdict(v.choice.trial),
                **{name: getattr(v, name) for name in _FIELDS},
                "second_by_objective": {
                    name: difference(own, 2, own, 1, k) for k, name in enumerate(objectives)
                },
                "logloss_by_epoch": [
                    own.at(epoch)[0].mean(0).tolist() for epoch in range(1, v.trained + 1)
                ],
                "curves": _curves(several, v.trained),
                "groups": _means(groups, sizes["groups"]).tolist(),
                "seconds_an_epoch": float(
                    np.median([r["seconds"] / len(r["blocks"]) for r in several])
                ),
                "bytes": several[0]["bytes"],
            }
        )
    return {
        "headline": judged.headline,
        "own_label": seen and vars(seen),
        "baseline": judged.baseline,
        "advised": judged.advised,
        "interplay": judged.interplay,
        "half_width": half,
        "rows_needed": needed,
        "tail": [tail[0], *parts.below(float(tail[0]))] if tail else None,
        "constant": constant.at(1)[0][0].tolist(),
        "objectives": list(objectives),
        "epochs": epochs,
        "methods": methods,
        "group_column": parts.column,
        "group_names": list(GROUPS),
        "group_sizes": sizes["groups"].tolist(),
        "frequencies": parts.frequencies(),
    }


def dumps(found: dict) -> str:
    return json.dumps(found, indent=1, allow_nan=False, default=asdict) + "\n"


def loads(text: str) -> dict:
    """Reads a record; differences are estimates again."""

    def revived(value: dict):
        return Estimate(**value) if value.keys() == {"mean", "low", "high"} else value

    return json.loads(text, object_hook=revived)


def _means(sums: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Divides the sums over groups, (..., n_groups), by the weights of the groups, (n_groups,)."""
    return sums / np.where(sizes > 0, sizes, 1)


def _curves(several: list[dict], trained: int) -> dict:
    """Returns metric -> objective -> [[epoch, value of each seed ...], ...] on the test day."""
    curves: dict = {}
    for result in several:
        for part, epoch, objective, metric, value in result["points"]:
            if part == "test" and epoch <= trained:
                points = curves.setdefault(metric, {}).setdefault(objective, {})
                points.setdefault(epoch, [epoch]).append(value)
    for of in curves.values():
        of.update({objective: sorted(points.values()) for objective, points in of.items()})
    return curves

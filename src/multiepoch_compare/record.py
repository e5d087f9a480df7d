"""The record of a comparison: everything that the report shows, as JSON values and estimates."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np

from multiepoch_compare import plan, verdict
from multiepoch_compare.estimates import Estimate, Losses
from multiepoch_compare.outlook import Outlook
from multiepoch_compare.run import Parts

_FIELDS = "epochs", "trained", "second", "in_one_epoch", "repeats"
_FIELDS += "against_constant", "against_plain", "against_advised"


def record(parts: Parts, outlook: Outlook, results, choices, edges) -> dict:
    """Judges what `tune.tune_and_run` returned. The column that is dropped is named."""
    sizes, objectives = parts.sizes(), parts.test.objectives
    losses = {label: Losses(several, sizes) for label, several in results.items()}
    tuning = {label: Losses(one, sizes, "tuning_blocks") for label, one in results.items()}
    constant = Losses([{"blocks": parts.constant()[None]}], sizes)
    judged = verdict.judge(
        choices,
        losses,
        tuning,
        constant,
        reasons=outlook.reasons,
        edges=edges,
    )

    def named(text: str) -> str:
        return text.replace(plan.DROPPED, f"{plan.ADAGRAD} without {parts.column}")

    methods = []
    for v in judged.verdicts:
        own, several = losses[v.label], results[v.label]
        seconds = np.median([one["seconds"] / len(one["blocks"]) for one in several])
        methods.append(
            {
                "label": named(v.label),
                "setting": named(f"{v.label}: {v.choice.trial.in_words()}"),
                "trial": asdict(v.choice.trial),
                **{name: getattr(v, name) for name in _FIELDS},
                "cost": v.choice.cost,
                "at_edge": v.label in edges,
                "quarter": verdict.quarter(several),
                "logloss_by_epoch": [
                    own.at(epoch)[0].mean(0).tolist() for epoch in range(1, v.trained + 1)
                ],
                "curves": _curves(several, v.trained),
                "seconds_an_epoch": float(seconds),
                "bytes": several[0]["bytes"],
            }
        )
    gains = [v.against_plain for v in judged.verdicts if v.label != judged.baseline[0]]
    return {
        "headline": [named(sentence) for sentence in judged.headline],
        "baseline": judged.baseline,
        "advised": judged.advised and [named(judged.advised[0]), judged.advised[1]],
        "outlook": asdict(outlook),
        "half_measured": float(np.median([(one.high - one.low) / 2 for one in gains])),
        "constant": constant.at(1)[0][0].tolist(),
        "objectives": list(objectives),
        "methods": methods,
        "unseen": parts.unseen(),
    }


def dumps(found: dict) -> str:
    return json.dumps(found, indent=1, allow_nan=False, default=asdict) + "\n"


def loads(text: str) -> dict:
    """Reads a record; differences are estimates again."""

    def revived(value: dict):
        return Estimate(**value) if value.keys() == {"mean", "low", "high"} else value

    return json.loads(text, object_hook=revived)


def _curves(several: list[dict], trained: int) -> dict:
    """Returns metric -> objective -> [[epoch, value of each seed ...], ...] on the test days."""
    curves: dict = {}
    for result in several:
        for part, epoch, objective, metric, value in result["points"]:
            if part == "test" and epoch <= trained:
                points = curves.setdefault(metric, {}).setdefault(objective, {})
                points.setdefault(epoch, [epoch]).append(value)
    for of in curves.values():
        of.update({objective: sorted(points.values()) for objective, points in of.items()})
    return curves

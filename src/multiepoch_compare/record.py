"""The record of a comparison: everything that the report shows, as JSON values."""

from __future__ import annotations

import math
from dataclasses import asdict

import numpy as np

from multiepoch_compare import verdict
from multiepoch_compare.run import GROUPS, Parts


def record(objectives: tuple[str, ...], epochs: int, parts: Parts, results, choices) -> dict:
    """Judges the results and choices by label, as from `run.tune_and_run`."""
    block_sizes, group_sizes = parts.sizes()
    losses = {label: verdict.Losses(several, block_sizes) for label, several in results.items()}
    found = verdict.verdicts(choices, losses, epochs)
    sentence, ties = verdict.recommend(found, losses)
    methods = []
    for v in found:
        own, several = losses[v.label], results[v.label]
        groups = np.mean([r["groups"] for r in several], axis=0)  # (epochs, objectives, groups)
        by_objective = {k: verdict.difference(own, 2, own, 1, i) for i, k in enumerate(objectives)}
        methods.append(
            {
                "label": v.label,
                "setting": f"{v.label}: {v.choice.trial.in_words()}",
                "trial": asdict(v.choice.trial),
                "epochs": v.choice.epochs,
                "against_plain": asdict(v.against_plain),
                "later": asdict(v.later) if v.later else None,
                "second": asdict(v.second),
                "collapses": v.collapses,
                "verdict": v.in_words(epochs),
                "second_by_objective": {k: asdict(change) for k, change in by_objective.items()},
                "logloss_by_epoch": [own.at(p)[0].mean(0).tolist() for p in range(1, epochs + 1)],
                "curves": _curves(several),
                "groups": (groups / np.maximum(group_sizes, 1)).tolist(),
                "seconds_an_epoch": float(np.median([r["seconds"] for r in several])) / epochs,
                "bytes": several[0]["bytes"],
            }
        )
    return {
        "baseline": verdict.baseline(choices),
        "recommendation": sentence,
        "ties": ties,
        "objectives": list(objectives),
        "epochs": epochs,
        "methods": methods,
        "group_column": parts.column,
        "group_names": list(GROUPS),
        "group_sizes": group_sizes.tolist(),
        "frequencies": parts.frequencies(),
    }


def _curves(several: list[dict]) -> dict:
    """Returns metric -> objective -> [[epoch, value of each seed ...], ...] on the test day."""
    curves: dict = {}
    for result in several:
        for part, epoch, objective, metric, value in result["points"]:
            if part == "test":
                points = curves.setdefault(metric, {}).setdefault(objective, {})
                points.setdefault(epoch, [epoch]).append(value)
    for of in curves.values():
        of.update({objective: sorted(points.values()) for objective, points in of.items()})
    return curves


def finite(value):
    """Replaces the infinite bounds of one seed by None, since JSON has no infinity."""
    if isinstance(value, dict):
        return {key: finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

"""The record of a comparison: everything that the report shows, as JSON values."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np

from multiepoch_compare import verdict
from multiepoch_compare.run import GROUPS, Parts

TAIL = "tail rewind"
DIFFERENCES = ("against_constant", "against_plain", "against_advised", "second", "last")


def record(
    objectives: tuple[str, ...], epochs: int, parts: Parts, results, choices, control
) -> dict:
    """Judges the results and choices by label and the control, as from `run.tune_and_run`."""
    block_sizes, group_sizes = parts.sizes()
    losses = {label: verdict.Losses(several, block_sizes) for label, several in results.items()}
    constant = verdict.Losses([{"blocks": parts.constant()[None]}], block_sizes)
    judged = verdict.judge(choices, losses, constant)
    seen = verdict.own_label(results["plain"], control)
    answer, *others = judged.headline
    tail = [choice.trial.hyperparameter for label, choice in choices.items() if label == TAIL]
    methods = []
    for v in judged.verdicts:
        own, several = losses[v.label], results[v.label]
        groups = np.mean([r["groups"] for r in several], axis=0)  # (epochs, objectives, groups)
        by_objective = {k: verdict.difference(own, 2, own, 1, i) for i, k in enumerate(objectives)}
        methods.append(
            {
                "label": v.label,
                "setting": f"{v.label}: {v.choice.trial.in_words()}",
                "trial": asdict(v.choice.trial),
                "epochs": v.epochs,
                "before": v.before,
                "onset": v.onset,
                **{name: asdict(getattr(v, name)) for name in DIFFERENCES},
                "second_by_objective": {k: asdict(change) for k, change in by_objective.items()},
                "logloss_by_epoch": [own.at(p)[0].mean(0).tolist() for p in range(1, epochs + 1)],
                "curves": _curves(several),
                "groups": _means(groups, group_sizes).tolist(),
                "seconds_an_epoch": float(np.median([r["seconds"] for r in several])) / epochs,
                "bytes": several[0]["bytes"],
            }
        )
    return {
        "headline": [answer, *([verdict.seen_in_words(seen)] if seen else []), *others],
        "own_label": seen and asdict(seen),
        "baseline": judged.baseline,
        "advised": judged.advised,
        "tail": [tail[0], *parts.below(float(tail[0]))] if tail else None,
        "constant": constant.at(1)[0][0].tolist(),
        "objectives": list(objectives),
        "epochs": epochs,
        "methods": methods,
        "group_column": parts.column,
        "group_names": list(GROUPS),
        "group_sizes": group_sizes.tolist(),
        "frequencies": parts.frequencies(),
    }


def _means(sums: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Divides the sums over groups, (..., n_groups), by the weights of the groups, (n_groups,)."""
    return sums / np.where(sizes > 0, sizes, 1)


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

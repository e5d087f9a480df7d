"""The trials of a comparison: tuning, then more seeds of each chosen setting."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from multiepoch_compare import plan, run, verdict
from multiepoch_compare.estimates import Losses, difference
from multiepoch_compare.run import Setup, rates, read_parts
from multiepoch_lab.data.log import DataError
from multiepoch_lab.runner import KeptRunner, run_key
from multiepoch_lab.train import NonFiniteLoss

# A change of these makes kept trials stale.
_CODE = ("multiepoch", "multiepoch_lab", "multiepoch_compare")


def keep(item: tuple[plan.Trial, Setup], path: Path) -> None:
    """Writes the trial, its status ("ok" or "diverged") and its result to a JSON file."""
    trial, setup = item
    try:
        result = {"status": "ok", **run.execute(trial, setup)}
    except NonFiniteLoss:
        result = {"status": "diverged"}
    path.write_text(json.dumps({"trial": asdict(trial), **result}))


def tune_and_run(
    setup: Setup,
    store: Path,
    candidates: dict[str, list[plan.Trial]],
    around: Callable[[plan.Trial, float], dict[str, list[plan.Trial]]],
    seeds: int,
    say: Callable[[str], None],
) -> tuple[dict[str, list[dict]], dict[str, verdict.Choice], list[dict]]:
    """Tunes every method, for one epoch or for several, then runs its choice with other seeds.

    around: As `plan.around`. Returns the results of the choice for each seed and the choice, both
    by label, and, if plain training collapses in epoch 2, the results of `plan.control` for each
    seed. Raises DataError if training diverges with each setting of a method, or with another seed.
    """
    parts = read_parts(setup)
    of_ones = dict(zip(parts.validation.objectives, rates(parts.validation)))
    short = replace(setup, epochs=1.25)  # the jump is all that is asked of the control
    remedy = "look for extreme values in the dense features"
    tuned: dict[str, list[dict]] = {}
    choices: dict[str, verdict.Choice] = {}
    with KeptRunner(keep, os.cpu_count() or 1, lambda pair: str(pair[0]), say, 0) as runner:

        def run_all(what: str, trials: Sequence[plan.Trial]) -> list[dict]:
            items = [(one, short if one.label == plan.CONTROL else setup) for one in trials]
            known = ([asdict(one), asdict(replace(its, shared=None))] for one, its in items)
            paths = [store / f"{run_key(settings, *_CODE)}.json" for settings in known]
            of = dict(zip(paths, items))  # lines of the same setting share a run
            say(f"{what}: {len(of)} runs of {setup.epochs} epochs")
            runner.total += len(of)
            runner([*of.values()], [*of])
            return [json.loads(path.read_text()) for path in paths]

        def tune(several: dict[str, list[plan.Trial]]) -> None:
            found = iter(run_all("tuning", [trial for one in several.values() for trial in one]))
            for label, one in several.items():
                tuned[label] = tuned.get(label, []) + [next(found) for _ in one]

        def choose(label: str, name: str, *epochs: int | None) -> None:
            choice = verdict.choose(tuned[label], of_ones, *epochs)
            if choice is None:
                raise DataError(f"{label} diverges at every learning rate; {remedy}.")
            choices[name] = choice

        tune(candidates)
        if plan.ADAGRAD in tuned:
            choose(plan.ADAGRAD, plan.ADAGRAD, 1, 1)
            tune(around(choices[plan.ADAGRAD].trial, run.small_eps(setup)))
        for label in tuned:
            first, last = 2 if label in plan.RESETS else 1, 1 if label in plan.ONCE else None
            choose(label, label, first, last)
        for label, name in plan.REPEATED.items():
            if label in tuned:
                choose(label, name, 2)
        resets = [label for label in plan.RESETS if label in tuned]
        if resets and setup.epochs > 2:  # after two epochs, the mean is that of one end
            better = min((choices[label] for label in resets), key=lambda one: min(one.scores[1:]))
            tune({plan.ENDS: [replace(better.trial, label=plan.ENDS, average=True)]})
            choose(plan.ENDS, plan.ENDS, 3)
        of = {name: label for label, name in plan.REPEATED.items()}
        first = ("plain", plan.REPEATED["plain"], plan.ADAGRAD, plan.REPEATED[plan.ADAGRAD])
        choices = {k: choices[k] for k in (*first, *choices) if k in choices}
        firsts = {
            name: next(r for r in tuned[of.get(name, name)] if r["trial"] == asdict(choice.trial))
            for name, choice in choices.items()
        }
        others = [
            replace(choice.trial, seed=seed)
            for choice in choices.values()
            for seed in range(1, seeds)
        ]
        rest, results = iter(run_all("other seeds", others)), {}
        for label, first in firsts.items():
            results[label] = [first, *(next(rest) for _ in range(1, seeds))]
            for seed, result in enumerate(results[label]):
                if result["status"] != "ok":
                    raise DataError(f"{label} diverges with seed {seed}; {remedy}.")
        losses = Losses(results["plain"], parts.sizes())
        # Two-fold tables hold three copies of every row and its state.
        fits = sum(parts.train.schema.cardinality.values()) <= plan.MAX_CONTROL_ROWS
        control = []
        if difference(losses, 2, losses, 1).kind == "rise" and fits:
            two_fold = plan.control(choices["plain"].trial)
            control = run_all("control", [replace(two_fold, seed=seed) for seed in range(seeds)])
    return results, choices, control

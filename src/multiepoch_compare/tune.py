"""The trials of a comparison: tuning, then more seeds of each chosen setting."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from multiepoch_compare import plan, run, verdict
from multiepoch_compare.estimates import Estimate, Losses, difference
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


def n_runs(candidates: dict[str, list[plan.Trial]], seeds: int) -> int:
    return sum(map(len, candidates.values())) + len(candidates) * (seeds - 1)


def tune_and_run(
    setup: Setup,
    store: Path,
    candidates: dict[str, list[plan.Trial]],
    seeds: int,
    say: Callable[[str], None],
) -> tuple[dict[str, list[dict]], dict[str, verdict.Choice], list[dict]]:
    """Tunes every method with its candidates, then runs its choice with the other seeds.

    Returns the results of the choice for each seed and the choice, both by label, and, if plain
    training collapses in epoch 2, the results of `plan.control` for each seed. Raises DataError if
    training diverges with each setting of a method, or with another seed.
    """
    total, parts = n_runs(candidates, seeds), read_parts(setup)
    of_ones = dict(zip(parts.validation.objectives, rates(parts.validation)))
    short = replace(setup, epochs=1.25)  # the jump is all that is asked of the control
    remedy = "look for extreme values in the dense features"
    tuned, choices, results = {}, {}, {}
    workers = min(total, os.cpu_count() or 1)
    with KeptRunner(keep, workers, lambda pair: str(pair[0]), say, total) as runner:

        def run_all(trials: Sequence[plan.Trial]) -> list[dict]:
            items = [(one, short if one.label == plan.CONTROL else setup) for one in trials]
            known = ([asdict(one), asdict(replace(its, shared=None))] for one, its in items)
            paths = [store / f"{run_key(settings, *_CODE)}.json" for settings in known]
            runner(items, paths)
            return [json.loads(path.read_text()) for path in paths]

        def jumps(several: list[dict]) -> Estimate:
            plain = Losses(several, parts.sizes())
            return difference(plain, 2, plain, 1)

        flat = run_all([trial for several in candidates.values() for trial in several])
        for label, several in candidates.items():
            tuned[label], flat = flat[: len(several)], flat[len(several) :]
            # Plain keeps the learning rate that is best for one epoch, as in common practice. If
            # another rate makes several epochs better, that is a method of its own.
            choice = verdict.choose(tuned[label], of_ones, for_one_epoch=label == "plain")
            if choice is None:
                raise DataError(f"{label} diverges at every learning rate; {remedy}.")
            choices[label] = choice
            if label == "plain":
                again = verdict.choose(tuned[label], of_ones)
                if again.trial != choice.trial:
                    choices[verdict.RETUNED], tuned[verdict.RETUNED] = again, tuned[label]
                    runner.total += seeds - 1
        firsts = {
            label: next(r for r in tuned[label] if r["trial"] == asdict(choice.trial))
            for label, choice in choices.items()
        }
        # Two-fold tables hold three copies of every row and its state.
        rows = sum(parts.train.schema.cardinality.values())
        fits = rows <= plan.MAX_CONTROL_ROWS
        two_fold = plan.control(choices["plain"].trial)
        controls = [replace(two_fold, seed=seed) for seed in range(seeds if fits else 0)]
        # If it is likely to be needed, the control begins now: it takes longest.
        likely = seeds > 1 and jumps([firsts["plain"]]).mean >= plan.COLLAPSE
        early = controls if likely else []
        runner.total += len(early)
        chosen = [choice.trial for choice in choices.values()]
        others = [replace(one, seed=seed) for one in chosen for seed in range(1, seeds)]
        rest = run_all([*early, *others])
        control, rest = rest[: len(early)], rest[len(early) :]
        for label, first in firsts.items():
            results[label], rest = [first, *rest[: seeds - 1]], rest[seeds - 1 :]
            for seed, result in enumerate(results[label]):
                if result["status"] != "ok":
                    raise DataError(f"{label} diverges with seed {seed}; {remedy}.")
        rises = jumps(results["plain"]).kind == "rise"
        if rises and not early:
            runner.total += len(controls)
            control = run_all(controls)
    return results, choices, control if rises else []

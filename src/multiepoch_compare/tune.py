"""The trials of a comparison: tuning, then more seeds of each chosen setting."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from multiepoch_compare import plan, run, verdict
from multiepoch_compare.plan import Trial
from multiepoch_compare.run import Setup, rates, read_parts
from multiepoch_lab.data.log import DataError
from multiepoch_lab.runner import KeptRunner, run_key

# A change of these makes kept trials stale.
_CODE = ("multiepoch", "multiepoch_lab", "multiepoch_compare")
Together = tuple[Trial, ...]  # trials of one first epoch


def keep(item: tuple[Together, Setup], path: Path) -> None:
    """Writes the trials, each with its status ("ok" or "diverged") and its result, as JSON."""
    together, setup = item
    results = run.execute(together, setup)
    found = [{"trial": asdict(one), **result} for one, result in zip(together, results)]
    path.write_text(json.dumps(found))


class Runs:
    """Runs trials, and keeps what they give in a folder."""

    def __init__(self, setup: Setup, store: Path, runner: KeptRunner, say) -> None:
        self.setup, self.store, self.runner, self.say = setup, store, runner, say

    def __call__(self, what: str, trials: Sequence[Trial]) -> list[dict]:
        """Returns the result of each trial; those that share a first epoch are run together."""
        groups: dict[Trial, list[Trial]] = {}
        for trial in trials:
            group = groups.setdefault(trial.first_epoch, [])
            if trial not in group:
                group.append(trial)
        items = [(tuple(group), self.setup) for group in groups.values()]
        known = ([run.keys(one, self.setup) for one in group] for group, _ in items)
        paths = [self.store / f"{run_key(settings, *_CODE)}.json" for settings in known]
        self.say(f"{what}: {len(items)} runs")
        self.runner.total += len(items)
        self.runner(items, paths)
        found = [one for path in paths for one in json.loads(path.read_text())]
        return [next(one for one in found if one["trial"] == asdict(trial)) for trial in trials]


def tune_and_run(
    setup: Setup,
    store: Path,
    epochs: int,
    methods: Sequence[str],
    seeds: int,
    say: Callable[[str], None],
) -> tuple[dict[str, list[dict]], dict[str, verdict.Choice], list[str]]:
    """Tunes every line, for one epoch or for several, then runs its choice with other seeds.

    methods: As for `plan.lines`. Returns the results of the choice for each seed and the choice,
    both by label, and the lines whose rate is the last that was tried. Raises DataError if training
    diverges with each setting of a line, or with another seed.
    """
    parts = read_parts(setup.shared)
    of_ones = dict(zip(parts.validation.objectives, rates(parts.validation)))
    remedy = "look for extreme values in the dense features"
    tuned: dict[str, list[dict]] = {}
    choices: dict[str, verdict.Choice] = {}
    with KeptRunner(keep, os.cpu_count() or 1, lambda item: str(item[0][0]), say, 0) as runner:
        run_all = Runs(setup, store, runner, say)

        def tune(several: dict[str, list[Trial]]) -> None:
            found = iter(run_all("tuning", [trial for one in several.values() for trial in one]))
            for label, one in several.items():
                tuned[label] = tuned.get(label, []) + [next(found) for _ in one]

        def choose(label: str, name: str, *ends: int | None) -> None:
            choice = verdict.choose(tuned[label], of_ones, *ends)
            if choice is None:
                raise DataError(f"{label} diverges at every learning rate; {remedy}.")
            choices[name] = choice

        tune(plan.trials(epochs, methods))
        if plan.ADAGRAD in tuned:
            choose(plan.ADAGRAD, plan.ADAGRAD, 1, 1)
            best = choices[plan.ADAGRAD].trial
            tune(plan.around(best, run.small_eps(setup), epochs, methods))
        for label in tuned:
            # After two epochs, the mean is that of one end.
            first = {plan.ENDS: min(3, epochs)}.get(label, 2 if label in plan.RESETS else 1)
            choose(label, label, first, 1 if label in plan.ONCE else None)
        choose(plan.PLAIN, plan.REPEATED, 2)
        order = [plan.PLAIN, plan.REPEATED, *plan.LINES]
        choices = {label: choices[label] for label in order if label in choices}
        line_of = {plan.REPEATED: plan.PLAIN}
        firsts = {
            name: next(
                one
                for one in tuned[line_of.get(name, name)]
                if one["trial"] == asdict(choice.trial)
            )
            for name, choice in choices.items()
        }
        others = [
            replace(choice.trial, seed=seed)
            for choice in choices.values()
            for seed in range(1, seeds)
        ]
        rest, results = iter(run_all("other seeds", others)), {}
        for label, one in firsts.items():
            results[label] = [one, *(next(rest) for _ in range(1, seeds))]
            for seed, result in enumerate(results[label]):
                if result["status"] != "ok":
                    raise DataError(f"{label} diverges with seed {seed}; {remedy}.")
    edges = [
        name
        for name, choice in choices.items()
        if plan.at_the_edge(
            choice.trial, [Trial(**r["trial"]) for r in tuned[line_of.get(name, name)]]
        )
    ]
    return results, choices, edges

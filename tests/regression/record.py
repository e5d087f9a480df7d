"""Records references/PROFILE.json: every notebook once per seed.

    python -m tests.regression.record --profile quick

Notebooks that are unchanged are not run again, so the same command resumes if it is interrupted.
"""

import argparse
import copy
import math
import os
import statistics
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from multiepoch_lab.runner import Runner
from reproduction.runs import profile as profile_named
from tests.regression import reference as references
from tests.regression.compare import compare
from tests.regression.run import Outcome, run
from tools.notebooks import PROFILES

FEWEST_SEEDS = 5


def main(arguments: Sequence[str] | None = None) -> None:
    """Records a reference, unless a run failed or a verdict changed."""
    parser = argparse.ArgumentParser("python -m tests.regression.record", description=__doc__)
    parser.add_argument("--profile", choices=PROFILES, default="quick")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(12)), metavar="SEED")
    some = parser.add_mutually_exclusive_group()
    some.add_argument("--only", nargs="+", metavar="NN", help="record only these notebooks")
    some.add_argument("--missing", action="store_true", help="record only those it does not have")
    parser.add_argument("--root", type=Path, default=Path("."), help="the repository")
    accept = "write it even if the old reference fails the new values"
    parser.add_argument("--accept-verdicts", action="store_true", help=accept)
    options = parser.parse_args(arguments)
    root, profile, seeds = options.root.resolve(), options.profile, sorted(set(options.seeds))
    sizes = profile_named(profile)
    workers = 1 if torch.cuda.is_available() else os.cpu_count() or 1
    if len(seeds) < FEWEST_SEEDS:
        sys.exit(f"Not written: --seeds: a spread needs at least {FEWEST_SEEDS} seeds.")
    old = references.read(root, profile) if references.path(root, profile).exists() else None
    kept = dict(old["notebooks"]) if old and (options.only or options.missing) else {}
    if kept and old["about"]["seeds"] != seeds:
        which = "--only" if options.only else "--missing"
        sys.exit(f"Not written: {which}: the others have seeds {old['about']['seeds']}.")
    notebooks = sorted((root / "notebooks").glob("*.ipynb"))
    if options.missing:
        notebooks = [path for path in notebooks if path.stem not in kept]
    notebooks = [path for path in notebooks if path.stem.startswith(tuple(options.only or [""]))]
    if options.missing and not notebooks:
        sys.exit("Not written: --missing: the reference has every notebook.")
    if not notebooks:
        sys.exit(f"Not written: no notebook begins with {' or '.join(options.only)}.")
    found: dict[str, dict[int, Outcome]] = {path.stem: {} for path in notebooks}
    jobs = [(seed, path) for seed in seeds for path in notebooks]
    with Runner(partial(_run, root, profile), workers) as runner:
        for (seed, path), outcome in runner.map(jobs):
            print(f"seed {seed}, {path.stem}: {outcome.error or outcome.status}", flush=True)
            found[path.stem][seed] = outcome

    entries, changed = kept, []
    for name, by_seed in found.items():
        outcomes = {seed: by_seed[seed] for seed in seeds}
        entries[name] = gather(outcomes)
        if old and name in old["notebooks"]:
            changed += judged_by(old, outcomes, sizes.seeds)
    if changed:
        print("The old reference fails the new values:", *changed, sep="\n")
        if not options.accept_verdicts:
            sys.exit("Not written: use --accept-verdicts if these changes are intended.")
    new = {"about": references.about(profile, seeds), "notebooks": dict(sorted(entries.items()))}
    print(f"Recorded: {references.write(root, profile, new)}; git diff shows what changed.")


def _run(root: Path, profile: str, job: tuple[int, Path]) -> Outcome:
    os.environ["MULTIEPOCH_WORKERS"] = "1"  # each notebook has a core
    seed, notebook = job
    folder = root / "regression" / f"{profile}-reference" / f"seed-{seed}"
    return run(notebook, root, folder, {"profile": profile, "seeds": [seed]})


def gather(outcomes: dict[int, Outcome]) -> dict:
    """Returns one notebook's entry of the reference, from its outcome for each seed.

    Raises:
        SystemExit: If a run did not end, quantities differ between seeds, an exact number does
            not have one value, or a number is not finite. Only a direction may fail for a seed.
    """
    first = next(iter(outcomes.values()))
    for seed, one in outcomes.items():
        where = f"{one.notebook}, seed {seed}"
        if one.broken:
            sys.exit(f"Not written: {where}: {one.status}: {one.error}.")
        if not (one.numbers or one.directions or one.verdicts):
            sys.exit(f"Not written: {where}: its Checks recorded nothing.")
        different = one.numbers.keys() ^ first.numbers.keys()
        different |= one.directions.keys() ^ first.directions.keys()
        different |= one.verdicts.items() ^ first.verdicts.items()
        if different:
            names = ", ".join(sorted(map(str, different)))
            sys.exit(
                f"Not written: {where}: records other quantities than the first seed: {names}."
            )
    numbers = {
        name: _number(f"{first.notebook}: {name}", [o.numbers[name] for o in outcomes.values()])
        for name in first.numbers
    }
    directions = {
        name: [seed for seed, one in outcomes.items() if not one.directions[name]]
        for name in first.directions
    }
    for name, failing in directions.items():
        if failing:
            print(f"{first.notebook}: {name!r} does not hold for seeds {failing}: is it one?")
    seconds = round(statistics.fmean(one.seconds for one in outcomes.values()), 1)
    found = {"numbers": numbers, "directions": directions, "verdicts": first.verdicts}
    return {"seconds": seconds} | found


def _number(name: str, found: list[dict]) -> dict:
    values = [one["value"] for one in found]
    if not all(map(math.isfinite, values)):
        sys.exit(f"Not written: {name} is not finite for every seed: {values}.")
    if not found[0]["exact"]:
        return {"exact": False, "values": [float(f"{value:.7g}") for value in values]}
    if len(set(values)) > 1:
        sys.exit(f"Not written: {name} is exact and differs between seeds: use checks.number.")
    return {"exact": True, "values": values[:1]}


def judged_by(old: dict, outcomes: dict[int, Outcome], own_seeds: Sequence[int]) -> list[str]:
    """Returns what the old reference fails, in one notebook's outcomes.

    Compares the numbers and directions of each of the profile's own seeds, as a regression does,
    and the measures and verdicts of claims over all seeds.
    """
    failed = {}
    for own in [seed for seed in outcomes if seed in own_seeds] or outcomes:
        everything = copy.deepcopy(outcomes[own])
        for seed in outcomes.keys() - {own}:
            more = {"numbers": {}, "directions": {}, "verdicts": {}}
            everything.add(more | {"evidence": outcomes[seed].evidence})
        found = [row for row in compare(everything, old) if not row.ok]
        failed |= {row.quantity: f"{everything.notebook}: {row}" for row in found}
    return list(failed.values())


if __name__ == "__main__":
    main()

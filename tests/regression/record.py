"""Records references/PROFILE.json: every notebook once per seed.

    python -m tests.regression.record --profile quick

Notebooks that are unchanged are not run again, so the same command resumes if it is interrupted;
git diff shows what changed.
"""

import argparse
import os
import statistics
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from multiepoch_lab.runner import Runner
from tests.regression import reference as references
from tests.regression.run import Outcome, run
from tools.notebooks import PROFILES


def main(arguments: Sequence[str] | None = None) -> None:
    """Records a reference, unless a run failed."""
    parser = argparse.ArgumentParser("python -m tests.regression.record", description=__doc__)
    parser.add_argument("--profile", choices=PROFILES, default="quick")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(12)), metavar="SEED")
    parser.add_argument("--only", nargs="+", metavar="NN", help="record only these notebooks")
    parser.add_argument("--root", type=Path, default=Path("."), help="the repository")
    options = parser.parse_args(arguments)
    root, profile, seeds = options.root.resolve(), options.profile, sorted(set(options.seeds))
    kept = {}
    if options.only:
        old = references.read(root, profile)
        kept = old["notebooks"]
        if old["about"]["seeds"] != seeds:
            sys.exit(f"Not written: --only: the others have seeds {old['about']['seeds']}.")
    notebooks = sorted((root / "notebooks").glob("*.ipynb"))
    notebooks = [path for path in notebooks if path.stem.startswith(tuple(options.only or [""]))]
    if not notebooks:
        sys.exit(f"Not written: no notebook begins with {' or '.join(options.only)}.")
    found: dict[str, dict[int, Outcome]] = {path.stem: {} for path in notebooks}
    jobs = [(seed, path) for seed in seeds for path in notebooks]
    workers = 1 if torch.cuda.is_available() else os.cpu_count() or 1
    with Runner(partial(_run, root, profile), workers) as runner:
        for (seed, path), outcome in runner.map(jobs):
            print(f"seed {seed}, {path.stem}: {outcome.error or 'ended'}", flush=True)
            found[path.stem][seed] = outcome
    entries = {name: gather({k: by[k] for k in seeds}) for name, by in found.items()}
    entries = dict(sorted((kept | entries).items()))
    new = {"about": references.about(profile, seeds), "notebooks": entries}
    print(f"Recorded: {references.write(root, profile, new)}; git diff shows what changed.")


def _run(root: Path, profile: str, job: tuple[int, Path]) -> Outcome:
    os.environ["MULTIEPOCH_WORKERS"] = "1"  # each notebook has a core
    seed, notebook = job
    folder = root / "regression" / f"{profile}-reference" / f"seed-{seed}"
    return run(notebook, root, folder, {"profile": profile, "seeds": [seed]})


def gather(outcomes: dict[int, Outcome]) -> dict:
    """Returns one notebook's entry of the reference, from its outcome for each seed.

    Raises:
        SystemExit: If a run did not end, quantities differ between seeds, or an exact number does
            not have one value. Only a direction may fail for a seed.
    """
    first = next(iter(outcomes.values()))
    for seed, one in outcomes.items():
        where = f"{one.notebook}, seed {seed}"
        if one.error:
            sys.exit(f"Not written: {where}: {one.error}.")
        if not (one.numbers or one.directions):
            sys.exit(f"Not written: {where}: its Checks recorded nothing.")
        if different := {*one.numbers, *one.directions} ^ {*first.numbers, *first.directions}:
            names = ", ".join(sorted(different))
            sys.exit(
                f"Not written: {where}: records other quantities than the first seed: {names}."
            )
        for name in [name for name, holds in one.directions.items() if not holds]:
            print(f"{where}: {name!r} does not hold: is it a direction?")
    numbers = {
        name: _number(f"{first.notebook}: {name}", [o.numbers[name] for o in outcomes.values()])
        for name in first.numbers
    }
    seconds = round(statistics.fmean(one.seconds for one in outcomes.values()), 1)
    return {"seconds": seconds, "numbers": numbers, "directions": list(first.directions)}


def _number(name: str, found: list[dict]) -> float | list[float]:
    values = [one["value"] for one in found]
    if not found[0]["exact"]:
        return [float(f"{value:.7g}") for value in values]
    if len(set(values)) > 1:
        sys.exit(f"Not written: {name} is exact and differs between seeds: use checks.number.")
    return values[0]


if __name__ == "__main__":
    main()

"""The commands `regression` and `reference`."""

from __future__ import annotations

import argparse
import platform
import shutil
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from reproduction import records
from reproduction.runs import profile as profile_named
from reproduction.runs import resolve_device
from tests.regression import reference as references
from tests.regression import report as reports
from tests.regression.compare import OK, compare
from tests.regression.execution import LIMITS, Job, Outcome, at_once, execute_all, takes
from tests.regression.reference import ReferenceFailed
from tools.notebooks import PROFILES

FEWEST_SEEDS = 5


def command(arguments: list[str]) -> int:
    """`multiepoch regression`: 0 if all is well, 1 if anything is not, 2 if it could not run."""
    parser = argparse.ArgumentParser(
        "multiepoch regression",
        description="Runs every notebook, compares what it records with references/PROFILE.json.",
    )
    _common(parser)
    parser.add_argument("--only", nargs="+", metavar="NN", help="notebooks, by how they begin")
    parser.add_argument("--resume", action="store_true", help="keep what a stopped run finished")
    options = parser.parse_args(arguments)
    try:
        return _regression(options, options.root.resolve())
    except ReferenceFailed as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nStopped; with --resume it goes on where it was.", file=sys.stderr)
        return 130


def reference_command(arguments: list[str]) -> int:
    """`multiepoch reference`: 0 if it was written, 1 if a changed verdict or a failure stops it."""
    parser = argparse.ArgumentParser(
        "multiepoch reference",
        description="Runs every notebook once a seed and records references/PROFILE.json. "
        "Runs that nothing changed since are kept: stopped, the same command goes on.",
    )
    _common(parser)
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(12)), metavar="SEED",
                        help="default: 0 to 11")  # fmt: skip
    parser.add_argument("--only", nargs="+", metavar="NN", help="record these notebooks alone anew")
    parser.add_argument("--accept-verdicts", action="store_true",
                        help="write it though the old reference fails the new values")  # fmt: skip
    options = parser.parse_args(arguments)
    try:
        return _record(options, options.root.resolve())
    except ReferenceFailed as error:
        print(f"{error} Nothing was written.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped; the same command goes on where it was.", file=sys.stderr)
        return 130


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--profile", choices=PROFILES, default="quick")
    parser.add_argument("--limit", type=float, help="seconds that a notebook may take")
    parser.add_argument("--root", type=Path, default=Path("."), help="the repository")


def _regression(options: argparse.Namespace, root: Path) -> int:
    profile, folder = options.profile, root / "regression"
    reference = references.read(root, profile)
    notebooks = _chosen(root, options.only)
    if not options.resume:
        shutil.rmtree(folder / profile, ignore_errors=True)
    jobs = [
        Job(notebook, root, folder / profile, folder / profile / "failed" / notebook.name,
            {"profile": profile}, options.limit or LIMITS[profile])
        for notebook in notebooks
    ]  # fmt: skip
    # The longest first, so that none is left alone at the end.
    seconds = {name: one["seconds"] for name, one in reference["notebooks"].items()}
    jobs.sort(key=lambda job: -seconds.get(job.notebook.stem, 0.0))
    about = _about(profile, profile_named(profile).seeds)
    elsewhere = any(about[one] != reference["about"].get(one) for one in ("machine", "torch"))
    outcomes = []
    for _, outcome in execute_all(jobs, *at_once(profile)):
        rows = compare([outcome], reference, elsewhere=elsewhere)
        n_failed = sum(row.verdict != OK for row in rows)
        said = f"{n_failed} of {len(rows)} quantities fail" if n_failed else "ok"
        print(f"{_timed(outcome)}, {said}", flush=True)
        outcomes.append(outcome)
    outcomes.sort(key=lambda one: one.notebook)
    here = {notebook.stem for notebook in notebooks}
    gone = [] if options.only else [name for name in reference["notebooks"] if name not in here]
    report = reports.Report(
        about, reference["about"], outcomes, compare(outcomes, reference, gone, elsewhere)
    )  # fmt: skip
    reports.write(report, folder)
    print(f"\n{reports.table(report.rows)}\n")
    if not report.ok:
        print(f"{reports.failures(report)}\n")
    print(f"{report.headline()}\nThe report: {folder / 'report.html'}")
    return 0 if report.ok else 1


def _record(options: argparse.Namespace, root: Path) -> int:
    profile, seeds = options.profile, list(dict.fromkeys(options.seeds))
    if len(seeds) < FEWEST_SEEDS:
        raise ReferenceFailed(f"--seeds: a spread needs at least {FEWEST_SEEDS} of them.")
    there = references.path(root, profile).exists()
    old = references.read(root, profile) if there else None
    if options.only and old and old["about"]["seeds"] != seeds:
        raise ReferenceFailed(f"--only: the others were recorded with --seeds "
                              f"{' '.join(map(str, old['about']['seeds']))}.")  # fmt: skip
    notebooks = _chosen(root, options.only)
    for notebook in notebooks:
        if not takes(notebook, "seeds"):
            raise ReferenceFailed(f"{notebook.name}: its parameters cell has no `seeds`.")
    found = _over_seeds(options, root, notebooks, seeds)
    kept = dict(old["notebooks"]) if options.only and old else {}
    entries = kept | {name: references.gather(by_seed) for name, by_seed in found.items()}
    new = {"about": _about(profile, seeds), "notebooks": dict(sorted(entries.items()))}
    print()
    for line in references.difference(new, old):
        print("{}: {}\n    old {}, new {}".format(*line))
    for name, entry in new["notebooks"].items():
        for direction, failing in entry["directions"].items():
            if failing:
                print(f"{name}: {direction!r} does not hold for seeds {failing}: is it one?")
    own = profile_named(profile).seeds
    changed = [row for row in references.would_say(new, old, own) if not row.ok] if old else []
    if changed:
        print("\nThe old reference fails the new values:")
        for row in changed:
            print(f"  {row.notebook}: {row.quantity}: {row.verdict}: {row.what}")
        if not options.accept_verdicts:
            print("Nothing was written. If this is what should be, say --accept-verdicts.",
                  file=sys.stderr)  # fmt: skip
            return 1
    print(f"\nRecorded: {references.write(root, profile, new)}")
    return 0


def _over_seeds(
    options: argparse.Namespace, root: Path, notebooks: Sequence[Path], seeds: Sequence[int]
) -> dict[str, dict[int, Outcome]]:
    """Each notebook's outcome for each seed."""
    jobs, found = [], {notebook.stem: {} for notebook in notebooks}
    for seed in seeds:
        folder = root / "regression" / f"{options.profile}-reference" / f"seed-{seed}"
        jobs += [
            Job(notebook, root, folder, folder / "failed" / notebook.name,
                {"profile": options.profile, "seeds": [seed]},
                options.limit or LIMITS[options.profile])
            for notebook in notebooks
        ]  # fmt: skip
    for job, outcome in execute_all(jobs, *at_once(options.profile)):
        (seed,) = job.parameters["seeds"]
        print(f"seed {seed}, {_timed(outcome)}", flush=True)
        found[outcome.notebook][seed] = outcome
    return {name: {seed: by_seed[seed] for seed in seeds} for name, by_seed in found.items()}


def _chosen(root: Path, only: Sequence[str] | None) -> list[Path]:
    notebooks = sorted((root / "notebooks").glob("*.ipynb"))
    if not only:
        return notebooks
    for start in only:
        if not any(notebook.stem.startswith(start) for notebook in notebooks):
            there = ", ".join(notebook.stem for notebook in notebooks)
            raise ReferenceFailed(f"--only {start}: no notebook begins so; there are {there}.")
    return [notebook for notebook in notebooks if notebook.stem.startswith(tuple(only))]


def _about(profile: str, seeds: Sequence[int]) -> dict:
    device = resolve_device("auto")
    return {
        "profile": profile,
        "seeds": [int(seed) for seed in seeds],
        "device": device,
        "machine": records.machine(device),
        "python": platform.python_version(),
        "torch": version("torch"),
        "date": time.strftime("%Y-%m-%d"),
    }


def _timed(outcome: Outcome) -> str:
    how = "kept" if outcome.kept else f"{outcome.seconds:.1f} s"
    return f"{outcome.notebook}: {how}" + (f", {outcome.status}" if outcome.what else "")


def main(arguments: list[str]) -> int:
    which = reference_command if arguments[0] == "reference" else command
    return which(arguments[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

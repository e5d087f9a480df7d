"""`python -m reproduction CHAPTER`: runs an experiment without its notebook and keeps a record."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys
from functools import partial
from inspect import signature
from types import ModuleType

import reproduction
from reproduction import claims, records, second_round
from reproduction.runs import PROFILES, profile, resolve_device


def chapters() -> dict[str, ModuleType]:
    """Returns the modules with a CHAPTER, by that name.

    Each has run(profile, device, seeds, log=...), and judge(rows) if it decides a claim.
    """
    found = {}
    for info in pkgutil.walk_packages(reproduction.__path__, "reproduction."):
        if not info.name.endswith("__main__"):
            module = importlib.import_module(info.name)
            if hasattr(module, "NAME") and hasattr(module, "run"):
                found[module.CHAPTER] = module
    return dict(sorted(found.items()))


def command(arguments: list[str]) -> int:
    """Runs the command line and returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m reproduction",
        description="Runs a chapter's experiment and writes its record under results/PROFILE/. "
        "Finished runs are kept in runs/: an interrupted call resumes when repeated.",
    )
    modules = chapters()
    parser.add_argument("chapter", choices=modules, help="which experiment")
    parser.add_argument("--profile", choices=PROFILES, default="cpu")
    parser.add_argument("--seeds", type=int, nargs="+", help="default: those of the profile")
    parser.add_argument("--record", help="folder under results/ (default: the profile's name)")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument(
        "--only", help="of tuning: the candidates whose name contains this; of dose: one stratum"
    )
    parser.add_argument(
        "--keep-rates", action="store_true", help="of a search: only the record, not tuned.json"
    )
    options = parser.parse_args(arguments)
    module = modules[options.chapter]
    if options.only and "only" not in signature(module.run).parameters:
        parser.error(f"--only does not apply to {options.chapter}")

    sizes = profile(options.profile)
    seeds = tuple(options.seeds or getattr(module, "SEEDS", sizes.seeds))
    folder = options.record or sizes.name
    which = {"only": options.only} if options.only else {}
    try:
        device = resolve_device(options.device)
        rows = module.run(sizes, device, seeds, log=partial(print, flush=True), **which)
    except ValueError as error:
        print(f"python -m reproduction: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped; finished runs are kept, and the same call resumes", file=sys.stderr)
        return 130
    evidence = module.judge(rows) if hasattr(module, "judge") else None
    if hasattr(module, "write_tuned") and not options.keep_rates:
        module.write_tuned(rows)
    if options.chapter == "tuning":
        seeds, kept = sizes.tuning_seeds, records.read(module.NAME, folder)
        if options.only and kept:
            rows = module.merge(kept.rows, rows)
    path = records.write(module.NAME, folder, rows, evidence, seeds, device)
    if evidence is not None and "point" in evidence:
        print(second_round.table(evidence, folder))
    elif evidence is not None:
        print(claims.judge(evidence).to_string(index=False))
    print(f"wrote {path}")
    return 0

"""`python -m multiepoch run CHAPTER`: an experiment without its notebook, kept as a record."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys
from functools import partial
from types import ModuleType

import reproduction
from reproduction import records
from reproduction.runs import PROFILES, profile, resolve_device


def chapters() -> dict[str, ModuleType]:
    """By what one types: the modules with a CHAPTER. Each has run(), and judge() for a claim."""
    names = [f"{module.name}.experiment" for module in pkgutil.iter_modules(reproduction.__path__)
             if module.name.startswith("ch")]  # fmt: skip
    names += ["ch07_fal_versus_meda.interactive_figure_runs", "tuning"]
    modules = [importlib.import_module(f"reproduction.{name}") for name in names]
    found = {module.CHAPTER: module for module in modules if hasattr(module, "CHAPTER")}
    return dict(sorted(found.items()))


def command(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="multiepoch run",
        description="Runs a chapter's experiment and writes its record under results/PROFILE/. "
        "Finished runs are kept in runs/: stopped anywhere, the same call goes on.",
    )
    modules = chapters()
    parser.add_argument("chapter", choices=modules, help="which experiment")
    parser.add_argument("--profile", choices=PROFILES, default="cpu")
    parser.add_argument("--seeds", type=int, nargs="+", help="by default the profile's own")
    parser.add_argument("--record", help="folder under results/ (default: the profile's name)")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--only", help="of tuning, the candidates with this in their name")
    options = parser.parse_args(arguments)
    if options.only and options.chapter != "tuning":
        parser.error("--only goes with tuning alone")

    sizes = profile(options.profile)
    seeds = tuple(options.seeds or sizes.seeds)
    module = modules[options.chapter]
    name = module.NAME
    folder = options.record or sizes.name
    which = {"only": options.only} if options.only else {}
    try:
        device = resolve_device(options.device)
        rows = module.run(sizes, device, seeds, log=partial(print, flush=True), **which)
    except ValueError as error:
        print(f"multiepoch run: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped; finished runs are kept, the same call goes on", file=sys.stderr)
        return 130
    evidence = module.judge(rows) if hasattr(module, "judge") else None
    if options.chapter == "tuning":
        seeds, kept = sizes.tuning_seeds, records.read(name, folder)
        module.write_tuned(rows)
        if options.only and kept:
            rows = module.merge(kept.rows, rows)
    path = records.write(name, folder, rows, evidence, seeds, device)
    if evidence is not None:
        from reproduction import claims

        print(claims.judge(evidence).to_string(index=False))
    print(f"wrote {path}")
    return 0

"""Records what the regression compares with: each quantity over several seeds.

references/PROFILE.json holds, by notebook, each number with its values in the order of the seeds
(an exact one once) and each direction with the seeds for which it does not hold.
"""

from __future__ import annotations

import json
import math
import os
import re
import statistics
from collections.abc import Sequence
from pathlib import Path

from tests.regression.compare import Row, compare, numbers_of
from tests.regression.execution import Outcome


class ReferenceFailed(RuntimeError):
    """A reference could not be read or recorded: which, and what would do."""


def path(root: Path, profile: str) -> Path:
    return root / "references" / f"{profile}.json"


def read(root: Path, profile: str) -> dict:
    """The reference of a profile. ReferenceFailed where there is none."""
    file = path(root, profile)
    if not file.exists():
        raise ReferenceFailed(
            f"There is no {file}: record it with python -m multiepoch reference "
            f"--profile {profile}."
        )
    try:
        return json.loads(file.read_text())
    except json.JSONDecodeError as error:
        raise ReferenceFailed(f"{file} is not JSON: {error}.") from error


def write(root: Path, profile: str, reference: dict) -> Path:
    """A line a quantity, so that a change can be read in a diff."""
    text = json.dumps(reference, indent=1, ensure_ascii=False)
    text = re.sub(r"\[[^\[\]{}]*\]", lambda found: " ".join(found[0].split()), text)
    text = re.sub(r"\{\s+(\"exact\"[^{}]*)\}", lambda found: f"{{{' '.join(found[1].split())}}}",
                  text)  # fmt: skip
    file = path(root, profile)
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.part")
    partial.write_text(text + "\n")
    os.replace(partial, file)
    return file


def gather(outcomes: dict[int, Outcome]) -> dict:
    """One notebook's entry, from its outcome for each seed.

    ReferenceFailed where it did not end, where quantities differ between seeds, where an exact
    one does not have one value, or where a number is not finite.
    """
    entries = {}
    for seed, outcome in outcomes.items():
        entries[seed] = _merged(outcome, seed)
    first, name = next(iter(entries.values())), next(iter(outcomes.values())).notebook
    for seed, (numbers, directions) in entries.items():
        different = (numbers.keys() ^ first[0].keys()) | (directions.keys() ^ first[1].keys())
        if different:
            raise ReferenceFailed(
                f"{name}, seed {seed}: records other quantities than the first seed: "
                f"{', '.join(sorted(different))}."
            )
    numbers = {
        quantity: _number(f"{name}: {quantity}", [e[0][quantity] for e in entries.values()])
        for quantity in first[0]
    }
    directions = {
        quantity: [seed for seed, e in entries.items() if not e[1][quantity]]
        for quantity in first[1]
    }
    seconds = round(statistics.fmean(one.seconds for one in outcomes.values()), 1)
    return {"seconds": seconds, "numbers": numbers, "directions": directions}


def would_say(new: dict, old: dict, own_seeds: Sequence[int]) -> list[Row]:
    """What the old reference makes of the new values: the rows that a regression would have.

    Numbers and directions for the profile's own seeds, the verdicts on claims over all seeds.
    """
    seeds = new["about"]["seeds"]
    own = [k for k, seed in enumerate(seeds) if seed in own_seeds] or list(range(len(seeds)))
    outcomes = []
    for name, entry in new["notebooks"].items():
        numbers, evidence = {}, []
        for quantity, number in entry["numbers"].items():
            values = number["values"]
            chosen = values if number["exact"] else [values[k] for k in own]
            numbers[quantity] = {"exact": number["exact"], "value": statistics.fmean(chosen)}
            claim, _, measure = quantity.partition(": ")
            if re.fullmatch(r"C\d+", claim) and not number["exact"]:
                evidence += [{"claim": claim, "measure": measure, "seed": seed, "value": value}
                             for seed, value in zip(seeds, values)]  # fmt: skip
        directions = {
            direction: not {seeds[k] for k in own} & set(failing)
            for direction, failing in entry["directions"].items()
        }
        recorded = {"numbers": numbers, "directions": directions, "evidence": evidence}
        outcomes.append(Outcome(name, "ended", recorded=[recorded]))
    gone = [name for name in old["notebooks"] if name not in new["notebooks"]]
    return compare(outcomes, old, gone)


def difference(new: dict, old: dict | None) -> list[tuple[str, str, str, str]]:
    """Notebook, quantity, old and new for each quantity, as text; "-" where there is none."""
    lines = []
    notebooks = dict.fromkeys([*(old or {"notebooks": {}})["notebooks"], *new["notebooks"]])
    for name in notebooks:
        before = (old or {"notebooks": {}})["notebooks"].get(
            name, {"numbers": {}, "directions": {}}
        )
        after = new["notebooks"].get(name, {"numbers": {}, "directions": {}})
        for kind in ("numbers", "directions"):
            for quantity in dict.fromkeys([*before[kind], *after[kind]]):
                lines.append((name, quantity, _text(before[kind].get(quantity)),
                              _text(after[kind].get(quantity))))  # fmt: skip
    return lines


def _merged(outcome: Outcome, seed: int) -> tuple[dict, dict]:
    """Numbers and directions of one run. A direction may fail for a seed; all else may not."""
    numbers = {k: v for one in outcome.recorded for k, v in numbers_of(one).items()}
    directions = {k: v for one in outcome.recorded for k, v in one["directions"].items()}
    fails = [name for name, holds in directions.items() if not holds]
    if outcome.status != "ended" and not (outcome.status == "raised" and fails):
        raise ReferenceFailed(f"{outcome.notebook}, seed {seed}: {outcome.what}.")
    if not numbers and not directions:
        raise ReferenceFailed(f"{outcome.notebook}, seed {seed}: its Checks recorded nothing.")
    return numbers, directions


def _number(name: str, found: list[dict]) -> dict:
    values = [one["value"] for one in found]
    if not all(map(math.isfinite, values)):
        raise ReferenceFailed(f"{name} is not finite for every seed: {values}.")
    if not found[0]["exact"]:
        return {"exact": False, "values": [float(f"{value:.7g}") for value in values]}
    if len(set(values)) > 1:
        raise ReferenceFailed(
            f"{name} is recorded as exact and differs between seeds: {values}. "
            "Record it with checks.number."
        )
    return {"exact": True, "values": values[:1]}


def _text(entry: dict | list | None) -> str:
    if entry is None:
        return "-"
    if isinstance(entry, list):
        return f"fails for seeds {entry}" if entry else "holds"
    if entry["exact"]:
        return f"{entry['values'][0]:.7g} exactly"
    values = entry["values"]
    return f"{statistics.fmean(values):.5g} +- {statistics.stdev(values):.2g}"

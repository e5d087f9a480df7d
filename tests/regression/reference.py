"""Reads and writes references/PROFILE.json.

The file holds, by notebook, each number with its values in the order of the seeds, or its one value
if it is exact, and the directions, which must hold.
"""

import json
import platform
import re
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from multiepoch_lab.files import write_text
from multiepoch_lab.runner import machine, resolve_device


def path(root: Path, profile: str) -> Path:
    return root / "references" / f"{profile}.json"


def read(root: Path, profile: str) -> dict:
    """Returns the reference of a profile, or raises FileNotFoundError if there is none."""
    file = path(root, profile)
    if not file.exists():
        command = f"python -m tests.regression.record --profile {profile}"
        raise FileNotFoundError(f"There is no {file}: record it with {command}.")
    return json.loads(file.read_text())


def write(root: Path, profile: str, reference: dict) -> Path:
    """Writes one line per quantity, so that a change can be read in a diff."""
    text = json.dumps(reference, indent=1, ensure_ascii=False)
    text = re.sub(r"\[[-+.\de,\s]*\]", lambda found: " ".join(found[0].split()), text)
    write_text(path(root, profile), text + "\n")
    return path(root, profile)


def about(profile: str, seeds: Sequence[int]) -> dict:
    """Describes this machine, as the reference describes its own."""
    device = resolve_device("auto")
    return {
        "profile": profile,
        "seeds": list(seeds),
        "device": device,
        "machine": machine(device),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "date": time.strftime("%Y-%m-%d"),
    }

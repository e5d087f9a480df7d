"""Committed records: the results of a chapter in a profile, with the machine they were made on.

results/<profile>/<chapter>.parquet holds the result rows, <chapter>.evidence.csv the evidence for
the ledger, and <chapter>.json the date, the seeds, the machine and the versions.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch

from multiepoch.files import atomic_write, write_text
from multiepoch.runner import machine
from reproduction import judge

EXACT = ["epoch", "rate", "dose", "coefficient"]  # columns that are compared with constants
# The profiles of the ledger, in order. "replication" is the cpu profile with seeds 10, 11 and 12.
LEDGER = ("cpu", "replication", "long", "gpu")


def folder() -> Path:
    """Returns results/ of the repository the package runs from; MULTIEPOCH_RESULTS overrides it."""
    return Path(os.environ.get("MULTIEPOCH_RESULTS", Path(__file__).parents[2] / "results"))


@dataclass(frozen=True, eq=False)
class Record:
    """A committed record."""

    rows: pd.DataFrame  # columns runs.COLUMNS, or the chapter's own
    evidence: pd.DataFrame  # columns judge.COLUMNS
    about: dict  # the content of the JSON file

    def __str__(self) -> str:
        a = self.about
        seeds = ", ".join(map(str, a["seeds"]))
        origin = f"torch {a['torch']}, {a['date']}, commit {a['commit']}"
        return f"profile {a['profile']}, seeds {seeds}, {a['machine']}, {origin}"


def write(
    chapter: str,
    profile: str,
    rows: pd.DataFrame,
    evidence: pd.DataFrame | None = None,
    seeds: Sequence[int] = (),
    device: str = "cpu",
) -> Path:
    """Writes a record and returns the path of its rows. Values are float32, to keep it small."""
    path = folder() / profile / f"{chapter}.parquet"
    floats = rows.select_dtypes("float64").columns.difference(EXACT)
    with atomic_write(path) as partial:
        rows.astype({name: "float32" for name in floats}).to_parquet(partial, compression="zstd")
    if evidence is not None:
        csv = evidence[judge.COLUMNS].to_csv(index=False)
        write_text(path.with_suffix(".evidence.csv"), csv)
    about = {
        "profile": profile,
        "seeds": [int(seed) for seed in seeds],
        "machine": machine(device),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "commit": commit(),
        "date": datetime.date.today().isoformat(),
    }
    write_text(path.with_suffix(".json"), json.dumps(about, indent=1) + "\n")
    return path


def read(chapter: str, profile: str, results: Path | None = None) -> Record | None:
    """Returns the record of an experiment's NAME in a profile, or None if there is none."""
    path = (results or folder()) / profile / f"{chapter}.parquet"
    if not path.exists():
        return None
    return Record(
        rows=pd.read_parquet(path),
        evidence=evidence(path.with_suffix(".evidence.csv")),
        about=json.loads(path.with_suffix(".json").read_text()),
    )


def evidence(*files: Path) -> pd.DataFrame:
    """Returns the evidence in files, those that exist: columns judge.COLUMNS."""
    there = [file for file in files if file.exists()]
    found = [pd.read_csv(file, keep_default_na=False) for file in there]  # a point may be ""
    return pd.concat(found or [judge.evidence([])], ignore_index=True)


def ledger(results: Path | None = None) -> dict[str, pd.DataFrame]:
    """Returns all evidence by profile. By default of `folder()`."""
    found = {}
    for name in LEDGER:
        if files := sorted(((results or folder()) / name).glob("*.evidence.csv")):
            found[name] = evidence(*files)
    return found


def commit() -> str:
    """Returns the commit of the running code, or "unknown" outside a repository."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"

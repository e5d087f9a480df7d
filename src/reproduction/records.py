"""Committed records: what a chapter measured in a profile, with the machine it ran on.

results/<profile>/<chapter>.parquet holds the result rows, <chapter>.evidence.csv what the ledger
reads, <chapter>.json where, when and with what it was run.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch

from multiepoch.runner import machine

EVIDENCE = ["claim", "measure", "seed", "value"]
# What the ledger shows, in this order. "replication" is the cpu profile with seeds 10, 11 and 12.
LEDGER = ("cpu", "replication", "long", "gpu")


def folder() -> Path:
    """results/ of the repository the package is run from; MULTIEPOCH_RESULTS overrides."""
    return Path(os.environ.get("MULTIEPOCH_RESULTS", Path(__file__).parents[2] / "results"))


@dataclass(frozen=True)
class Record:
    """rows: of runs.COLUMNS (or the chapter's own); evidence: of EVIDENCE; about: the machine."""

    rows: pd.DataFrame
    evidence: pd.DataFrame
    about: dict

    def __str__(self) -> str:
        a = self.about
        return (f"profile {a['profile']}, seeds {', '.join(map(str, a['seeds']))}, {a['machine']}, "
                f"torch {a['torch']}, {a['date']}, commit {a['commit']}")  # fmt: skip


def write(chapter: str, profile: str, rows: pd.DataFrame, evidence: pd.DataFrame | None = None,
          seeds=(), device: str = "cpu") -> Path:  # fmt: skip
    """Writes a record; float32 values keep it small."""
    path = folder() / profile / f"{chapter}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    floats = rows.select_dtypes("float64").columns.difference(["epoch"])
    rows.astype({name: "float32" for name in floats}).to_parquet(path, compression="zstd")
    if evidence is not None:
        evidence[EVIDENCE].to_csv(path.with_suffix(".evidence.csv"), index=False)
    about = {
        "profile": profile,
        "seeds": [int(seed) for seed in seeds],
        "machine": machine(device),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "commit": commit(),
        "date": datetime.date.today().isoformat(),
    }
    path.with_suffix(".json").write_text(json.dumps(about, indent=1) + "\n")
    return path


def read(chapter: str, profile: str, results: Path | None = None) -> Record | None:
    """The record of a chapter in a profile; None where it was not run, or is not at hand.

    results: by default `folder()`.
    """
    path = (results or folder()) / profile / f"{chapter}.parquet"
    if not path.exists():
        return None
    evidence = path.with_suffix(".evidence.csv")
    return Record(
        rows=pd.read_parquet(path),
        evidence=pd.read_csv(evidence) if evidence.exists() else pd.DataFrame(columns=EVIDENCE),
        about=json.loads(path.with_suffix(".json").read_text()),
    )


def ledger(results: Path | None = None) -> dict[str, pd.DataFrame]:
    """All evidence by profile, for `claims.table`. results: by default `folder()`."""
    found = {}
    for name in LEDGER:
        files = sorted(((results or folder()) / name).glob("*.evidence.csv"))
        if files:
            found[name] = pd.concat([pd.read_csv(file) for file in files], ignore_index=True)
    return found


def commit() -> str:
    """The commit of the code that runs; "unknown" outside a repository."""
    done = subprocess.run(["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"],
                          capture_output=True, text=True, check=False)  # fmt: skip
    return done.stdout.strip() or "unknown"

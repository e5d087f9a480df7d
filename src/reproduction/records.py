"""Committed records: the results of a chapter in a profile, with the machine they were made on.

results/<profile>/<chapter>.parquet holds the result rows, <chapter>.evidence.csv the evidence for
the ledger, and <chapter>.json the date, the seeds, the machine, the versions, and the stamp that
`start` gave the run: of which code it is, and by which predictions it is judged.
"""

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

from multiepoch_lab.files import atomic_write, write_text
from multiepoch_lab.runner import machine
from reproduction import judge
from reproduction.runs import kept_runs

EXACT = ["epoch", "rate", "dose", "coefficient"]  # columns that are compared with constants
LEDGER = ("cpu", "long", "gpu")  # the profiles of the ledger, in order


def folder() -> Path:
    """Returns results/ of the repository, or of the package where it is installed, as on Colab.

    MULTIEPOCH_RESULTS overrides it.
    """
    installed = Path(__file__).with_name("results")  # setup.py copies it there
    found = installed if installed.exists() else Path(__file__).parents[2] / "results"
    return Path(os.environ.get("MULTIEPOCH_RESULTS", found))


@dataclass(frozen=True, eq=False)
class Record:
    """A committed record."""

    rows: pd.DataFrame  # columns runs.COLUMNS, or the chapter's own
    evidence: pd.DataFrame  # columns judge.COLUMNS
    about: dict  # the content of the JSON file
    name: str = ""

    def __str__(self) -> str:
        a = self.about
        seeds = ", ".join(map(str, a["seeds"]))
        origin = f"torch {a['torch']}, {a['date']}, commit {a['commit']}"
        return f"profile {a['profile']}, seeds {seeds}, {a['machine']}, {origin}{reservations(a)}"


def start(name: str, profile: str) -> dict:
    """Returns the stamp of a run that starts now, for `write`.

    It has the commit, whether src/ and data/ were as committed (None outside a repository), the
    `fingerprints` of the predictions that the record will be judged by, whether these were
    committed, and the time. If the run was interrupted, the stamp is that of its first call, and
    `resumed` lists those of later calls of other code or predictions.
    """
    mine = {one.id for one in judge.CLAIMS if name in one.records}
    ledger = judge.LEDGER.read_text(encoding="utf-8")
    now, committed = (
        {id: of for id, of in judge.fingerprints(text).items() if id in mine}
        for text in (ledger, _git("show", f"HEAD:./{judge.LEDGER.name}") or "claim = []")
    )
    changes = _git("status", "--porcelain", "--", ":/src", ":/data")
    stamp = {
        "commit": commit(),
        "clean": None if changes is None else not changes,
        "predictions": now,
        "predictions_committed": now == committed,
    }
    started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    path = _unfinished(name, profile)
    if path.exists():
        first = json.loads(path.read_text())
        calls = [first, *first.get("resumed", [])]
        if any(calls[-1][key] != value for key, value in stamp.items()):
            first["resumed"] = [*calls[1:], stamp | {"started": started}]
        stamp = first
    else:
        stamp["started"] = started
    write_text(path, json.dumps(stamp))
    return stamp


def _unfinished(name: str, profile: str) -> Path:
    """Where the stamp of a run is until its record is written, beside the runs that it keeps."""
    return kept_runs() / f"{profile}-{name}.started.json"


def replaced(kept: pd.DataFrame, rows: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Returns the rows of a record, with those replaced that agree with a new one in columns."""
    again = pd.MultiIndex.from_frame(kept[by]).isin(pd.MultiIndex.from_frame(rows[by]))
    return pd.concat([kept[~again], rows], ignore_index=True)


def reservations(about: dict) -> str:
    """Returns what a reader of a record must know about its stamp, each after a comma, or ""."""
    calls = [about, *about.get("resumed", [])]
    found = {
        "with uncommitted changes": any(one.get("clean") is False for one in calls),
        "its prediction not committed": any(
            one.get("predictions_committed") is False for one in calls
        ),
        "resumed at another commit": any(one["commit"] != about["commit"] for one in calls[1:]),
        "resumed with other predictions": any(
            one["predictions"] != about["predictions"] for one in calls[1:]
        ),
    }
    return "".join(f", {words}" for words, true in found.items() if true)


def write(
    chapter: str,
    profile: str,
    rows: pd.DataFrame,
    stamp: dict,
    evidence: pd.DataFrame | None = None,
    seeds: Sequence[int] = (),
    device: str = "cpu",
    kept: Record | None = None,
) -> Path:
    """Writes a record and returns the path of its rows. Values are float32, to keep it small.

    The stamp is what `start` returned when the run began. If it adds to a record, `kept`, that
    keeps its stamp, and `resumed` has the new one.
    """
    path = folder() / profile / f"{chapter}.parquet"
    floats = rows.select_dtypes("float64").columns.difference(EXACT)
    with atomic_write(path) as partial:
        rows.astype({name: "float32" for name in floats}).to_parquet(partial, compression="zstd")
    if evidence is not None:
        write_evidence(chapter, profile, evidence)
    about = {
        "profile": profile,
        "seeds": [int(seed) for seed in seeds],
        "machine": machine(device),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "date": datetime.date.today().isoformat(),
    }
    about |= stamp
    if kept:
        about = kept.about | {"resumed": [*kept.about.get("resumed", []), about]}
    write_text(path.with_suffix(".json"), json.dumps(about, indent=1) + "\n")
    _unfinished(chapter, profile).unlink(missing_ok=True)
    return path


def write_evidence(chapter: str, profile: str, evidence: pd.DataFrame) -> Path:
    """Writes the evidence of a record and returns its path."""
    path = folder() / profile / f"{chapter}.evidence.csv"
    write_text(path, evidence[judge.COLUMNS].to_csv(index=False))
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
        name=chapter,
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
    return (_git("rev-parse", "--short", "HEAD") or "unknown").strip()


def _git(*arguments: str) -> str | None:
    """Returns what git says in this folder, or None if it fails, as outside a repository."""
    command = ["git", "-C", str(judge.LEDGER.parent), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:  # no git
        return None
    return None if done.returncode else done.stdout

"""Executes one notebook and collects what it recorded."""

import os
import shutil
import statistics
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
import psutil

from reproduction.notebook import recorded
from tools.notebooks import NotebookFailed, execute, kept_run


@dataclass
class Outcome:
    """How a notebook ended ("ended", "raised" or "died"), and what its Checks recorded."""

    notebook: str
    status: str = "ended"
    error: str = ""
    details: str = ""
    path: Path | None = None
    seconds: float = 0.0
    numbers: dict[str, dict] = field(default_factory=dict)
    directions: dict[str, bool] = field(default_factory=dict)
    evidence: list[dict] = field(default_factory=list)
    verdicts: dict[str, str] = field(default_factory=dict)

    def add(self, checks: dict) -> None:
        """Adds a Checks cell; a measure of a claim is a number, too: its mean over seeds."""
        self.numbers |= checks["numbers"]
        self.directions |= checks["directions"]
        self.evidence += checks["evidence"]
        self.verdicts |= checks["verdicts"]
        values: dict[str, list[float]] = {}
        for row in self.evidence:
            values.setdefault(name_of(row), []).append(row["value"])
        for name, found in values.items():
            self.numbers[name] = {"value": statistics.fmean(found), "exact": False}

    @property
    def broken(self) -> bool:
        """Whether it did not end, other than by a direction that does not hold."""
        return self.status == "died" or (self.status == "raised" and all(self.directions.values()))


def name_of(row: dict) -> str:
    """Returns the name, in a reference, of what a row of evidence measures."""
    return ", ".join(filter(None, [f"{row['claim']}: {row['measure']}", row["point"]]))


def run(notebook: Path, root: Path, folder: Path, parameters: dict) -> Outcome:
    """Executes a notebook, or reuses the run that `folder` or the book keeps under the same key.

    A notebook that fails is kept in folder/failed. Its finished training runs stay in folder/runs
    until it ends, so that an interrupted notebook does not repeat them.
    """
    outcome = Outcome(notebook.stem)
    failed, runs = folder / "failed" / notebook.name, folder / "runs" / notebook.stem
    failed.unlink(missing_ok=True)
    os.environ["MULTIEPOCH_RUNS"] = str(runs.resolve())
    try:
        book = root / "_build" / "executed" / parameters["profile"]
        done = kept_run(notebook, root, book, parameters)
        done = done or execute(notebook, root, folder, parameters, failed)
        outcome.path, outcome.seconds = done.path, done.seconds
        shutil.rmtree(runs, ignore_errors=True)
    except NotebookFailed as error:
        outcome.status, outcome.error = "raised", str(error).splitlines()[0]
        outcome.details = str(error.__cause__)
    except Exception as error:
        outcome.status, outcome.error = "died", f"{type(error).__name__}: {error}"
    finally:
        _end_kernels()
    if outcome.status != "ended" and failed.exists():
        outcome.path = failed
    for checks in recorded(nbformat.read(outcome.path, as_version=4)) if outcome.path else ():
        outcome.add(checks)
    return outcome


def _end_kernels() -> None:
    """Ends the kernel that a timeout leaves behind."""
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if "ipykernel_launcher" in child.cmdline():
                child.kill()

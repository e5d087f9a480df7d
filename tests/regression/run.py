"""Executes one notebook and collects what it recorded."""

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import nbformat

from reproduction.notebook import recorded
from tools.notebooks import NotebookFailed, execute, kept_run


@dataclass
class Outcome:
    """What the Checks of a notebook recorded, and why it did not end, if it did not.

    A direction that does not hold ends a notebook, and is no error besides.
    """

    notebook: str
    error: str = ""
    details: str = ""
    path: Path | None = None
    seconds: float = 0.0
    numbers: dict[str, dict] = field(default_factory=dict)
    directions: dict[str, bool] = field(default_factory=dict)


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
        outcome.error, outcome.details = str(error).splitlines()[0], str(error.__cause__)
    except Exception as error:  # such as the death of its kernel
        outcome.error = f"{type(error).__name__}: {error}"
    if outcome.error and failed.exists():
        outcome.path = failed
    for checks in recorded(nbformat.read(outcome.path, as_version=4)) if outcome.path else ():
        outcome.numbers |= checks["numbers"]
        outcome.directions |= checks["directions"]
    if not all(outcome.directions.values()):
        outcome.error = ""
    return outcome

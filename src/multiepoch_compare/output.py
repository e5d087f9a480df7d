"""The output folder of `multiepoch compare`: one call at a time, and no other files in it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from multiepoch.data.log import DataError
from multiepoch.files import write_text
from multiepoch_compare.readers.files import disk_error

REMEDY = "give another --out"
SHARED = "parts"  # a file that a call deletes when it ends
_OURS = {"call.json", "trials", "report.json", "report.txt", "index.html", "lock", SHARED}


@contextlib.contextmanager
def folder(out: Path, call: list[str]) -> Iterator[Path]:
    """Creates and locks the output folder, or reuses that of the same call.

    Raises DataError if it is in use, holds other files, or cannot be written to.
    """
    if out.exists() and not out.is_dir():
        raise DataError(f"{out}: a file with this name exists; {REMEDY}.")
    made, record, lock = not out.exists(), out / "call.json", out / "lock"
    others = [] if made else sorted(p.name for p in out.iterdir() if p.name[0] != ".")
    if others := [name for name in others if name not in _OURS]:
        raise DataError(f"{out}: holds other files, such as {others[0]}; {REMEDY}.")
    if record.exists() and (before := json.loads(record.read_text())) != call:
        other = f"the report of another call ({' '.join(before)})"
        raise DataError(f"{out}: holds {other}; {REMEDY}, or delete the folder.")
    try:
        out.mkdir(parents=True, exist_ok=True)
        _lock(lock)
        (out / SHARED).unlink(missing_ok=True)
        write_text(record, json.dumps(call))
    except OSError as error:
        raise disk_error(error, out, REMEDY) from error
    try:
        yield out
    except DataError:
        trials = out / "trials"
        if not trials.exists() or not any(trials.iterdir()):  # a corrected call is then accepted
            shutil.rmtree(trials, ignore_errors=True)
            record.unlink()
        raise
    finally:
        (out / SHARED).unlink(missing_ok=True)
        lock.unlink(missing_ok=True)
        if made and not any(out.iterdir()):
            out.rmdir()


def _lock(path: Path) -> None:
    """Writes the process id to a lock file. The lock of a process that has ended does not count."""
    if path.exists():
        pid = path.read_text().strip()
        if pid.isdigit() and _alive(int(pid)):
            raise DataError(f"{path.parent}: in use by process {pid}; wait for it, or {REMEDY}.")
        path.unlink(missing_ok=True)
    with path.open("x") as file:
        file.write(str(os.getpid()))


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError as error:
        return isinstance(error, PermissionError)
    return True

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
_OURS = {"call.json", "trials", "report.json", "report.txt", "index.html", "lock"}


@contextlib.contextmanager
def folder(out: Path, call: list[str]) -> Iterator[Path]:
    """Creates and locks the output folder, or reuses that of the same call.

    Raises:
        DataError: If the folder is in use, holds other files, or cannot be written to.
    """
    if out.exists() and not out.is_dir():
        raise DataError(f"{out}: a file with this name exists; {REMEDY}.")
    made = not out.exists()
    if not made:
        others = sorted(p.name for p in out.iterdir() if p.name not in _OURS and p.name[0] != ".")
        if others:
            raise DataError(
                f"{out}: holds other files, such as {others[0]}; give an --out that is empty or "
                "does not exist."
            )
        before = _call(out / "call.json")
        if before is not None and before != call:
            raise DataError(
                f"{out}: holds the report of another call ({' '.join(before)}); {REMEDY}, or "
                "delete the folder."
            )
    try:
        out.mkdir(parents=True, exist_ok=True)
        _lock(out / "lock")
        write_text(out / "call.json", json.dumps(call))
    except OSError as error:
        raise disk_error(error, out, REMEDY) from error
    try:
        yield out
    except DataError:
        (out / "lock").unlink(missing_ok=True)
        _remove_if_bare(out, made)
        raise
    finally:
        (out / "lock").unlink(missing_ok=True)


def _call(path: Path) -> list[str] | None:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def _lock(path: Path) -> None:
    """Writes the process id to a lock file. The lock of a process that has ended does not count."""
    for _ in range(2):
        try:
            with path.open("x") as file:
                file.write(str(os.getpid()))
            return
        except FileExistsError:
            pid = path.read_text().strip()
            if pid.isdigit() and _alive(int(pid)):
                raise DataError(
                    f"{path.parent}: in use by process {pid}; wait for it, or {REMEDY}."
                ) from None
            path.unlink(missing_ok=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _remove_if_bare(out: Path, made: bool) -> None:
    """Removes the traces of a call that trained nothing, so that a corrected call is accepted."""
    trials = out / "trials"
    if trials.exists() and any(trials.iterdir()):
        return
    shutil.rmtree(trials, ignore_errors=True)
    (out / "call.json").unlink(missing_ok=True)
    if made:
        with contextlib.suppress(OSError):
            out.rmdir()

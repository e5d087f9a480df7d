"""The output of the commands: lines of text, and a folder for one call at a time."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from multiepoch_lab.data.log import DataError
from multiepoch_lab.files import write_text

REMEDY = "give another --out"
SHARED = "parts"  # a file that a call deletes when it ends
_OURS = {"call.json", "trials", "report.json", "report.txt", "index.html", "lock", SHARED}


def say(line: str) -> None:
    """Prints a line; if it cannot, as at the end of a pipe, it and all later ones are dropped."""
    try:
        print(line, flush=True)
    except OSError:  # the results are in files, so the work continues
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def listed(names: Iterable[str]) -> str:
    """Joins names as `compare` splits them."""
    odd = re.compile(r'[,"]|^\s|\s$')
    quoted = {
        n: f'"{n.replace(chr(34), chr(34) * 2)}"' for n in map(str, names) if odd.search(str(n))
    }
    return ",".join(quoted.get(str(n), str(n)) for n in names)


def disk_error(error: OSError, folder: Path) -> DataError:
    """Returns the error for a folder that cannot be written to."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT) or "space left" in str(error)
    reason = "the disk is full" if full else f"cannot be written to ({error.strerror or error})"
    remedy = "free some space" if full else "make it writable"
    return DataError(f"{folder}: {reason}; {remedy}, or {REMEDY}.")


@contextlib.contextmanager
def folder(out: Path, call: list[str]) -> Iterator[Path]:
    """Creates and locks the output folder, or reuses that of the same call.

    Raises DataError if it is in use, holds other files, or cannot be written to.
    """
    if out.exists() and not out.is_dir():
        raise DataError(f"{out}: a file with this name exists; {REMEDY}.")
    made, record = not out.exists(), out / "call.json"
    others = [] if made else sorted(p.name for p in out.iterdir() if p.name[0] != ".")
    if others := [name for name in others if name not in _OURS]:
        raise DataError(f"{out}: holds other files, such as {others[0]}; {REMEDY}.")
    with contextlib.ExitStack() as stack:
        try:
            out.mkdir(parents=True, exist_ok=True)
            if made:
                stack.callback(_remove_if_empty, out)
            stack.enter_context(_locked(out / "lock"))
            before = json.loads(record.read_text()) if record.exists() else call
            if before != call and _kept(out):
                other = f"the report of another call ({' '.join(before)})"
                raise DataError(f"{out}: holds {other}; {REMEDY}, or delete the folder.")
            (out / SHARED).unlink(missing_ok=True)
            write_text(record, json.dumps(call))
        except OSError as error:
            raise disk_error(error, out) from error
        try:
            yield out
        finally:
            (out / SHARED).unlink(missing_ok=True)
            if not _kept(out):
                shutil.rmtree(out / "trials", ignore_errors=True)
                record.unlink(missing_ok=True)


def _kept(out: Path) -> bool:
    """Tells if a trial is finished: one whose name begins with a dot is not."""
    return (out / "report.json").exists() or any((out / "trials").glob("[!.]*"))


def _remove_if_empty(out: Path) -> None:
    if not any(out.iterdir()):
        out.rmdir()


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Locks a file until the block or the process ends; the file holds the id of the process.

    The id alone would not do: in a container, each call may have the same.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW  # a link could name any file, to be emptied
    with os.fdopen(os.open(path, flags, 0o666), "r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            what = f"in use by process {file.read()}; wait for it"
            raise DataError(f"{path.parent}: {what}, or {REMEDY}.") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)

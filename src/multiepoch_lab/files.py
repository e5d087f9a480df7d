"""Files that are complete or absent, never partial."""

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path, and renames it to `path` when the block ends.

    A kill at any moment leaves the old file or the new one. If the block raises, the old file stays
    and the temporary one is removed. Works for a folder, too, if `path` does not exist yet. The
    temporary path keeps the suffix of `path`, since some writers choose their format by it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not the process id, which two containers with a common volume may share.
    partial = path.with_name(f".{uuid.uuid4().hex}.part.{path.name}")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        if partial.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
        else:
            partial.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Writes a text file that is complete or absent."""
    with atomic_write(path) as partial:
        partial.write_text(text, encoding="utf-8")

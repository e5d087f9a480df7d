"""Runs notebooks with papermill and keeps the results under a key of all they depend on.

The book, the tests and the regression share these runs. `python -m tools.notebooks` removes the
outputs from the stored notebooks.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest import mock

import nbformat
import papermill
from filelock import FileLock
from papermill.exceptions import PapermillExecutionError

from multiepoch_lab.files import atomic_write
from reproduction import runs
from tools import reads

PROFILES = [name for name in runs.PROFILES if name != "toy"]  # of experiments alone
# Select the kernel of this very Python, without start-up files or progress bars.
KERNEL = {
    "JUPYTER_PREFER_ENV_PATH": "1",
    "JUPYTER_PLATFORM_DIRS": "1",
    "JUPYTER_PATH": str(Path(sys.prefix) / "share" / "jupyter"),
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    "TQDM_DISABLE": "1",
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",
}


class NotebookFailed(RuntimeError):
    """A notebook raised; the message names the cell and the error."""


@dataclass(frozen=True)
class Run:
    """One executed notebook."""

    path: Path  # with outputs
    seconds: float  # when it was executed
    kept: bool  # whether an earlier run was reused


def key(notebook: Path, root: Path, parameters: dict) -> str:
    """Hashes everything that a notebook's numbers depend on.

    Covers its source, its parameters, the files that it may read, and the versions of torch, NumPy
    and Python. It does not cover the machine, which may round the last bit differently.
    """
    parts = [notebook.name, notebook.read_bytes(), json.dumps(parameters, sort_keys=True)]
    parts += [version("torch"), version("numpy"), platform.python_version()]
    for path in reads.files(notebook, root):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        parts += [path.relative_to(root).as_posix(), content]
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def execute(
    notebook: Path, root: Path, folder: Path, parameters: dict, failed: Path | None = None
) -> Run:
    """Runs a notebook, or returns the run that `folder` keeps under the same key.

    The result replaces earlier runs of the notebook in `folder`, and is complete or absent. If
    another process is running the notebook for `folder`, waits for that run and returns it.

    Args:
        notebook: The notebook to run.
        root: The repository, whose files are part of the key.
        folder: The results, as NAME-KEY.ipynb.
        parameters: Values for the parameters cell.
        failed: If given, receives the partial notebook and its traceback if a cell raises.

    Raises:
        NotebookFailed: If the notebook does not exist, or a cell raises.
    """
    if not notebook.is_file():
        raise NotebookFailed(f"{notebook}: no such notebook.")
    target = _target(notebook, root, folder, parameters)
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}-{notebook.stem}.lock")):
        return _kept(target) or _execute(notebook, root, target, parameters, failed)


def _execute(
    notebook: Path, root: Path, target: Path, parameters: dict, failed: Path | None
) -> Run:
    start = time.perf_counter()
    with atomic_write(target) as partial:
        _papermill(notebook, partial, root, parameters, failed)
        document = nbformat.read(partial, as_version=4)
        seconds = round(time.perf_counter() - start, 1)
        document.metadata["multiepoch"] = {
            **parameters,
            "seconds": seconds,
            "date": time.strftime("%Y-%m-%d"),
            "torch": version("torch"),
            "python": platform.python_version(),
            "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        }
        nbformat.write(document, partial)
    for earlier in set(target.parent.glob(f"{notebook.stem}-*.ipynb")) - {target}:
        earlier.unlink(missing_ok=True)
    return Run(target, seconds, kept=False)


def execute_on_one_core(notebook: Path, root: Path, folder: Path, parameters: dict) -> Run:
    """Runs a notebook as `execute` does, with its training runs in the notebook's own process."""
    with mock.patch.dict(os.environ, {"MULTIEPOCH_WORKERS": "1"}):
        return execute(notebook, root, folder, parameters)


def kept_run(notebook: Path, root: Path, folder: Path, parameters: dict) -> Run | None:
    """Returns the run that `folder` keeps under the same key, or None."""
    return _kept(_target(notebook, root, folder, parameters))


def _kept(target: Path) -> Run | None:
    if not target.exists():
        return None
    seconds = json.loads(target.read_text())["metadata"]["multiepoch"]["seconds"]
    return Run(target, seconds, kept=True)


def _target(notebook: Path, root: Path, folder: Path, parameters: dict) -> Path:
    return folder / f"{notebook.stem}-{key(notebook, root, parameters)}.ipynb"


def _papermill(
    notebook: Path, output: Path, root: Path, parameters: dict, failed: Path | None
) -> None:
    document = nbformat.read(notebook, as_version=4)
    options = {"kernel_name": "python3", "language": "python", "cwd": str(notebook.parent)}
    # Silences warnings about the kernel's sockets and its shutdown.
    options |= {"progress_bar": False, "extra_arguments": ["--log-level=50"]}
    environment = {**KERNEL, "IPYTHONDIR": str(root / "_build" / "ipython")}
    try:
        with mock.patch.dict(os.environ, environment):
            _at_free_ports(papermill.execute_notebook, document, str(output), parameters, **options)
    except BaseException as error:  # also a timeout or Ctrl-C
        if failed and output.exists():
            failed.parent.mkdir(parents=True, exist_ok=True)
            os.replace(output, failed)
        if not isinstance(error, PapermillExecutionError):
            raise
        source = "\n".join(f"    {line}" for line in error.source.splitlines())
        raised = f"cell [{error.exec_count}] raised {error.ename}: {error.evalue}"
        raise NotebookFailed(f"{notebook.name}: {raised}\n\n{source}\n") from error


def _at_free_ports(run: Callable[..., Any], *arguments: Any, **options: Any) -> None:
    """Starts again with other ports if another process took one of them before the kernel did."""
    for attempt in range(3):
        try:
            run(*arguments, **options)
            return
        except RuntimeError as error:
            if "Kernel died before replying" not in str(error) or attempt == 2:
                raise


def stripped(document: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Removes outputs, counts and editor metadata; tags and figure settings stay."""
    for cell in document.cells:
        if cell.cell_type == "code":
            cell.outputs = []
            cell.execution_count = None
        cell.metadata = {k: v for k, v in cell.metadata.items() if k in ("tags", "mystnb")}
    document.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return document


def main() -> None:
    argparse.ArgumentParser("python -m tools.notebooks", description=__doc__).parse_args()
    for path in sorted(Path("notebooks").glob("*.ipynb")):
        before = path.read_text()
        nbformat.write(stripped(nbformat.reads(before, as_version=4)), path)
        if path.read_text() != before:
            print(f"{path}: stripped")


if __name__ == "__main__":
    main()

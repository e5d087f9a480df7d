"""Runs notebooks with papermill and keeps the results under a key of all they depend on.

The book, the tests and the regression all come here, so that one run serves them all.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import nbformat

from tools.colab import Repository, addressed

PROFILES = ("quick", "cpu", "long", "gpu")


class NotebookFailed(RuntimeError):
    """A notebook that raised: which one, in which cell, and what."""


@dataclass(frozen=True)
class Run:
    """One executed notebook. `kept` is True where an earlier run was reused.

    path: the executed notebook, outputs included.
    seconds: how long the run took when it was made.
    """

    path: Path
    seconds: float
    kept: bool


def key(notebook: Path, root: Path, parameters: dict) -> str:
    """A hash of all that a notebook's numbers depend on.

    Its source, its parameters, every file under src/ and results/ of `root`, and the versions of
    torch, NumPy and Python. What a machine does to the last bit is not in it.
    """
    digest = hashlib.sha256()

    def add(*parts: str | bytes) -> None:
        for part in parts:
            part = part.encode() if isinstance(part, str) else part
            digest.update(
                f"{len(part)}:".encode() + part
            )  # lengths keep parts from running together

    add(notebook.name, notebook.read_bytes(), json.dumps(parameters, sort_keys=True))
    add(version("torch"), version("numpy"), platform.python_version())
    for folder in ("src", "results"):
        for path in files_under(root / folder):
            add(path.relative_to(root).as_posix(), path.read_bytes())
    return digest.hexdigest()[:16]


def files_under(folder: Path) -> list[Path]:
    """Every file in a folder and below, sorted, without what Python and pip leave there."""
    made = {"__pycache__", ".ipynb_checkpoints"}
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file()
        and not any(part in made or part.endswith(".egg-info") for part in path.parts)
    )


def execute(
    notebook: Path, root: Path, folder: Path, parameters: dict, failed: Path | None = None
) -> Run:
    """Runs a notebook, or returns the run that `folder` keeps under the same key.

    The result appears as folder/NAME-KEY.ipynb, whole or not at all, in place of earlier runs of
    the same notebook. Raises NotebookFailed where a cell raises; what there is of the notebook
    then goes to `failed`, if given, with the traceback.
    """
    if not notebook.is_file():
        raise NotebookFailed(f"{notebook}: no such notebook.")
    target = folder / f"{notebook.stem}-{key(notebook, root, parameters)}.ipynb"
    if target.exists():
        return Run(target, _seconds(target), kept=True)

    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{target.stem}.{os.getpid()}.part.ipynb"
    start = time.perf_counter()
    try:
        _papermill(notebook, partial, root, parameters)
        document = nbformat.read(partial, as_version=4)
        document.metadata["multiepoch"] = {
            **parameters,
            "seconds": round(time.perf_counter() - start, 1),
            "date": time.strftime("%Y-%m-%d"),
            "torch": version("torch"),
            "python": platform.python_version(),
            "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        }
        nbformat.write(document, partial)
        for earlier in folder.glob(f"{notebook.stem}-*.ipynb"):
            earlier.unlink(missing_ok=True)
        os.replace(partial, target)
    except Exception:
        if failed and partial.exists():
            failed.parent.mkdir(parents=True, exist_ok=True)
            os.replace(partial, failed)
        raise
    finally:
        partial.unlink(missing_ok=True)
    return Run(target, _seconds(target), kept=False)


def _seconds(executed: Path) -> float:
    return json.loads(executed.read_text())["metadata"]["multiepoch"]["seconds"]


def _papermill(notebook: Path, output: Path, root: Path, parameters: dict) -> None:
    import papermill
    from papermill.exceptions import PapermillExecutionError

    document = nbformat.read(notebook, as_version=4)
    with _kernel_environment(root):
        try:
            papermill.execute_notebook(
                document, str(output), parameters, kernel_name="python3", language="python",
                progress_bar=False, cwd=str(notebook.parent),
                # Neither warnings about the kernel's own sockets, nor that it was told to end.
                extra_arguments=["--log-level=50"],
            )  # fmt: skip
        except PapermillExecutionError as error:
            source = "\n".join(f"    {line}" for line in error.source.splitlines())
            raise NotebookFailed(
                f"{notebook.name}: cell [{error.exec_count}] raised {error.ename}: {error.evalue}\n"
                f"\n{source}\n"
            ) from error


@contextmanager
def _kernel_environment(root: Path) -> Iterator[None]:
    """The kernel of this very Python, without the user's start-up files or progress bars."""
    wanted = {
        "JUPYTER_PREFER_ENV_PATH": "1",
        "JUPYTER_PLATFORM_DIRS": "1",
        "JUPYTER_PATH": str(Path(sys.prefix) / "share" / "jupyter"),
        "IPYTHONDIR": str(root / "_build" / "ipython"),
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "TQDM_DISABLE": "1",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def stripped(document: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The notebook as it is stored: no outputs, no counts, nothing of the editor's or a run's."""
    for cell in document.cells:
        if cell.cell_type == "code":
            cell.outputs = []
            cell.execution_count = None
        cell.metadata = {
            name: value for name, value in cell.metadata.items() if name in ("tags", "mystnb")
        }
    document.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return document


def strip_command(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        "multiepoch strip",
        description="Takes the outputs out, and writes the address of _config.yml in.",
    )
    parser.add_argument("notebooks", nargs="*", type=Path, help="default: all in notebooks/")
    chosen = parser.parse_args(arguments).notebooks or sorted(Path("notebooks").glob("*.ipynb"))
    try:
        repository = Repository.of(Path("."))
    except (OSError, ValueError) as error:
        print(f"Run this in the repository. {error}", file=sys.stderr)
        return 1
    for path in chosen:
        before = path.read_text()
        document = stripped(nbformat.reads(before, as_version=4))
        nbformat.write(addressed(document, path.stem, repository), path)
        if path.read_text() != before:
            print(f"{path}: stripped")
    return 0


def command(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        "multiepoch notebook", description="Runs notebooks; a run that nothing changed is reused."
    )
    parser.add_argument("notebooks", nargs="+", type=Path)
    parser.add_argument("--profile", choices=PROFILES, default="quick")
    parser.add_argument("--root", type=Path, default=Path("."), help="the repository")
    options = parser.parse_args(arguments)
    folder = options.root / "_build" / "executed" / options.profile
    for notebook in options.notebooks:
        try:
            run = execute(notebook, options.root, folder, {"profile": options.profile})
        except NotebookFailed as error:
            print(error, file=sys.stderr)
            return 1
        print(f"{notebook.stem}: {'kept' if run.kept else f'{run.seconds:.1f} s'}, {run.path}")
    return 0


if __name__ == "__main__":
    sys.exit(strip_command(sys.argv[1:]))

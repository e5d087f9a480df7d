"""Imitates Colab: runs every notebook alone in an empty folder, on top of Colab's own packages.

    python -m tools.imitate_colab [NOTEBOOK ...]

The notebooks run as they are stored, in the quick profile, with Colab's Python, torch, numpy and
pandas, and without jupyter-book or this package. Their set-up cell installs the package; git
fetches it from a snapshot of the working tree. A notebook fails if it raises, writes to stderr or
changes an installed package. The environment and the executed notebooks stay in _build/colab.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
import papermill
from papermill.exceptions import PapermillExecutionError

from multiepoch.optim import compiled
from multiepoch_lab.files import write_text
from tools.colab import Repository

ROOT = Path(__file__).parents[1]
KEPT = ROOT / "_build" / "colab"
PYTHON = "3.13"
VERSIONS = ("torch==2.11.*", "numpy==2.1.*", "pandas==2.2.*")
PACKAGES = (*VERSIONS, "ipykernel", "matplotlib", "pyarrow", "scipy", "tabulate", "jinja2", "pooch")
NO_KERNELS = compiled.ABSENT.partition("%s")[0]
STARTUP = "import sys, types\nsys.modules['google.colab'] = types.ModuleType('google.colab')\n"


class Failed(RuntimeError):
    """A notebook would have failed on Colab; the message says why."""


def run(*command: str | Path) -> str:
    """Runs a command and returns its output."""
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def environment(asked: str) -> Path:
    """Returns the Python of the environment, which is rebuilt only if PACKAGES change.

    Raises Failed if `asked` is not a Python of Colab's version.
    """
    python, stamp = KEPT / "venv" / "bin" / "python", KEPT / "venv" / "packages"
    if stamp.exists() and stamp.read_text() == " ".join(PACKAGES):
        return python
    try:
        found = run(asked, "-c", "import sys; print('%d.%d' % sys.version_info[:2])").strip()
    except (OSError, subprocess.CalledProcessError) as error:
        found = str(error)
    if found != PYTHON:
        raise Failed(f"Colab has Python {PYTHON}; name one with --python. {asked}: {found}")
    print("Installing Colab's packages (once; takes a few minutes) ...", flush=True)
    run(asked, "-m", "venv", "--clear", KEPT / "venv")
    run("sh", ROOT / ".ci" / "install_torch.sh", python, PACKAGES[0])
    run(python, "-m", "pip", "install", "--quiet", "--no-cache-dir", *PACKAGES)
    run(python, "-m", "ipykernel", "install", "--sys-prefix", "--name", "colab")
    stamp.write_text(" ".join(PACKAGES))
    return python


def snapshot(target: Path, branch: str) -> str:
    """Creates a repository whose `branch` holds the working tree; returns its commit."""
    run("git", "init", "-q", "--bare", "-b", branch, target)
    identity = ("-c", "user.name=snapshot", "-c", "user.email=snapshot@localhost")
    git = ("git", *identity, f"--git-dir={target}", f"--work-tree={ROOT}", "-C", ROOT)
    run(*git, "add", "-A")
    run(*git, "commit", "-q", "-m", "The working tree")
    return run(*git, "rev-parse", "HEAD").strip()


def prepare_kernel(work: Path, repository: Repository) -> None:
    """Sets what kernels inherit: google.colab is loaded, and nothing needs a network."""
    write_text(work / "ipython" / "profile_default" / "startup" / "colab.py", STARTUP)
    for name in ("PYTHONPATH", "MULTIEPOCH_RESULTS"):  # they would reach back to this repository
        os.environ.pop(name, None)
    os.environ |= {
        "JUPYTER_PATH": str(KEPT / "venv" / "share" / "jupyter"),
        "IPYTHONDIR": str(work / "ipython"),
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "MULTIEPOCH_KUAIRAND": str(ROOT / "data" / "kuairand" / "impressions.parquet"),
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{(work / 'snapshot').as_uri()}.insteadOf",
        "GIT_CONFIG_VALUE_0": repository.url,
    }


def execute(notebook: Path, content: Path) -> float:
    """Runs a copy that is alone in `content`, and returns the seconds.

    Raises Failed if a cell raises or writes to stderr. That the kernels are absent is no failure:
    Colab has a compiler, but the machine that imitates it may have none.
    """
    content.mkdir(parents=True)
    copy, executed = str(shutil.copy(notebook, content)), KEPT / notebook.name
    options = {"kernel_name": "colab", "language": "python", "cwd": str(content)}
    quiet = {"progress_bar": False, "extra_arguments": ["--log-level=40"]}
    start = time.perf_counter()
    try:
        papermill.execute_notebook(copy, str(executed), {"profile": "quick"}, **options, **quiet)
    except PapermillExecutionError as error:
        raise Failed(f"cell [{error.exec_count}] raised {error.ename}: {error.evalue}") from error
    seconds = time.perf_counter() - start
    for cell in nbformat.read(executed, as_version=4).cells:
        for output in cell.get("outputs", []):
            lines = output.text.splitlines() if output.get("name") == "stderr" else []
            if wrong := [line for line in lines if not line.startswith(NO_KERNELS)]:
                raise Failed("\n".join([f"cell {cell.id!r} wrote to stderr:", *wrong]))
    return seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="*", type=Path, help="default: all in notebooks/")
    parser.add_argument("--python", default=f"python{PYTHON}", help=f"a Python {PYTHON}")
    options = parser.parse_args()
    chosen = options.notebooks or sorted((ROOT / "notebooks").glob("*.ipynb"))
    repository, failures = Repository.of(ROOT), 0
    try:
        pip = (environment(options.python), "-m", "pip")
    except Failed as error:
        print(error, file=sys.stderr)
        return 1
    uninstall = (*pip, "uninstall", "-qq", "--yes", "multiepoch")
    run(*uninstall)
    before = run(*pip, "freeze").splitlines()
    with tempfile.TemporaryDirectory(prefix="colab-") as name:
        work = Path(name)
        commit = snapshot(work / "snapshot", repository.branch)
        ours = f"multiepoch @ git+{repository.url}@{commit}"
        prepare_kernel(work, repository)
        for notebook in chosen:
            print(f"{notebook.stem} ... ", end="", flush=True)
            try:
                seconds = execute(notebook, work / "content" / notebook.stem)
                if changed := {*before, ours} ^ set(run(*pip, "freeze").splitlines()):
                    raise Failed(f"these packages changed: {', '.join(sorted(changed))}")
                print(f"{seconds:.1f} s", flush=True)
            except Failed as error:
                failures += 1
                print(f"failed: {error}", flush=True)
            run(*uninstall)  # every notebook starts without the package
    print(f"{len(chosen) - failures} of {len(chosen)} notebooks passed, on {', '.join(VERSIONS)}.")
    return min(failures, 1)


if __name__ == "__main__":
    sys.exit(main())

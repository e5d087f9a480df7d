"""Imitates Colab: every notebook alone in an empty folder, on top of Colab's own packages.

    python tools/imitate_colab.py [NOTEBOOK ...]

A virtual environment gets Colab's Python, torch, numpy and pandas; neither jupyter-book nor this
package. The notebooks run there as they are stored, in the quick profile: their setup cell installs
the package from the address in it, for which git is told to go to a snapshot of the working tree.
It fails where a notebook raises, writes to stderr or changes a package that was there. The
environment and the executed notebooks stay in _build/colab. On Linux, PyPI's torch brings CUDA
along, some gigabytes; PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu spares you that.
"""

from __future__ import annotations

import argparse
import json
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

from tools.colab import Repository

ROOT = Path(__file__).parents[1]
KEPT = ROOT / "_build" / "colab"
PYTHON = "3.13"
PACKAGES = ("torch==2.11.*", "numpy==2.1.*", "pandas==2.2.*", "ipykernel", "matplotlib", "pyarrow")
STARTUP = "import sys, types\nsys.modules['google.colab'] = types.ModuleType('google.colab')\n"


class Stumbled(RuntimeError):
    """A notebook that would not have run through on Colab, and why."""


def run(*command: str | Path) -> str:
    """What a command prints; its stderr goes on to ours."""
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def interpreter(asked: str) -> str:
    """The path of a Python of Colab's version. Stumbled where there is none."""
    ask = "import sys; print('%d.%d' % sys.version_info[:2], sys.executable)"
    try:
        found, path = run(asked, "-c", ask).split(maxsplit=1)
    except (OSError, subprocess.CalledProcessError) as error:
        raise Stumbled(f"Colab has Python {PYTHON}; name one with --python. {error}") from error
    if found != PYTHON:
        raise Stumbled(f"Colab has Python {PYTHON}; {asked} is {found}.")
    return path.strip()


def environment(asked: str) -> Path:
    """The Python of the environment, which is made again only when PACKAGES change."""
    python, stamp = KEPT / "venv" / "bin" / "python", KEPT / "venv" / "packages"
    if not stamp.exists() or stamp.read_text() != " ".join(PACKAGES):
        print("Installing Colab's packages (once; some minutes) ...", flush=True)
        run(interpreter(asked), "-m", "venv", "--clear", KEPT / "venv")
        run(python, "-m", "pip", "install", "--quiet", "--no-cache-dir", *PACKAGES)
        stamp.write_text(" ".join(PACKAGES))
    return python


def snapshot(target: Path, branch: str) -> str:
    """A repository whose `branch` holds the working tree. Returns its commit."""
    names = run("git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target / name)
    git = ("git", "-C", target, "-c", "user.name=snapshot", "-c", "user.email=snapshot@localhost")
    run(*git, "init", "-q", "-b", branch)
    run(*git, "add", "-A")
    run(*git, "commit", "-q", "-m", "The working tree")
    return run(*git, "rev-parse", "HEAD").strip()


def kernel(work: Path, python: Path, repository: Repository) -> None:
    """The kernel "colab": that Python, where google.colab is loaded and git takes the snapshot."""
    startup = work / "ipython" / "profile_default" / "startup" / "colab.py"
    startup.parent.mkdir(parents=True)
    startup.write_text(STARTUP)
    spec = {
        "display_name": "Colab",
        "language": "python",
        "argv": [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "env": {
            "IPYTHONDIR": str(work / "ipython"),
            "MPLBACKEND": "module://matplotlib_inline.backend_inline",
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": f"url.{(work / 'snapshot').as_uri()}.insteadOf",
            "GIT_CONFIG_VALUE_0": repository.url,
        },
    }
    folder = work / "jupyter" / "kernels" / "colab"
    folder.mkdir(parents=True)
    (folder / "kernel.json").write_text(json.dumps(spec))
    os.environ["JUPYTER_PATH"] = str(work / "jupyter")
    for name in ("PYTHONPATH", "MULTIEPOCH_RESULTS"):  # what would reach back to this repository
        os.environ.pop(name, None)


def execute(notebook: Path, content: Path) -> float:
    """Runs a copy that is alone in `content`, returns the seconds. Stumbled where it would."""
    content.mkdir(parents=True)
    copy = Path(shutil.copy(notebook, content))
    executed = KEPT / notebook.name
    start = time.perf_counter()
    try:
        papermill.execute_notebook(
            str(copy), str(executed), {"profile": "quick"}, kernel_name="colab", language="python",
            progress_bar=False, cwd=str(content), extra_arguments=["--log-level=40"],
        )  # fmt: skip
    except PapermillExecutionError as error:
        raise Stumbled(f"cell [{error.exec_count}] raised {error.ename}: {error.evalue}") from error
    seconds = time.perf_counter() - start
    for cell in nbformat.read(executed, as_version=4).cells:
        for output in cell.get("outputs", []):
            if output.get("name") == "stderr":
                raise Stumbled(f"cell {cell.id!r} wrote to stderr: {output.text}")
    return seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="*", type=Path, help="default: all in notebooks/")
    parser.add_argument("--python", default=f"python{PYTHON}", help=f"a Python {PYTHON}")
    options = parser.parse_args()
    chosen = options.notebooks or sorted((ROOT / "notebooks").glob("*.ipynb"))
    repository = Repository.of(ROOT)
    try:
        python = environment(options.python)
    except Stumbled as error:
        print(error, file=sys.stderr)
        return 1
    pip = (python, "-m", "pip")
    bare = (*pip, "uninstall", "-qq", "--yes", "multiepoch")
    run(*bare)
    before = run(*pip, "freeze").splitlines()
    stumbles = 0
    with tempfile.TemporaryDirectory(prefix="colab-") as name:
        work = Path(name)
        commit = snapshot(work / "snapshot", repository.branch)
        ours = f"multiepoch @ git+{repository.url}@{commit}"
        kernel(work, python, repository)
        for notebook in chosen:
            print(f"{notebook.stem} ... ", end="", flush=True)
            try:
                seconds = execute(notebook, work / "content" / notebook.stem)
                changed = {*before, ours} ^ set(run(*pip, "freeze").splitlines())
                if changed:
                    raise Stumbled(f"packages that differ afterwards: {', '.join(sorted(changed))}")
                print(f"{seconds:.1f} s", flush=True)
            except Stumbled as error:
                stumbles += 1
                print(f"stumbled: {error}", flush=True)
            run(*bare)  # every notebook finds a machine without the package
    print(f"{len(chosen) - stumbles} of {len(chosen)} ran through.")
    if not stumbles:
        named = [one for one in before if one.startswith(("torch==", "numpy==", "pandas=="))]
        print(f"As they were: {', '.join(named)}, and every other package.")
    return min(stumbles, 1)


if __name__ == "__main__":
    sys.exit(main())

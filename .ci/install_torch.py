"""Installs torch into the environment of this Python: without a GPU, the build without CUDA.

    python .ci/install_torch.py [REQUIREMENT]

PyPI's torch for Linux bundles CUDA, which takes 4 GB. Without an NVIDIA GPU, the first of these is
used: a build that pip is configured to find on this machine, the CPU build of PyTorch's own index,
and PyPI's if that index does not answer within seconds. An index that pip is configured with is
used as it is. One line says what was taken, and how to take another. In the environment:

    GPU=1              PyPI's build, whether or not a GPU is found
    TORCH_INDEX=URL    the build in that index

Uses the standard library alone, since nothing else is installed yet.
"""

import os
import platform
import re
import shutil
import subprocess
import sys
import threading
import urllib.request
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

CPU_INDEX = "https://download.pytorch.org/whl/cpu"
PATIENCE = 5  # seconds for the index to answer
ROOT = Path(__file__).parents[1]


def requirement() -> str:
    """Returns the range of torch in pyproject.toml."""
    found = re.search(r'"(torch[<>=!~][^"]*)"', (ROOT / "pyproject.toml").read_text())
    return found.group(1)


def pip(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def has_gpu() -> bool:
    """Returns whether Linux has an NVIDIA GPU that is usable here, in a container or under WSL."""
    if Path("/dev/nvidia0").exists() or any(Path("/proc/driver/nvidia/gpus").glob("*")):
        return True
    if shutil.which("nvidia-smi") is None:
        return False
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True)
    return listed.returncode == 0 and "GPU 0" in listed.stdout


def own_index() -> str:
    """Returns the setting by which pip is configured with an index; "" if it is not."""
    found = re.search(r"^(\S*\b(?:extra-)?index-url)=", pip("config", "list").stdout, re.M)
    return found.group(1) if found else ""


def answers(url: str) -> bool:
    """Asks once. In a thread, since looking up a name has no time limit of its own."""
    heard = threading.Event()

    def ask() -> None:
        try:
            with urllib.request.urlopen(f"{url}/torch/", timeout=PATIENCE):
                heard.set()
        except (OSError, ValueError):
            pass

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(PATIENCE)
    return heard.is_set()


def installed() -> str:
    try:
        return version("torch")
    except PackageNotFoundError:
        return ""


def install(wanted: str, *source: str) -> bool:
    """Installs torch from one source alone; pip adds what torch requires with all else."""
    quick = ("--retries", "1", "--timeout", "30")
    return pip("install", "--quiet", "--no-deps", *quick, *source, wanted).returncode == 0


def choose(wanted: str) -> str:
    """Installs torch if another than pip's choice is due; returns the line that says so."""
    other = "GPU=1 takes the one with CUDA."
    if index := os.environ.get("TORCH_INDEX"):
        if not install(wanted, "--index-url", index):
            sys.exit(f"TORCH_INDEX={index} has no {wanted} for this Python, or does not answer.")
        return f"torch {installed()} from {index}, which TORCH_INDEX names."
    if platform.system() != "Linux":
        return ""  # PyPI's has no CUDA
    if os.environ.get("GPU", "0") not in ("", "0"):
        return "torch from PyPI, with CUDA, since GPU is set."
    if has_gpu():
        return (
            "torch from PyPI, with CUDA, since there is a GPU. "
            f"TORCH_INDEX={CPU_INDEX} takes the one without."
        )
    if setting := own_index():
        return f"torch from the index in pip's setting {setting}."
    if install(wanted, "--no-index"):
        return f"torch {installed()}, which pip finds on this machine. {other}"
    if answers(CPU_INDEX) and install(wanted, "--index-url", CPU_INDEX):
        return f"torch {installed()} from {CPU_INDEX}, since no GPU was found. {other}"
    return (
        f"torch from PyPI, with CUDA: there is no GPU, but {CPU_INDEX} does not answer. "
        "TORCH_INDEX=URL names another index."
    )


if __name__ == "__main__":
    if not installed() and (line := choose(*sys.argv[1:2] or [requirement()])):
        print(line, flush=True)

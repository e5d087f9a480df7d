"""What the optimizer is compared with, in a virtual environment of its own.

    python benchmarks/peers.py

Makes benchmarks/.venv-peers with DeepCTR-Torch and FBGEMM's CPU kernels; torch and all else are
those of the Python it is run with, so that both sides run on the same torch. What cannot be
installed is left out in words, and the benchmarks run without it.
"""

from __future__ import annotations

import site
import subprocess
import sys
from pathlib import Path

import torch

FOLDER = Path(__file__).parent / ".venv-peers"


def packages() -> list[str]:
    """FBGEMM's minor versions follow torch's: 1.8 was built for 2.13."""
    minor = int(torch.__version__.split(".")[1])
    return ["deepctr-torch==0.3.0", f"fbgemm-gpu-cpu==1.{minor - 5}.*"]


def python() -> str:
    """The Python of that environment, made at the first call; this one where it cannot be made."""
    peer, done = FOLDER / "bin" / "python", FOLDER / ".installed"
    wanted = "\n".join([torch.__version__, sys.prefix, *packages()])
    if done.exists() and done.read_text() == wanted:
        return str(peer)
    print(f"Installing {' and '.join(packages())} into {FOLDER} (once) ...", flush=True)
    try:
        subprocess.run([sys.executable, "-m", "venv", "--clear", FOLDER], check=True)
    except subprocess.CalledProcessError as error:
        print(f"Without peers from PyPI: {error}.", flush=True)
        return sys.executable
    # addsitedir, because a plain path would not read the .pth files in it.
    lines = [f"import site; site.addsitedir({folder!r})" for folder in site.getsitepackages()]
    (own,) = FOLDER.glob("lib/python*/site-packages")
    (own / "project.pth").write_text("\n".join(lines) + "\n")
    for package in packages():
        pip = [
            peer,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--disable-pip-version-check",
            package,
        ]
        if subprocess.run(pip, stderr=subprocess.DEVNULL).returncode:
            print(f"Without {package}: pip could not install it.", flush=True)
    done.write_text(wanted)
    return str(peer)


if __name__ == "__main__":
    print(python())

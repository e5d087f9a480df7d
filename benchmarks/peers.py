"""What the optimizer is compared with, in a virtual environment of its own.

    python -m benchmarks.peers

Makes benchmarks/.venv-peers with DeepCTR-Torch and FBGEMM's CPU kernels; torch and all else are
those of the Python it is run with, so that both sides run on the same torch. FBGEMM is built for
one version of torch, and for the newest there may be none yet.
"""

from __future__ import annotations

import site
import subprocess
import sys
from pathlib import Path

import torch

FOLDER = Path(__file__).parent / ".venv-peers"


def packages() -> dict[str, str]:
    """Returns what to install for each module. FBGEMM follows torch: 1.8 was built for 2.13."""
    minor = int(torch.__version__.split(".")[1])
    fbgemm = f"fbgemm-gpu-cpu==1.{minor - 5}.*"
    return {"deepctr_torch": "deepctr-torch==0.3.0", "fbgemm_gpu": fbgemm}


def missing(python: str) -> list[str]:
    """Returns the packages that this Python lacks."""
    code = "import sys, importlib.util as u; sys.exit(u.find_spec(sys.argv[1]) is None)"
    return [
        package
        for module, package in packages().items()
        if subprocess.run([python, "-c", code, module]).returncode
    ]


def python() -> str:
    """Returns the Python of that environment, which the first call makes, with what pip finds."""
    peer, done = FOLDER / "bin" / "python", FOLDER / ".installed"
    wanted = "\n".join([torch.__version__, sys.prefix, *packages().values()])
    if done.exists() and done.read_text() == wanted:
        return str(peer)
    print(f"Installing {' and '.join(packages().values())} into {FOLDER} (once) ...", flush=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", FOLDER], check=True)
    # addsitedir, because a plain path would not read the .pth files in it.
    lines = [f"import site; site.addsitedir({folder!r})" for folder in site.getsitepackages()]
    (own,) = FOLDER.glob("lib/python*/site-packages")
    (own / "project.pth").write_text("\n".join(lines) + "\n")
    pip = [peer, "-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check"]
    for package in packages().values():
        subprocess.run([*pip, package], stderr=subprocess.DEVNULL)
    if not missing(str(peer)):
        done.write_text(wanted)
    return str(peer)


if __name__ == "__main__":
    print(python())

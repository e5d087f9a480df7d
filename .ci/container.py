"""Builds the container and runs the README's two commands in it: `make container`.

    python .ci/container.py [COMMAND ...]     instead of `make book PROFILE=quick` and `make test`

With Docker or Podman if there is one. Otherwise, as root on Debian, it runs the same steps, read
from the Dockerfile, in a chroot that mmdebstrap makes of the Debian named there; with the committed
files alone. The chroot stays in _build/container; with its last step done, only the commands run.

Uses the standard library alone, since nothing else needs to be installed.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
IMAGE = "second-epoch"
CHROOT = ROOT / "_build" / "container"
CERTIFICATES = "usr/local/share/ca-certificates"  # those that this machine's owner has added
NEEDED = (
    "make container needs Docker or Podman. Without them it runs the Dockerfile's steps in a "
    "chroot, as root on Linux, with mmdebstrap (apt install mmdebstrap)."
)


def steps(dockerfile: str) -> list[tuple[str, str]]:
    """Returns the instructions of a Dockerfile with their arguments, continued lines joined."""
    lines = [line for line in dockerfile.splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [(one[0], one[1]) for line in joined.splitlines() if (one := line.split(None, 1))]


def in_chroot(command: str, folder: str) -> None:
    """Runs a shell command in the chroot, with its own /proc and this machine's /dev."""
    inside = shlex.join(["chroot", str(CHROOT), "sh", "-ec", f"cd {folder}; {command}"])
    root = shlex.quote(str(CHROOT))
    mounts = f"mount -t proc proc {root}/proc && mount --rbind /dev {root}/dev"
    kept = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    environment = {"PATH": path, "HOME": "/root", "LANG": "C.UTF-8", **kept}
    call = ["unshare", "--mount", "--pid", "--fork", "sh", "-c", f"{mounts} && exec {inside}"]
    subprocess.run(call, check=True, env=environment)


def build_chroot(instructions: list[tuple[str, str]]) -> None:
    """Makes the chroot and runs all steps in it."""
    subprocess.run(["rm", "-rf", "--one-file-system", str(CHROOT)], check=True)
    CHROOT.parent.mkdir(exist_ok=True)
    folder = "/"
    for instruction, argument in instructions:
        if instruction == "FROM":
            suite = re.fullmatch(r"debian:(\w+)-slim", argument).group(1)
            make = ["mmdebstrap", "--mode=root", "--variant=minbase", suite, str(CHROOT)]
            subprocess.run(["unshare", "--mount", *make], check=True)
            if Path("/", CERTIFICATES).is_dir():
                shutil.copytree(Path("/", CERTIFICATES), CHROOT / CERTIFICATES, dirs_exist_ok=True)
        elif instruction == "WORKDIR":
            folder = argument
        elif (instruction, argument) == ("COPY", ". ."):
            target = CHROOT / folder.strip("/")
            subprocess.run(["git", "clone", "--quiet", str(ROOT), str(target)], check=True)
        elif instruction == "RUN":
            in_chroot(argument, folder)
        elif instruction != "CMD":
            sys.exit(f"Dockerfile: there is no such step for a chroot: {instruction} {argument}")


def main(commands: list[str]) -> None:
    """Builds the container and runs the commands in it; ends with the exit code of what failed."""
    instructions = steps((ROOT / "Dockerfile").read_text())
    said = dict(instructions)
    commands = commands or [shlex.join(json.loads(said["CMD"])), "make test"]
    engine = next(filter(None, map(shutil.which, ("docker", "podman"))), None)
    done = CHROOT / "container-built"
    if engine is None and (os.geteuid() != 0 or shutil.which("mmdebstrap") is None):
        sys.exit(NEEDED)
    start = time.monotonic()
    if engine is not None:
        subprocess.run([engine, "build", "--tag", IMAGE, str(ROOT)], check=True)
    elif not done.exists():
        build_chroot(instructions)
        done.touch()
    print(f"container: {time.monotonic() - start:.0f} s", flush=True)
    for command in commands:
        start = time.monotonic()
        if engine is not None:
            subprocess.run([engine, "run", "--rm", IMAGE, *shlex.split(command)], check=True)
        else:
            in_chroot(command, said["WORKDIR"])
        print(f"{command}: {time.monotonic() - start:.0f} s", flush=True)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except subprocess.CalledProcessError as error:
        sys.exit(f"failed: {shlex.join(map(str, error.cmd))}")

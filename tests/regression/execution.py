"""Runs notebooks in processes of their own, so that none can hang or kill the regression.

A process whose regression dies, however it dies, ends itself and the kernel that it started.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import nbformat

from reproduction.checks import recorded
from tools import notebooks

FAILED = 3  # exit code of a process whose notebook raised

# Seconds that a notebook may take before it counts as hung: many times what it does take.
LIMITS = {"quick": 300, "cpu": 3_600, "long": 48 * 3_600, "gpu": 3_600}


@dataclass(frozen=True)
class Job:
    """A notebook to run.

    folder: where the executed notebook is kept, under a key of all that it depends on.
    failed: where it goes instead if it fails, as far as it came.
    limit: seconds.
    """

    notebook: Path
    root: Path
    folder: Path
    failed: Path
    parameters: dict
    limit: float


@dataclass(frozen=True)
class Outcome:
    """How a notebook ended, and what it recorded until then.

    status: "ended", "raised" (a cell), "hung" (past its limit) or "died" (kernel or process).
    what: one sentence for a person, empty for "ended". where: the cell's id.
    executed: the notebook with its outputs, None where nothing could be kept.
    recorded: the contents of the Checks cells: numbers, directions, evidence.
    """

    notebook: str
    status: str
    what: str = ""
    where: str = ""
    traceback: str = ""
    executed: Path | None = None
    seconds: float = 0.0
    kept: bool = False
    recorded: list[dict] = field(default_factory=list)


def execute_all(jobs: Sequence[Job], at_once: int, threads: int) -> Iterator[tuple[Job, Outcome]]:
    """Runs the jobs, `at_once` side by side with so many threads each; yields as they end."""
    waiting, running = list(jobs), []
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                running.append(_Process(waiting.pop(0), threads))
            time.sleep(0.05)
            for process in list(running):
                outcome = process.outcome()
                if outcome is not None:
                    running.remove(process)
                    yield process.job, outcome
    finally:
        for process in running:
            process.kill()


class _Process:
    """A job at work in a process of its own."""

    def __init__(self, job: Job, threads: int) -> None:
        key = notebooks.key(job.notebook, job.root, job.parameters)
        self.job = job
        self.target = job.folder / f"{job.notebook.stem}-{key}.ipynb"
        self.kept = self.target.exists()
        job.failed.unlink(missing_ok=True)
        for left in job.folder.glob(f".{self.target.stem}.*.part.ipynb"):  # by one that was killed
            left.unlink(missing_ok=True)
        what = {name: str(getattr(job, name)) for name in ("notebook", "root", "folder", "failed")}
        # Training runs that a killed notebook has finished; the key leaves no stale ones.
        self.runs = (job.folder / "runs" / self.target.stem).resolve()
        environment = os.environ | {
            "MULTIEPOCH_RUNS": str(self.runs),
            "OMP_NUM_THREADS": str(threads),
        }
        self.started = time.perf_counter()
        self.process = subprocess.Popen(
            [sys.executable, "-m", __name__, json.dumps(what | {"parameters": job.parameters})],
            env=environment, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True, errors="replace",
        )  # fmt: skip
        self.said: list[str] = []
        self.listener = threading.Thread(target=self._listen, daemon=True)
        self.listener.start()

    def _listen(self) -> None:
        for line in self.process.stderr:
            self.said.append(line)

    def outcome(self) -> Outcome | None:
        """None while it runs."""
        seconds = time.perf_counter() - self.started
        code = self.process.poll()
        if code is None and seconds <= self.job.limit:
            return None
        name = self.job.notebook.stem
        if code == 0:
            shutil.rmtree(self.runs, ignore_errors=True)
            executed = nbformat.read(self.target, as_version=4)
            return Outcome(
                name, "ended", executed=self.target, kept=self.kept,
                seconds=executed.metadata["multiepoch"]["seconds"], recorded=recorded(executed),
            )  # fmt: skip
        self.kill()
        if code is None:
            status, what = "hung", f"ran past its limit of {self.job.limit:g} s"
        elif code == FAILED:
            status, what = "raised", ""
        else:
            self.listener.join(timeout=5)
            said = [line.strip() for line in self.said if line.strip()]
            reason = f": {said[-1]}" if said else ""
            status, what = "died", f"died with exit code {code}{reason}"
        return self._failure(status, what, seconds)

    def _failure(self, status: str, what: str, seconds: float) -> Outcome:
        """Keeps the notebook as far as it came, and says what happened in which cell."""
        job = self.job
        if not job.failed.exists():
            job.failed.parent.mkdir(parents=True, exist_ok=True)
            for partial in job.folder.glob(f".{self.target.stem}.{self.process.pid}.part.ipynb"):
                os.replace(partial, job.failed)
        try:
            document = nbformat.read(job.failed, as_version=4)
        except (OSError, nbformat.reader.NotJSONError):
            return Outcome(job.notebook.stem, status, f"{what}, before its first cell",
                           seconds=seconds)  # fmt: skip
        where, traceback = "", ""
        for cell in document.cells:
            errors = [o for o in cell.get("outputs", []) if o.output_type == "error"]
            if errors:
                where, error = cell.id, errors[0]
                traceback = _plain("\n".join(error.traceback))
                said = error.evalue or _culprit(traceback)
                what = f"raised {error.ename}{': ' if said else ''}{said}"
                break
            if cell.metadata.get("papermill", {}).get("status") == "running":
                where = cell.id
        return Outcome(
            job.notebook.stem, status, what, where, traceback, job.failed, seconds,
            recorded=recorded(document),
        )  # fmt: skip

    def kill(self) -> None:
        """Ends the process and the kernel under it, which is in a session of its own."""
        _kill_children(self.process.pid)
        self.process.kill()
        self.process.wait()


def takes(notebook: Path, parameter: str) -> bool:
    """Whether a notebook's parameters cell has that name."""
    return any(
        re.search(rf"^{parameter} *=", cell.source, flags=re.M)
        for cell in nbformat.read(notebook, as_version=4).cells
        if "parameters" in cell.metadata.get("tags", [])
    )


def at_once(profile: str) -> tuple[int, int]:
    """Notebooks side by side and threads for each, so that the cores are used and no more."""
    import torch

    from reproduction.runs import profile as profile_named

    if torch.cuda.is_available():
        return 1, os.cpu_count() or 1
    cores = os.cpu_count() or 1
    side_by_side = max(1, min(4, cores // profile_named(profile).workers))
    return side_by_side, max(1, math.floor(cores / side_by_side))


def _culprit(traceback: str) -> str:
    """The line that an error without a message was raised at, in the notebook itself."""
    found = re.findall(r"^-+> *\d+ *(.*)$", traceback, flags=re.M)
    return found[0].strip() if found else ""


def _plain(text: str) -> str:
    """Without the terminal's colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def _kill_children(pid: int) -> None:
    import psutil  # ipykernel brings it

    try:
        children = psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return
    for child in children:
        try:
            child.kill()
        except psutil.NoSuchProcess:
            continue


def _end_with_parent() -> None:
    """Waits for the regression's end of stdin to close, which the kernel does when it dies."""
    sys.stdin.read()
    _kill_children(os.getpid())
    os._exit(1)


def _main(arguments: str) -> int:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    job = json.loads(arguments)
    parameters = job.pop("parameters")
    try:
        notebooks.execute(**{name: Path(value) for name, value in job.items()},
                          parameters=parameters)  # fmt: skip
    except notebooks.NotebookFailed:
        return FAILED
    return 0


if __name__ == "__main__":
    code = _main(sys.argv[1])
    sys.stderr.flush()
    os._exit(code)  # the thread that waits at stdin would hold up an ordinary end

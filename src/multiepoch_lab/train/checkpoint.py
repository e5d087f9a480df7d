"""Saving and resuming runs: checkpoints, and Ctrl-C between two steps.

A checkpoint is complete or absent, and loads only into the run that it is of.
"""

import glob
import os
import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import torch
from torch.optim import Optimizer

from multiepoch_lab.data.log import Log
from multiepoch_lab.files import atomic_write


def save(path: Path, content: dict[str, Any]) -> None:
    """Replaces the file at `path`. A kill at any moment leaves the old file or the new one."""
    with atomic_write(path) as partial, open(partial, "wb") as file:
        torch.save(content, file)
        file.flush()
        os.fsync(file.fileno())
    for left in path.parent.glob(f".*.part.{glob.escape(path.name)}"):  # by a killed process
        left.unlink()


def load(path: Path, settings: dict[str, Any]) -> dict[str, Any] | None:
    """Returns what `save` wrote, on the CPU, or None if nothing was written yet.

    Raises a ValueError if it is of a run with other settings, or no checkpoint at all.
    """
    if not path.exists():
        return None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        written = content["settings"]
    except Exception as error:  # torch.load raises a different type for each kind of damage
        wrong = f"checkpoint {path} cannot be read as one of this package's ({error})"
        raise ValueError(f"{wrong}; give another path, or delete it to start afresh.") from error
    for name in settings | written:
        here, there = settings.get(name), written.get(name)
        if here != there:
            what = f"is of a run with {name} {there!r}, and this one has {here!r}"
            remedy = "give the same settings to resume, or another path to start afresh"
            raise ValueError(f"checkpoint {path} {what}; {remedy}.")
    return content


def describe_log(log: Log) -> list[float]:
    """Returns a few sums, which almost surely differ if the impressions do."""
    place = torch.arange(1, len(log) + 1, device=log.labels.device)  # makes the order count
    bags = (column.reshape(len(log), -1).sum(1) for column in log.ids.values())
    sums = [(bag * place).sum().item() for bag in bags]
    rest = (one.sum(0, dtype=torch.float64).tolist() for one in (log.labels, log.dense))
    return [len(log), *sums, *(value for part in rest for value in part)]


def describe_optimizers(optimizers: Iterable[Optimizer]) -> list[list[str]]:
    """Lists each optimizer's class and the options of its groups."""

    def describe(group: dict[str, Any]) -> str:
        plain = (bool, int, float, str, tuple)
        kept = {k: v for k, v in group.items() if isinstance(v, plain) or is_dataclass(v)}
        return ", ".join(f"{name}={value!r}" for name, value in kept.items())

    return [[type(one).__name__, *map(describe, one.param_groups)] for one in optimizers]


def random_state() -> dict[str, Any]:
    """Returns torch's global random states, of the CPU and of every CUDA device."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def set_random_state(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["cpu"])
    if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])


@contextmanager
def interrupts_deferred() -> Iterator[threading.Event]:
    """Makes Ctrl-C set the yielded event; a second one interrupts at once."""
    pressed = threading.Event()
    before = signal.getsignal(signal.SIGINT)
    here = threading.current_thread()
    if here is not threading.main_thread() or not callable(before):  # not caught, or ignored
        yield pressed
        return

    def on_interrupt(signum, frame) -> None:
        pressed.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, before)

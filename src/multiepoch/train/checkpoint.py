"""Stopping a training run and going on: checkpoints, and Ctrl-C between two steps.

A checkpoint is written whole or not at all, and read back only into the run it is of.
"""

from __future__ import annotations

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

from multiepoch.data.log import Log


def save(path: Path, content: dict[str, Any]) -> None:
    """Replaces the file at `path`. A kill at any moment leaves the old file or the new one."""
    partial = path.with_name(
        f".{path.name}.part"
    )  # one name: what a kill leaves, the next replaces
    try:
        with open(partial, "wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def load(path: Path, settings: dict[str, Any]) -> dict[str, Any] | None:
    """What `save` wrote, on the CPU; None where nothing was written yet.

    ValueError where it is of a run with other settings, or no checkpoint at all.
    """
    if not path.exists():
        return None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        written = content["settings"]
    except Exception as error:  # torch.load raises a different type for each kind of damage
        raise ValueError(
            f"checkpoint {path} cannot be read as one of this package's ({error}); "
            "give another path, or delete it to start anew."
        ) from error
    for name in settings | written:
        if settings.get(name) != written.get(name):
            raise ValueError(
                f"checkpoint {path} is of a run with {name} {written.get(name)!r}, and this one "
                f"has {settings.get(name)!r}; give the settings it was written with to go on, "
                "or another path to start anew."
            )
    return content


def describe_log(log: Log) -> list[float]:
    """A few sums that differ, but for bad luck, when the impressions do."""
    place = torch.arange(1, len(log) + 1, device=log.labels.device)  # so that their order counts
    sums = [(column * place).sum().item() for column in log.ids.values()]
    rest = (one.sum(0, dtype=torch.float64).tolist() for one in (log.labels, log.dense))
    return [len(log), *sums, *(value for part in rest for value in part)]


def describe_optimizers(optimizers: Iterable[Optimizer]) -> list[list[str]]:
    """Each optimizer's class and what it was set up with, group by group."""
    plain = (bool, int, float, str, tuple)
    return [
        [type(optimizer).__name__]
        + [
            ", ".join(
                f"{key}={value!r}"
                for key, value in group.items()
                if isinstance(value, plain) or is_dataclass(value)
            )
            for group in optimizer.param_groups
        ]
        for optimizer in optimizers
    ]


def random_state() -> dict[str, Any]:
    """Torch's global generators, on the CPU and on every CUDA device."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def set_random_state(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["cpu"])
    if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])


@contextmanager
def interrupts_deferred() -> Iterator[threading.Event]:
    """Ctrl-C sets the event and the loop stops at its next step; a second one stops at once."""
    pressed = threading.Event()
    before = signal.getsignal(signal.SIGINT)
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or not callable(before):  # cannot be caught, or is to be ignored
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

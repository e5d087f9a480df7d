"""The first lines of every notebook: what it runs with."""

import platform
from collections.abc import Sequence

import torch

from multiepoch.data import Log
from reproduction.runs import Profile, resolve_device
from reproduction.runs import profile as profile_named


def start(
    profile: str, device: str = "auto", seeds: Sequence[int] | None = None
) -> tuple[Profile, str, Sequence[int]]:
    """Returns the sizes, the device and the seeds of a notebook, and prints them.

    Its batches are small, and a second thread would only wait for the first, so it has one.
    """
    torch.set_num_threads(1)
    sizes, device = profile_named(profile), resolve_device(device)
    seeds = seeds or sizes.seeds
    print(f"Python {platform.python_version()}, torch {torch.__version__}")
    print(f"profile {sizes.name}, device {device}, seeds {seeds}")
    return sizes, device, seeds


def small_world(seed: int) -> tuple[Log, Log, int]:
    """Returns a log to train on, one of a later day, and the batch size: seconds for two epochs."""
    small = profile_named("quick")
    log, _, test = small.split(small.world(seed))
    return log, test, small.batch_size

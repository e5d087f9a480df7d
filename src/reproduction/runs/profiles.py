"""Profiles: sizes, seeds and epochs by name. An experiment runs the same code in each."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from multiepoch_lab.data import AdsWorld, Log


@dataclass(frozen=True)
class Profile:
    """Sizes of the world and of a run. Impressions, users and products keep their proportion.

    Training sees `train_days` days. The next is for validation (tuning only), the one after for the
    test (reported numbers only).
    """

    name: str
    n_users: int
    n_products: int
    n_campaigns: int
    n_advertisers: int
    impressions_per_day: int
    batch_size: int  # impressions per step
    seeds: tuple[int, ...]  # of the reported runs
    tuning_seeds: tuple[int, ...] = (100, 101)  # for rates and hyperparameters; none in `seeds`
    train_days: int = 4  # of the training window
    epochs: int = 4  # over the window in a multi-epoch run
    workers: int = 2  # processes of one thread that share the runs on a CPU
    held_out: int = 0  # impressions of the last two days; 0 for as many as a day has
    mapped: bool = False  # whether runs read their window from a file that they share
    # What some experiments do less of in small profiles.
    board_divisor: int = 1  # the board's world has the sizes over this
    divides: bool = True  # whether the study of interplay has smaller worlds, too
    days: int = 20  # of training day after day
    largest: float = 16  # window of the study of scale, in multiples of the profile's
    trials: tuple[int, int] | None = None  # of a search, at first and at most; None for its own
    searches: int = 3  # each with tuning seeds of its own, where a search is repeated
    every_scale: bool = False  # whether chapter 7 trains all scales of FAL
    short_on_kuairand: bool = False  # whether chapter 12 trains few runs, and for two epochs
    # Real logs are cut or made up, all experiments have the profile's seeds, and no rate is kept.
    toy: bool = False

    def sizes(self) -> dict[str, int]:
        """Returns the fields on which the result of a run depends, for its key."""
        names = ("batch_size", "train_days", "held_out", "toy")
        return self.of_world() | {name: getattr(self, name) for name in names}

    def of_world(self) -> dict[str, int]:
        """Returns the fields that are sizes of the world."""
        names = ("n_users", "n_products", "n_campaigns", "n_advertisers", "impressions_per_day")
        return {name: getattr(self, name) for name in names}

    def world(self, seed: int, **constants) -> AdsWorld:
        """Returns the world of that seed."""
        return AdsWorld(seed=seed, **self.of_world(), **constants)

    def split(self, world: AdsWorld) -> tuple[Log, Log, Log]:
        """Returns the training window, the validation day and the test day.

        All three have the schema of the test day, so that a table has a row for each id.
        """
        last = self.train_days + 1
        schema = world.schema(last)
        held_out = (world.day(day, self.held_out or None) for day in (last - 1, last))
        logs = world.days(0, self.train_days - 1), *held_out
        return tuple(replace(log, schema=schema) for log in logs)

    def board(self) -> Profile:
        """Returns the sizes of the board."""
        return self.smaller(self.board_divisor)

    def smaller(self, divisor: int) -> Profile:
        """Returns a world with as many lookups a row, and about as many steps an epoch."""
        sizes = {name: size // divisor for name, size in self.of_world().items()}
        return replace(self, **sizes, batch_size=self.batch_size // max(1, divisor // 2))


_QUICK = Profile(
    name="quick",
    n_users=4_000,
    n_products=2_000,
    n_campaigns=200,
    n_advertisers=40,
    impressions_per_day=10_000,
    batch_size=512,
    seeds=(0,),
    workers=1,
    divides=False,
    days=4,
    short_on_kuairand=True,
)
_CPU = Profile(
    name="cpu",
    n_users=50_000,
    n_products=25_000,
    n_campaigns=1_250,
    n_advertisers=125,
    impressions_per_day=125_000,
    batch_size=2_048,
    seeds=(0, 1, 2),
    days=10,
    board_divisor=8,
)

PROFILES: dict[str, Profile] = {
    "toy": replace(
        _QUICK,
        name="toy",
        n_users=200,
        n_products=100,
        n_campaigns=20,
        n_advertisers=5,
        impressions_per_day=128,
        batch_size=256,
        seeds=(0, 1),
        held_out=512,
        largest=1,
        trials=(2, 3),
        searches=1,
        every_scale=True,
        short_on_kuairand=False,
        toy=True,
    ),
    "quick": _QUICK,
    "cpu": _CPU,
    "long": replace(_CPU, name="long", seeds=(0, 1, 2, 3, 4), days=20, every_scale=True),
    "gpu": replace(
        _CPU,
        name="gpu",
        **{name: 10 * size for name, size in _CPU.of_world().items()},
        batch_size=16_384,
        seeds=(0, 1, 2, 3, 4),
        days=30,
        board_divisor=1,
        every_scale=True,
    ),
}


def profile(name: str) -> Profile:
    """Returns the profile of that name.

    Raises:
        ValueError: If there is none. The message lists those that exist.
    """
    if name not in PROFILES:
        raise ValueError(f"profile {name!r} does not exist; choose from {', '.join(PROFILES)}.")
    return PROFILES[name]


def kept_runs() -> Path:
    """Returns the folder where finished runs are kept, runs/; MULTIEPOCH_RUNS overrides it."""
    return Path(os.environ.get("MULTIEPOCH_RUNS", "runs"))

"""Where a run's logs come from. A new data set is one entry of SOURCES."""

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from multiepoch_lab.data import PACKAGED_SPLIT, DataError, Log, Schema, load_kuairand, split_by_day
from multiepoch_lab.files import atomic_write
from multiepoch_lab.runner import run_key
from reproduction.runs.profiles import Profile, kept_runs

WINDOWS = "windows"  # the folder of those that are mapped, beside the kept runs
Window = tuple[Log, Log, Log]  # the training window, the validation day, the test days


@dataclass(frozen=True)
class Source:
    """A source of logs.

    `read` is called with the profile, whether to keep the cross, the seed, and the keywords of
    Profile.world. A log that is not synthetic ignores all but the cross.
    """

    read: Callable[..., Window]
    new_ids: tuple[str, str]  # the id columns by which an impression counts as one with a new id
    batch_size: int = 0  # impressions a step; 0 for the profile's


def _world(profile: Profile, cross: bool, **world) -> Window:
    logs = profile.split(profile.world(**world))
    return logs if cross else tuple(log.without("user_x_advertiser") for log in logs)


@lru_cache(maxsize=2)
def _toy_kuairand(cross: bool) -> Log:
    """Returns the log of a hundredth of the users, with the rows that it looks up alone."""
    log = load_kuairand(cross=cross)
    log = log[log.ids["user"] % 200 < 2]  # of both halves
    known = {name: column.unique(return_inverse=True) for name, column in log.ids.items()}
    cardinality = {name: len(rows) for name, (rows, _) in known.items()}
    return log.with_ids({name: ids for name, (_, ids) in known.items()}, cardinality)


def _kuairand(
    profile: Profile, cross: bool, first: int = 0, split: dict[str, int] = PACKAGED_SPLIT, **_
) -> Window:
    log = _toy_kuairand(cross) if profile.toy else load_kuairand(cross=cross)
    return split_by_day(log[log.day >= first], **split)


def _kuairand_half(profile: Profile, cross: bool, **_) -> Window:
    """Keeps every second user, whose rows stay as they are, and evaluates on a quarter."""
    whole = _toy_kuairand(cross) if profile.toy else load_kuairand(cross=cross)
    log, *held_out = split_by_day(whole[whole.ids["user"] % 2 == 0], **PACKAGED_SPLIT)
    return log, *(one[torch.arange(0, len(one), 4)] for one in held_out)


def _file(name: str) -> Path | None:
    """Returns where the log of that name would be in MULTIEPOCH_LOGS; None if that is not set."""
    folder = os.environ.get("MULTIEPOCH_LOGS")
    return Path(folder) / f"{name}.parquet" if folder else None


def _user_items(
    profile: Profile, cross: bool, name: str, labels: tuple[str, ...], split: dict[str, int], **_
) -> Window:
    """Reads a log of users and items that does not travel with the project.

    The Parquet file NAME.parquet in the folder MULTIEPOCH_LOGS has columns user, item, time (or
    timestamp, in Unix seconds) and the labels, 0 or 1.
    """
    if profile.toy:
        return _user_items_log(_made_up(labels, split["test"] + 1), labels, split)
    path = _file(name)
    if path is None:
        raise DataError(f"{name} does not travel with the project; set MULTIEPOCH_LOGS to a folder")
    if not path.exists():
        raise DataError(
            f"{path} is missing; put the log there, or set MULTIEPOCH_LOGS to its folder"
        )
    raw = pd.read_parquet(path).rename(columns={"timestamp": "time"})
    if missing := {"user", "item", "time", *labels} - set(raw.columns):
        raise DataError(
            f"{path} has no column {', '.join(sorted(missing))}; it has {[*raw.columns]}."
        )
    return _user_items_log(raw, labels, split)


def _made_up(labels: tuple[str, ...], days: int, n: int = 800) -> pd.DataFrame:
    """Returns n impressions with labels by chance, in place of a log that does not travel."""
    draw = np.random.default_rng(0)
    columns = {name: (60 * draw.random(n) ** 2).astype(int) for name in ("user", "item")}
    columns["time"] = np.linspace(0, days * 86_400 - 1, n).astype(int)
    return pd.DataFrame(columns | {name: draw.random(n) < 0.2 for name in labels})


def _user_items_log(raw: pd.DataFrame, labels: tuple[str, ...], split: dict[str, int]) -> Window:
    raw = raw.sort_values("time", kind="stable", ignore_index=True)
    numeric = pd.api.types.is_numeric_dtype(raw["time"])
    time = pd.to_datetime(raw["time"], unit="s" if numeric else None)
    hour = 2 * np.pi * (time.dt.hour + time.dt.minute / 60) / 24
    dense = np.sqrt(2) * np.stack([np.sin(hour), np.cos(hour)], axis=1)
    columns = {column: pd.factorize(raw[column])[0] for column in ("user", "item")}
    cardinality = {column: int(ids.max()) + 1 for column, ids in columns.items()}
    schema = Schema(cardinality, ("hour_sin", "hour_cos"), labels)
    day = (time.dt.normalize() - time.dt.normalize().min()).dt.days.to_numpy()
    truth = raw[list(labels)].to_numpy(np.float32, copy=True)
    log = Log.from_numpy(schema, columns, dense=dense, labels=truth, day=day)
    return split_by_day(log, **split)


def _split_at(train: int, validation: int, test: int, read: Callable, **how) -> Callable:
    """Returns `read` with the last day of each part, as in `split_by_day`."""
    return partial(read, split={"train": train, "validation": validation, "test": test}, **how)


# KuaiRand is small: with the profile's batch size an epoch would be some sixty steps.
SOURCES = {
    "world": Source(_world, ("user", "product")),
    "kuairand": Source(_kuairand, ("user", "video"), 512),
    # Two more windows, each with later days.
    "kuairand, early": Source(_split_at(3, 4, 6, _kuairand), ("user", "video"), 512),
    "kuairand, late": Source(_split_at(9, 10, 13, _kuairand, first=5), ("user", "video"), 512),
    "half of kuairand": Source(_kuairand_half, ("user", "video"), 512),
    "retailrocket": Source(
        _split_at(100, 112, 138, _user_items, name="retailrocket", labels=("cart", "buy")),
        ("user", "item"),
        128,
    ),
    "tmall": Source(
        _split_at(5, 6, 8, _user_items, name="tmall", labels=("bought", "carted")),
        ("user", "item"),
        256,
    ),
}


def window(
    profile: Profile, data: str = "world", seed: int = 0, cross: bool = True, **world
) -> Window:
    """Returns the training window, the validation day and the test days of a source.

    Args:
        profile: Sizes of the world.
        data: A key of SOURCES.
        seed: Of the world.
        cross: Keeps the ultra-sparse id column.
        world: Further keywords of Profile.world.

    Raises:
        ValueError: If there is no such source. The message lists those that exist.
    """
    if data not in SOURCES:
        raise ValueError(f"no data {data!r}; choose from {', '.join(SOURCES)}.")
    return _window(profile, data, seed, cross, json.dumps(world, sort_keys=True), version(data))


@lru_cache(maxsize=2)
def _window(
    profile: Profile, data: str, seed: int, cross: bool, world: str, version: str
) -> Window:
    read = partial(SOURCES[data].read, profile, cross, seed=seed, **json.loads(world))
    if not profile.mapped:
        return read()
    settings = [profile.sizes(), data, seed, cross, world, version]
    path = (
        kept_runs()
        / WINDOWS
        / f"{run_key(settings, 'multiepoch_lab.data', 'reproduction.runs')}.pt"
    )
    with open(path.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one process makes the window, and the others wait
        if not path.exists():
            with atomic_write(path) as partial_path:
                torch.save(read(), partial_path)
    with torch.serialization.safe_globals([Log, Schema]):
        return torch.load(path, mmap=True, weights_only=True)


@contextmanager
def mapped(profile: Profile) -> Iterator[Profile]:
    """Yields a profile whose runs map each window from a file, which is removed in the end.

    Its processes share one copy of a window, and that is in memory as a whole only while the first
    of them makes it; later the system may drop pages of it and read them again.
    """
    folder = kept_runs() / WINDOWS
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        try:
            yield replace(profile, mapped=True)
        finally:
            with suppress(BlockingIOError):  # another call still reads there, and removes it
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)


def version(data: str) -> str:
    """Returns what tells one file of a user from another; "" if there is none."""
    place = os.environ.get("MULTIEPOCH_KUAIRAND", "") if "kuairand" in data else ""
    path = Path(place) if place else _file(data)
    if path is None or not path.exists():
        return place  # an address
    return f"{path.stat().st_size} {path.stat().st_mtime_ns}"


def has_new_id(log: Log, held_out: Log, columns: tuple[str, ...]) -> Tensor:
    """Returns 1 for impressions with an id that the window does not have, else 0, int64 (n,)."""
    new = torch.zeros(len(held_out), dtype=torch.bool, device=held_out.device)
    for name in columns:
        there = torch.bincount(log.ids[name], minlength=log.schema.cardinality[name]) > 0
        new |= ~there[held_out.ids[name]]
    return new.long()

"""Reads any CSV or Parquet log, one file or a folder of them, part by part as a `Log`.

`map_log` streams the files once: it numbers the ids, checks every value, and keeps plain arrays on
disk under the hash of the files. `MappedLog` reads days or rows of them as a `Log`. Only one chunk
and the keys of the ids are in memory, never the log.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from multiepoch_compare.readers import files, parse
from multiepoch_compare.readers.columns import Columns
from multiepoch_compare.readers.row_map import Alike, RowMap, keys_of
from multiepoch_lab.data.hashing import hashed_cross
from multiepoch_lab.data.log import DataError, Log, Schema
from multiepoch_lab.runner import in_words

_VERSION = 8  # of the arrays on disk; another number makes kept logs stale
_MOST_IDS = 2**31 - 1
_DAY_KEYS = ("day", "date", "dt", "ds")  # of folders that are named in Hive's way


def default_cache() -> Path:
    """Returns MULTIEPOCH_CACHE, or multiepoch/ in the user's cache folder."""
    home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return Path(os.environ.get("MULTIEPOCH_CACHE", home / "multiepoch"))


def map_log(
    path: str | Path,
    columns: Columns,
    cache: str | Path | None = None,
    share: float = 1.0,
    say: Callable[[str], None] = lambda line: None,
) -> MappedLog:
    """Numbers and checks the impressions of a file or folder, unless the cache holds them already.

    Args:
        path: A CSV or Parquet file, or a folder of them.
        columns: The columns to read.
        cache: The folder that keeps the result; by default, default_cache().
        share: Of the values of the first id column, such as users, all of whose rows are read.
        say: Is called with a progress line now and then.

    Raises:
        DataError: If something is missing, damaged or out of range. No partial result is left.
    """
    columns.check()
    parse.check_zone(columns.tz)
    found = files.find(path)
    if columns.day and all(f"/{columns.day}=" in file.as_posix() for file in found):
        columns = replace(columns, day=None)  # Hive's way: the folders' names hold the day
    for file in found:  # before the files are read from end to end
        names = files.column_names(file)
        files.require_columns(names, [*columns.texts, *columns.dense], file)
    of_day = _days_by_name(Path(path), found)
    cache, total = default_cache() if cache is None else Path(cache), files.about_rows(found)
    say(f"{path}: about {total:,} impressions")
    meaning = {name: value for name, value in asdict(columns).items() if name != "cross"}
    before = files.stamps(found)
    named = of_day if columns.day is None else None
    folder = cache / files.fingerprint(found, [_VERSION, meaning, share, named], whole=share == 1)
    if not folder.exists():
        with files.kept_folder(folder) as partial:
            _map(found, of_day, columns, partial, share, total, say)
            if files.stamps(found) != before:
                what = "changed while it was read; give a copy that no longer grows"
                raise DataError(f"{path}: {what}.")
    return MappedLog(folder, columns)


class MappedLog:
    """Reads parts of a log that `map_log` keeps on disk.

    Attributes:
        n: The number of impressions.
        days: The names of its days, in order; of its hours, if it has fewer than 3 days.
        starts: The first hour of each, since 1970 or the day numbered 0.
        day: The day of each impression, as a position in `days`; (n,) int32.
        day_counts: The impressions of each day; (n_days,).
        missing: The missing ids of each id column, which share a row of their own.
        alike: The ids of each column that differ from another by case, blanks or composition alone.
        cardinality: The number of rows of each id column.
        rates: The share of ones of each label.
    """

    def __init__(self, folder: Path, columns: Columns) -> None:
        self.folder, self.columns = folder, columns
        about = json.loads((folder / "about.json").read_text())
        self.n: int = about["n"]
        self.days: list[str] = about["days"]
        self.missing: dict[str, int] = dict(zip(columns.ids, about["missing"]))
        self.alike: dict[str, int] = dict(zip(columns.ids, about["alike"]))
        self.starts: list[int] = about["starts"]
        self.cardinality: dict[str, int] = dict(zip(columns.ids, about["cardinality"]))
        self.rates: list[float] = about["rates"]
        self.day = self._array("day", np.int32)
        self.day_counts = np.bincount(self.day, minlength=len(self.days))

    @property
    def schema(self) -> Schema:
        """Lists the ids, then the crosses, each hashed into a power of two."""
        crosses = {f"{a}_x_{b}": self.cross_rows for a, b in self.columns.cross}
        return Schema(self.cardinality | crosses, self.columns.dense, self.columns.labels)

    @property
    def cross_rows(self) -> int:
        """The table size of a cross: at least one row per impression, at most 4M."""
        return min(1 << 22, 1 << max(10, (self.n - 1).bit_length()))

    def read(self, rows: slice | np.ndarray) -> Log:
        """Returns the impressions at those positions of the files."""

        def stacked(kind: str, names: tuple[str, ...], dtype) -> torch.Tensor:
            columns = [self._array(f"{kind}-{k}", dtype)[rows] for k in range(len(names))]
            matrix = np.stack(columns, 1) if columns else np.zeros((len(day), 0))
            return torch.from_numpy(matrix.astype(np.float32))

        day, names = np.array(self.day[rows]), enumerate(self.columns.ids)
        ids = {name: self._array(f"id-{k}", np.int32)[rows].astype(np.int64) for k, name in names}
        for a, b in self.columns.cross:
            ids[f"{a}_x_{b}"] = hashed_cross(ids[a], ids[b], self.cross_rows)
        return Log(
            schema=self.schema,
            ids={name: torch.from_numpy(column) for name, column in ids.items()},
            dense=stacked("dense", self.columns.dense, np.float32),
            labels=stacked("label", self.columns.labels, np.uint8),
            day=torch.from_numpy(day),
        )

    def rows_of(self, first: int, last: int) -> slice | np.ndarray:
        """Returns the rows of days first to last, both included; as a slice if they adjoin."""
        rows = np.flatnonzero((self.day >= first) & (self.day <= last))
        if len(rows) and rows[-1] - rows[0] + 1 == len(rows):
            return slice(int(rows[0]), int(rows[-1]) + 1)
        return rows

    def read_days(self, first: int, last: int | None = None) -> Log:
        """Returns the impressions of days first to last, both included."""
        return self.read(self.rows_of(first, first if last is None else last))

    def _array(self, name: str, dtype) -> np.ndarray:
        return np.memmap(self.folder / name, dtype, mode="r")


class _IdColumn:
    """Writes the rows of one id column."""

    def __init__(self, folder: Path, k: int) -> None:
        self.map, self.alike, self.type, self.n_missing = RowMap(), Alike(), None, 0
        self.out = (folder / f"id-{k}").open("wb")

    def add(self, column: pa.Array, place: parse.Place) -> None:
        self.n_missing += column.null_count
        codes, values = parse.encoded(column)
        parse.check_ids(codes, values, place)
        self.type = self.type or values.type
        if values.type != self.type:
            what = f"of type {values.type}, but of type {self.type} in the files before it"
            place.refuse(0, what, "write all files alike")
        keys = keys_of(values)
        if parse.is_text(values.type):
            self.alike.add(values, keys)
        rows = self.map.rows(keys)
        if self.map.n >= _MOST_IDS:
            place.refuse(0, "more than two billion different ids", "hash them into fewer")
        self.out.write(rows[codes])

    def close(self) -> None:
        self.out.close()


def _days_by_name(path: Path, found: list[Path]) -> list[str]:
    """Names the day of each file, if there is no column with it: the file, or its subfolder.

    In Hive's way, subfolders are named like day=2024-03-01, or year=2024/month=3/day=1; others
    among them, such as country=de, do not count.
    """

    def day(file: Path) -> str:
        parts = file.relative_to(path).parts if file != path else (file.name,)
        of = {part.partition("=")[0]: part for part in parts[:-1] if "=" in part}
        if of.keys().isdisjoint(_DAY_KEYS):
            return parts[0]
        return "/".join(part for key, part in of.items() if key in ("year", "month", *_DAY_KEYS))

    names = [day(file) for file in found]
    for file, name in zip(found, names):
        if "__HIVE_DEFAULT_PARTITION__" in name:  # would come last, and be tested on
            raise DataError(f"{file}: its rows have no day; leave out the folder {name}.")
    return names


def _map(
    found: list[Path],
    of_day: list[str],
    columns: Columns,
    folder: Path,
    share: float,
    total: int,
    say,
) -> None:
    days: list[np.ndarray] = []
    by_name = sorted(set(of_day), key=files.in_order)  # folders above the day may hold some alone
    form, n, started = None, 0, time.perf_counter()
    ones = dict.fromkeys(columns.labels, 0)
    with (
        ExitStack() as open_files,
        ThreadPoolExecutor(os.cpu_count() or 1) as pool,  # for the id columns of a chunk
        ThreadPoolExecutor(1) as ahead,  # reads the next chunk meanwhile
    ):
        opened = open_files.enter_context
        ids = [opened(closing(_IdColumn(folder, k))) for k in range(len(columns.ids))]
        out = {
            name: opened((folder / f"{kind}-{k}").open("wb"))
            for kind, names in (("label", columns.labels), ("dense", columns.dense))
            for k, name in enumerate(names)
        }
        stream = _stream(found, columns, share)
        coming = ahead.submit(next, stream, None)
        while (chunk := coming.result()) is not None:
            coming = ahead.submit(next, stream, None)
            batch, file_index, at = chunk
            file, names = str(found[file_index]), batch.schema.names
            place = {name: parse.Place(file, name, 0, at) for name in names}
            jobs = [
                pool.submit(column.add, batch.column(name), place[name])
                for column, name in zip(ids, columns.ids)
            ]
            for name in columns.labels:
                labels = parse.labels(batch.column(name), place[name])
                ones[name] += int(labels.sum())
                out[name].write(labels)
            for name in columns.dense:
                out[name].write(parse.dense(batch.column(name), place[name]))
            if columns.day is None:
                days.append(np.full(len(batch), by_name.index(of_day[file_index]), np.int32))
            else:
                column = batch.column(columns.day)
                day, form = parse.days(column, place[columns.day], form, columns.tz)
                days.append(day)
            for job in jobs:
                job.result()
            n += len(batch)
            left = (time.perf_counter() - started) / n * max(total * share - n, 0)
            say(f"read {n:,} impressions, about {in_words(left)} left")
    if n == 0 and share < 1:
        remedy = "name the column with most, such as the user's, first in --ids"
        raise DataError(f"{found[0]}: the sample holds none of the few ids; {remedy}.")
    if n == 0:
        raise DataError(f"{found[0]}: no rows; it must hold at least one impression.")
    names, starts = _write_days(np.concatenate(days), form, by_name, columns, folder)
    about = {
        "n": n,
        "days": names,
        "starts": starts,
        "cardinality": [column.map.n for column in ids],
        "rates": [ones[name] / n for name in columns.labels],
        "missing": [column.n_missing for column in ids],
        "alike": [column.alike.count(column.map.keys) for column in ids],
    }
    (folder / "about.json").write_text(json.dumps(about))


def _stream(found: list[Path], columns: Columns, share: float) -> Iterator[tuple]:
    """Yields (chunk, position of its file, the row in the file of each row of the chunk)."""
    for index, file in enumerate(found):
        first = 0
        for batch in files.chunks(file, columns.texts, columns.dense):
            rows = np.arange(first, first + len(batch))
            first += len(batch)
            if share < 1:
                place = parse.Place(str(file), columns.ids[0], 0, rows)
                kept = pa.array(_in_sample(batch.column(place.column), share, place))
                ours = [parse.decoded(column).filter(kept) for column in batch.columns]
                batch = pa.record_batch(ours, batch.schema.names)
                rows = rows[kept.to_numpy(zero_copy_only=False)]
            if len(batch):
                yield batch, index, rows


def _in_sample(column: pa.Array, share: float, place: parse.Place) -> np.ndarray:
    """Returns which rows have an id of the sample, (n,) bool; it is the same in every file."""
    codes, values = parse.encoded(column)
    parse.check_ids(codes, values, place)
    mixed = keys_of(values) * np.uint64(0x9E3779B97F4A7C15)
    return ((mixed >> np.uint64(32)) < share * 2**32)[codes]


def _write_days(
    day: np.ndarray, form, by_name: list[str], columns: Columns, folder: Path
) -> tuple[list[str], list[int]]:
    """Writes the days, numbered from 0 without gaps; returns their names and first hours.

    If there are fewer than 3 days and the log has times of the day, its hours take their place.
    """
    if columns.day is not None:
        whole = len(np.unique(day // 24)) >= 3 or len(np.unique(day)) < 3
        unit = 24 if whole else 1
        period = day // unit
        present = np.flatnonzero(np.bincount(period - period.min())) + period.min()
        day, starts = np.searchsorted(present, period), (present * unit).tolist()
        names = [parse.day_name(start, form, whole) for start in starts]
    else:
        names = by_name
        starts = [24 * k for k in range(len(names))]
    (folder / "day").write_bytes(day.astype(np.int32))  # unlike `tofile`, it says why it cannot
    return names, starts

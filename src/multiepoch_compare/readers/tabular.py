"""Any CSV or Parquet log, one file or a folder of them, as a `Log` read from disk part by part.

`map_log` streams the files once: it numbers the ids, checks every value, and keeps plain arrays on
disk under the hash of the files. `MappedLog` reads days or rows of them as a `Log`. In memory are
one chunk and the keys of the ids (see vocabulary.py), never the log.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from multiepoch.data.hashing import hashed_cross
from multiepoch.data.log import DataError, Log, Schema
from multiepoch_compare.readers import columns as parse
from multiepoch_compare.readers import files
from multiepoch_compare.readers.vocabulary import RowMap, keys_of

_VERSION = 1  # of what is kept; another number makes kept logs stale


@dataclass(frozen=True)
class Columns:
    """Which columns of a file are what.

    ids, labels, dense: names of columns.
    day: the column with the day; None in a folder where each file is a day, in order of names.
    day_format: a key of columns.DAYS; found from the first row where None.
    parts: rows in order of time over so many days, where a file has no day column.
    cross: pairs of id columns, each to be one more id.
    counts: those dense features that are counts and may be missing.
    header: the names of all columns of a CSV file that has no header.
    """

    ids: tuple[str, ...]
    labels: tuple[str, ...]
    day: str | None = None
    dense: tuple[str, ...] = ()
    day_format: str | None = None
    parts: int | None = None
    cross: tuple[tuple[str, str], ...] = ()
    counts: tuple[str, ...] = ()
    header: tuple[str, ...] | None = None

    def check(self) -> None:
        if not self.ids:
            raise DataError("ids: none is named; name at least one column of ids.")
        if not self.labels:
            raise DataError("labels: none is named; name at least one column of zeros and ones.")
        named = [*self.ids, *self.labels, *self.dense, *([self.day] if self.day else [])]
        for name in named:
            if named.count(name) > 1:
                raise DataError(
                    f"column {name!r} is named twice; name it as one of ids, labels, dense and day."
                )
        for pair in self.cross:
            for name in pair:
                if name not in self.ids:
                    raise DataError(
                        f"cross: {name!r} is not among the ids "
                        f"{', '.join(self.ids)}; add it to them."
                    )


def default_cache() -> Path:
    """MULTIEPOCH_CACHE, or multiepoch/ in the user's cache folder."""
    home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return Path(os.environ.get("MULTIEPOCH_CACHE", home / "multiepoch"))


def map_log(
    path: str | Path,
    columns: Columns,
    cache: str | Path | None = None,
    rows: int | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> MappedLog:
    """Numbers and checks the impressions of a file or folder, or finds that this was done before.

    rows: read only so many, from the first on.
    cache: the folder that keeps what was mapped; default_cache() where None.
    say: is given a line now and then.
    DataError for what is missing, damaged or out of range; nothing half-written is left behind.
    """
    columns.check()
    found = files.find(path)
    for file in found:  # before the files are read from end to end
        names = files.column_names(file, columns.header)
        wanted = [*columns.ids, *columns.labels, *columns.dense]
        files.require_columns(file, names, wanted + ([columns.day] if columns.day else []))
    cache = default_cache() if cache is None else Path(cache)
    key = _key(found, columns, rows)
    folder = cache / key
    if not (folder / "about.json").exists():
        partial = cache / f".{key}.{os.getpid()}.part"
        try:
            partial.mkdir(parents=True, exist_ok=True)
            _map(found, columns, partial, rows, say)
            if not folder.exists():
                os.replace(partial, folder)
        except OSError as error:
            raise disk_error(error, cache, "set MULTIEPOCH_CACHE to another") from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return MappedLog(folder, columns)


def disk_error(error: OSError, folder: Path, instead: str) -> DataError:
    """The sentence for a folder that cannot be written to."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT) or "space left" in str(error)
    reason = "the disk is full" if full else f"cannot be written to ({error.strerror or error})"
    would_do = "free some space" if full else "make it writable"
    return DataError(f"{folder}: {reason}; {would_do}, or {instead}.")


class MappedLog:
    """A log on disk. n: impressions; days: its days in words, in order; day_counts: (n_days,)."""

    def __init__(self, folder: Path, columns: Columns) -> None:
        self.folder, self.columns = folder, columns
        about = json.loads((folder / "about.json").read_text())
        self.n: int = about["n"]
        self.days: list[str] = about["days"]
        self.cardinality: dict[str, int] = dict(zip(columns.ids, about["cardinality"]))
        self.day = self._array("day", np.int32)  # 0, 1, ... over the days that are there
        self.day_counts = np.bincount(self.day, minlength=len(self.days)) if self.n else np.zeros(0)

    @property
    def schema(self) -> Schema:
        """Cardinalities of the ids, then of the crosses, each hashed into a power of two."""
        crosses = {f"{a}_x_{b}": self.cross_rows for a, b in self.columns.cross}
        return Schema(self.cardinality | crosses, self.columns.dense, self.columns.labels)

    @property
    def cross_rows(self) -> int:
        """At least one row an impression, at most 4M."""
        return min(1 << 22, 1 << max(10, (self.n - 1).bit_length()))

    def read(self, rows: slice | np.ndarray) -> Log:
        """The impressions at those positions of the files."""
        ids = {
            name: np.asarray(self._array(f"id-{k}", np.int32)[rows]).astype(np.int64)
            for k, name in enumerate(self.columns.ids)
        }
        ids |= {
            f"{a}_x_{b}": hashed_cross(ids[a], ids[b], self.cross_rows)
            for a, b in self.columns.cross
        }
        n = len(next(iter(ids.values())))
        dense = [
            self._array(f"dense-{k}", np.float32)[rows] for k in range(len(self.columns.dense))
        ]
        labels = [
            self._array(f"label-{k}", np.uint8)[rows] for k in range(len(self.columns.labels))
        ]
        return Log(
            schema=self.schema,
            ids={name: torch.from_numpy(column) for name, column in ids.items()},
            dense=torch.from_numpy(np.stack(dense, 1) if dense else np.zeros((n, 0), np.float32)),
            labels=torch.from_numpy(np.stack(labels, 1).astype(np.float32)),
            day=torch.from_numpy(np.array(self.day[rows])),
        )

    def rows_of(self, first: int, last: int) -> slice | np.ndarray:
        """Where days first to last are, both included: a slice where they lie together."""
        rows = np.flatnonzero((self.day >= first) & (self.day <= last))
        if len(rows) and rows[-1] - rows[0] + 1 == len(rows):
            return slice(int(rows[0]), int(rows[-1]) + 1)
        return rows

    def read_days(self, first: int, last: int | None = None) -> Log:
        """The impressions of days first to last, both included."""
        return self.read(self.rows_of(first, first if last is None else last))

    def vocabulary(self, column: str) -> pa.Array:
        """The ids of a column; the one of row k at position k."""
        k = self.columns.ids.index(column)
        return pq.read_table(self.folder / f"vocabulary-{k}.parquet")["id"].combine_chunks()

    def _array(self, name: str, dtype) -> np.ndarray:
        return np.memmap(self.folder / name, dtype, mode="r") if self.n else np.zeros(0, dtype)


def _key(found: list[Path], columns: Columns, rows: int | None) -> str:
    """A hash of the files and of what is made of them. Of a look at a part, the first 16 MiB."""
    digest = hashlib.sha256()
    meaning = {k: v for k, v in asdict(columns).items() if k != "cross"}
    digest.update(json.dumps([_VERSION, meaning, rows]).encode())
    for path in found:
        try:
            digest.update(f"{path.name} {path.stat().st_size}".encode())
            with path.open("rb") as file:
                if rows is None:
                    digest.update(hashlib.file_digest(file, "sha256").digest())
                else:
                    digest.update(f"{path.stat().st_mtime_ns}".encode() + file.read(1 << 24))
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror}); "
                            "look at its permissions and its disk.") from error  # fmt: skip
    return digest.hexdigest()[:24]


class _IdColumn:
    """One id column on its way to disk: its keys, its rows, its vocabulary."""

    def __init__(self, folder: Path, k: int) -> None:
        self.map = RowMap()
        self.out = (folder / f"id-{k}").open("wb")
        self.path, self.writer = folder / f"vocabulary-{k}.parquet", None

    def add(self, column: pa.Array, place: parse.Place) -> None:
        codes, values = parse.encoded(column)
        parse.check_ids(codes, values, place)
        rows, new = self.map.rows(keys_of(values))
        if self.map.n >= 2**31 - 1:
            place.refuse(0, "more than two billion different ids", "hash them into fewer")
        self.out.write(rows[codes])
        if self.writer is None:
            self.writer = pq.ParquetWriter(self.path, pa.schema([("id", values.type)]))
        if values.type != self.writer.schema.field("id").type:
            place.refuse(
                0,
                f"of type {values.type}, in the files before it of type "
                f"{self.writer.schema.field('id').type}",
                "write all files alike",
            )
        if new.any():
            self.writer.write_table(pa.table({"id": values.filter(pa.array(new))}))

    def close(self) -> None:
        self.out.close()
        if self.writer is not None:
            self.writer.close()


def _map(found: list[Path], columns: Columns, folder: Path, rows: int | None, say) -> None:
    ids = [_IdColumn(folder, k) for k in range(len(columns.ids))]
    out = {
        name: (folder / name).open("wb")
        for name in [*(f"label-{k}" for k in range(len(columns.labels))),
                     *(f"dense-{k}" for k in range(len(columns.dense)))]
    }  # fmt: skip
    day_parts: list[np.ndarray] = []
    form = columns.day_format
    n = 0
    try:
        # Columns of a chunk side by side, and the next chunk is read meanwhile.
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool, ThreadPoolExecutor(1) as ahead:
            stream = _stream(found, columns, rows)
            coming = ahead.submit(next, stream, None)
            while (chunk := coming.result()) is not None:
                coming = ahead.submit(next, stream, None)
                batch, file, file_index, first = chunk

                def place(name: str, file=file, first=first) -> parse.Place:
                    return parse.Place(str(file), name, first)

                jobs = [
                    pool.submit(ids[k].add, batch.column(name), place(name))
                    for k, name in enumerate(columns.ids)
                ]
                for k, name in enumerate(columns.labels):
                    out[f"label-{k}"].write(parse.labels(batch.column(name), place(name)))
                for k, name in enumerate(columns.dense):
                    count = name in columns.counts
                    out[f"dense-{k}"].write(parse.dense(batch.column(name), place(name), count))
                if columns.day is not None:
                    day, form = parse.days(batch.column(columns.day), place(columns.day), form)
                    day_parts.append(day)
                else:
                    day_parts.append(np.full(len(batch), file_index, np.int32))
                for job in jobs:
                    job.result()
                n += len(batch)
                say(f"read {n:,} impressions")
    finally:
        for file in [*ids, *out.values()]:
            file.close()
    if n == 0:
        raise DataError(f"{found[0]}: no rows; it must hold at least one impression.")
    names = _write_days(np.concatenate(day_parts), form, found, columns, folder)
    about = {"n": n, "days": names, "cardinality": [column.map.n for column in ids],
             "files": [str(path) for path in found]}  # fmt: skip
    (folder / "about.json").write_text(json.dumps(about))


def _stream(found, columns: Columns, rows: int | None) -> Iterator[tuple]:
    """(chunk, file, number of the file, rows of the file before the chunk)."""
    left = rows
    texts = [*columns.ids, *columns.labels, *([columns.day] if columns.day else [])]
    for index, file in enumerate(found):
        first = 0
        for batch in files.chunks(file, texts, columns.dense, columns.header):
            if left is not None:
                batch = batch.slice(0, left)
                left -= len(batch)
            if len(batch):
                yield batch, file, index, first
            first += len(batch)
            if left == 0:
                return


def _write_days(day: np.ndarray, form, found, columns: Columns, folder: Path) -> list[str]:
    """Numbers the days that are there from 0 on and writes them; returns their names."""
    if columns.day is None and columns.parts is not None:
        day = (np.arange(len(day), dtype=np.int64) * columns.parts // len(day)).astype(np.int32)
        names = [f"part {k + 1} of {columns.parts}" for k in range(columns.parts)]
    elif columns.day is None:
        names = [path.name for path in found]
    else:
        lowest = int(day.min())
        day -= lowest
        present = np.flatnonzero(np.bincount(day))
        numbers = np.zeros(int(day.max()) + 1, np.int32)
        numbers[present] = np.arange(len(present), dtype=np.int32)
        day = numbers[day]
        start = date(1970, 1, 1)
        names = [
            str(lowest + k)
            if form == "day number"
            else str(start + timedelta(days=lowest + int(k)))
            for k in present
        ]
    day.tofile(folder / "day")
    return names

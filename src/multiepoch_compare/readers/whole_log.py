"""Reads any CSV or Parquet log, one file or a folder of them, checked and with numbered ids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import torch

from multiepoch_compare.readers import files, parse
from multiepoch_compare.readers.columns import Columns
from multiepoch_lab.data.hashing import hashed_cross
from multiepoch_lab.data.log import DataError, Log, Schema


class WholeLog:
    """The impressions of a log in memory, of which parts are read as a `Log`.

    Attributes:
        n: The number of impressions.
        ids, labels, dense: The columns by name, each (n,); int32, uint8 and float32.
        days: The names of its days, in order; of its hours, if it has fewer than 3 days.
        day: The day of each impression, as a position in `days`; (n,) int32.
        day_counts: The impressions of each day; (n_days,).
        missing: The missing ids of each id column, which share a row of their own.
        rates: The share of ones of each label.
    """

    def __init__(self, columns: Columns, table: dict[str, np.ndarray], form: str) -> None:
        self.columns = columns
        self.ids = {name: table[name] for name in columns.ids}
        self.labels = {name: table[name] for name in columns.labels}
        self.dense = {name: table[name] for name in columns.dense}
        hours = table[columns.day]
        whole = len(np.unique(hours // 24)) >= 3 or len(np.unique(hours)) < 3
        unit = 24 if whole else 1
        present, day = np.unique(hours // unit, return_inverse=True)
        self.n, self.day = len(hours), day.astype(np.int32)
        self.days = [parse.day_name(one * unit, form, whole) for one in present]
        self.day_counts = np.bincount(self.day)
        self.missing: dict[str, int] = {}
        self.rates = [float(column.mean()) for column in self.labels.values()]

    @property
    def schema(self) -> Schema:
        """Lists the ids, then the crosses, each hashed into a power of two."""
        rows = {name: int(column.max()) + 1 for name, column in self.ids.items()}
        rows |= {f"{a}_x_{b}": self.cross_rows for a, b in self.columns.cross}
        return Schema(rows, self.columns.dense, self.columns.labels)

    @property
    def cross_rows(self) -> int:
        """The table size of a cross: at least one row per impression, at most 4M."""
        return min(1 << 22, 1 << max(10, (self.n - 1).bit_length()))

    def read(self, rows: slice | np.ndarray = slice(None)) -> Log:
        """Returns the impressions at those positions of the files."""
        ids = {name: column[rows].astype(np.int64) for name, column in self.ids.items()}
        for a, b in self.columns.cross:
            ids[f"{a}_x_{b}"] = hashed_cross(ids[a], ids[b], self.cross_rows)
        day = self.day[rows]

        def matrix(columns: dict[str, np.ndarray]) -> torch.Tensor:
            stacked = [column[rows] for column in columns.values()] or [np.zeros((len(day), 0))]
            return torch.from_numpy(np.column_stack(stacked).astype(np.float32))

        return Log(
            schema=self.schema,
            ids={name: torch.from_numpy(column) for name, column in ids.items()},
            dense=matrix(self.dense),
            labels=matrix(self.labels),
            day=torch.from_numpy(day.copy()),
        )

    def read_days(self, first: int, last: int) -> Log:
        """Returns the impressions of days first to last, both included."""
        return self.read(np.flatnonzero((self.day >= first) & (self.day <= last)))


def read_log(
    paths: Sequence[Path],
    columns: Columns,
    share: float = 1.0,
    say: Callable[[str], None] = lambda line: None,
) -> WholeLog:
    """Reads the impressions of files, numbers their ids and checks their values.

    Args:
        paths: As from `files.find`.
        columns: The columns to read.
        share: Of the values of the first id column, such as users, all of whose rows are read.
        say: Is called with a progress line for each file.

    Raises:
        DataError: If something is missing, damaged or out of range.
    """
    columns.check()
    wanted = [*columns.ids, *columns.labels, columns.day, *columns.dense]
    for path in paths:  # before the files are read from end to end
        files.require_columns(files.column_names(path), wanted, path)
    found: dict[str, list] = {name: [] for name in wanted}
    form, n = None, 0
    for path in paths:
        table, rows = _table(path, wanted, share)
        if len(table) == 0:
            continue
        n += len(table)
        for name in wanted:
            column = parse.Column.of(str(path), name, table[name], rows)
            if name in columns.ids:
                found[name].append((column.codes, parse.ids(column)))
                kinds = {str(values.type) for _, values in found[name]} - {"null"}
                if len(kinds) > 1:
                    what = f"of type {kinds.pop()} here or before, and of type {kinds.pop()}"
                    raise DataError(f"{path}: column {name!r}: {what}; write all files alike.")
            elif name == columns.day:
                hours, form = parse.days(column, form)
                found[name].append(hours)
            else:
                checked = parse.labels if name in columns.labels else parse.dense
                found[name].append(checked(column))
        say(f"read {n:,} impressions of {path.name}")
    if form is None:
        few = "the sample holds none of the few ids; name the column with most first in --ids"
        what = few if share < 1 else "no rows; it must hold at least one impression"
        raise DataError(f"{paths[0]}: {what}.")
    missing, whole = {}, {}
    for name, parts in found.items():
        if name in columns.ids:
            whole[name], missing[name] = _numbered(parts)
        else:
            whole[name] = np.concatenate(parts)
    log = WholeLog(columns, whole, form)
    log.missing = missing
    return log


def _numbered(parts: list[tuple[np.ndarray, pa.Array]]) -> tuple[np.ndarray, int]:
    """Numbers ids, (n,) int32, as they appear, and counts the missing ones, which share a number.

    parts: The codes of each file, and the value of each code.
    """
    values = pd.concat([values.to_pandas().astype(object) for _, values in parts])
    starts = np.cumsum([0, *(len(values) for _, values in parts)])
    at = np.concatenate([start + codes for start, (codes, _) in zip(starts, parts)])
    found = pd.factorize(values, use_na_sentinel=False)[0][at]
    return pd.factorize(found)[0].astype(np.int32), int(values.isna().to_numpy()[at].sum())


def _table(path: Path, wanted: list[str], share: float) -> tuple[pa.Table, np.ndarray | None]:
    """Returns the columns of a file, and which rows they are if only a share is read."""
    batches, rows, n = [], [], 0
    for batch in files.batches(path, wanted):
        if share < 1:
            column = parse.Column.of(str(path), wanted[0], pa.chunked_array([batch[0]]))
            kept = _in_sample(parse.ids(column), share)[column.codes]
            batch = batch.filter(pa.array(kept))
            rows.append(n + np.flatnonzero(kept))
            n += len(kept)
        batches.append(batch)
    if not batches:
        return pa.table({name: pa.nulls(0) for name in wanted}), None
    return pa.Table.from_batches(batches), np.concatenate(rows) if rows else None


def _in_sample(values: pa.Array, share: float) -> np.ndarray:
    """Tells which ids are of the sample, (n,) bool; it is the same in every file."""
    hashed = pd.util.hash_array(np.array(values.cast(pa.string()).to_pylist(), object))
    return (hashed >> np.uint64(32)) < share * 2**32

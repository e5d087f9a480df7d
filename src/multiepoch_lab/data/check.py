"""Checks for file readers; each raises a DataError that names file, column and first row."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from multiepoch_lab.data.log import DataError


def csv_columns(types: dict[str, pa.DataType]) -> pyarrow.csv.ConvertOptions:
    """Selects columns of a CSV file by name and type; an empty field is a missing value."""
    missing = {"strings_can_be_null": True, "null_values": [""]}
    return pyarrow.csv.ConvertOptions(include_columns=types, column_types=types, **missing)


def read_parquet(path: Path, columns: Sequence[str]) -> pa.Table:
    """Reads the named columns of a Parquet file."""
    try:
        with pq.ParquetFile(path) as file:
            require_columns(file.schema_arrow.names, columns, str(path))
            return file.read(columns)
    except (pa.ArrowInvalid, OSError) as error:
        why = reason(error)
        raise DataError(f"{path}: not a whole Parquet file ({why}); write it again.") from error


def reason(error: Exception) -> str:
    """Returns the message of an error on one line, without its full stop."""
    return " ".join(str(error).split()).rstrip(".")


def refuse(row: int, value: object, column: str, source: str, remedy: str) -> NoReturn:
    """Raises the DataError for a value; rows in messages count from 1, without the header."""
    raise DataError(f"{source}: column {column!r}, row {row + 1}: {value}; {remedy}.")


def refuse_first(bad: np.ndarray, values: Any, column: str, source: str, remedy: str) -> None:
    """Refuses the first of the values that is bad, (n,) bool, if any is."""
    if bad.any():
        row = int(np.argmax(bad))
        refuse(row, values[row], column, source, remedy)


def require_columns(names: Sequence[str], columns: Sequence[str], source: str) -> None:
    missing = [column for column in columns if column not in names]
    if missing:
        found = ", ".join(names)
        raise DataError(f"{source}: column {missing[0]!r} is missing; the columns are {found}.")


def integers(table: pa.Table, column: str, source: str, maximum: int | None = None) -> np.ndarray:
    """Returns a column of whole numbers, or texts of them, from 0 to `maximum`; (n,) int64."""
    allowed = "0 or more" if maximum is None else f"from 0 to {maximum}"
    place = column, source, f"it must be a whole number {allowed}"
    values = table[column].combine_chunks()
    if values.null_count:
        row = int(np.argmax(values.is_null().to_numpy(zero_copy_only=False)))
        refuse(row, "no value", *place)
    kind, types = values.type, pa.types
    if not (types.is_integer(kind) or types.is_string(kind) or types.is_large_string(kind)):
        refuse(0, f"{values[0].as_py()!r} of type {kind}", *place)
    try:
        numbers = values.cast(pa.int64()).to_numpy().copy()
    except pa.ArrowInvalid:
        for row, value in enumerate(values):
            try:
                value.cast(pa.int64())
            except pa.ArrowInvalid:
                refuse(row, repr(value.as_py()), *place)
    bad = numbers < 0 if maximum is None else (numbers < 0) | (numbers > maximum)
    refuse_first(bad, numbers, *place)
    return numbers


def labels(table: pa.Table, column: str, source: str) -> np.ndarray:
    """Returns a column of zeros and ones; (n,) float32."""
    return integers(table, column, source, maximum=1).astype(np.float32)

"""What a column of a file means: ids, labels, days, dense features; each checked, row by row.

Columns are encoded as dictionaries first, so that a value is judged once a chunk, however often
it is there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from multiepoch.data.log import DataError

_LABELS = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "false": 0, "true": 1}
_EPOCH = date(1970, 1, 1).toordinal()


@dataclass(frozen=True)
class Place:
    """Where a chunk of a column comes from, for messages. first: rows of the file before it."""

    file: str
    column: str
    first: int

    def refuse(self, row: int, what: str, would_do: str) -> None:
        raise DataError(
            f"{self.file}: column {self.column!r}, row {self.first + row + 1}: {what}; {would_do}."
        )


def encoded(column: pa.Array) -> tuple[np.ndarray, pa.Array]:
    """Codes, (n,) int32, and the values they stand for. An empty value has the code of its own."""
    if pa.types.is_nested(column.type):  # has no dictionary; the caller refuses its type
        return np.zeros(len(column), np.int32), column
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    values, codes = column.dictionary, column.indices.cast(pa.int32())
    if column.null_count:
        values = pa.concat_arrays([values, pa.nulls(1, values.type)])
        codes = pc.fill_null(codes, len(values) - 1)
    return codes.to_numpy(zero_copy_only=False), values


def check_ids(codes: np.ndarray, values: pa.Array, place: Place) -> None:
    """Refuses floats: two ids can be one float, and a float is how a gap in integers shows."""
    would_do = "an id must be a whole number or a string: write the column without decimals"
    if pa.types.is_floating(values.type) or pa.types.is_decimal(values.type):
        place.refuse(0, f"a number of type {values.type}", would_do)
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        # An exponent needs a point or a sign: 05e12345 is a hash in hexadecimal digits.
        like = pc.match_substring_regex(
            values, r"^-?[0-9]+(\.0+$|\.[0-9]+[eE][+-]?[0-9]+$|[eE][+-][0-9]+$)"
        )
        float_like = pc.fill_null(like, False).to_numpy(zero_copy_only=False)
        if float_like.any():
            row = int(np.argmax(float_like[codes]))
            place.refuse(row, f"{values[int(codes[row])].as_py()!r} is a float", would_do)
    elif not pa.types.is_integer(values.type):
        place.refuse(0, f"a value of type {values.type}", would_do)


def labels(column: pa.Array, place: Place) -> np.ndarray:
    """(n,) uint8 of zeros and ones."""
    if pa.types.is_nested(column.type):
        place.refuse(0, f"a value of type {column.type}", "a label must be 0 or 1")
    codes, values = encoded(column)
    texts = values.cast(pa.string()).to_pylist() if len(values) <= 1_000 else []
    known = np.array([_LABELS.get((text or "").lower(), 255) for text in texts], np.uint8)
    found = known[codes] if len(known) else np.full(len(codes), 255, np.uint8)
    if (found == 255).any():
        row = int(np.argmax(found == 255))
        value = values[int(codes[row])].as_py()
        what = "no value" if value is None else repr(value)
        place.refuse(row, what, "a label must be 0 or 1")
    return found


def dense(column: pa.Array, place: Place, counts: bool = False) -> np.ndarray:
    """(n,) float32. Counts may be missing (0) and are taken as sign(x) log(1 + |x|)."""
    numeric = (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)
               or pa.types.is_boolean(column.type) or pa.types.is_decimal(column.type))  # fmt: skip
    would_do = "a dense feature must be a number; fill it, or leave the column out of --dense"
    if not numeric:
        place.refuse(0, f"a value of type {column.type}", would_do)
    values = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
    if counts:
        values = np.nan_to_num(values)
        return (np.sign(values) * np.log1p(np.abs(values))).astype(np.float32)
    bad = ~np.isfinite(values.astype(np.float32))
    if bad.any():
        row = int(np.argmax(bad))
        value = column[row].as_py()
        place.refuse(row, "no value" if value is None else f"{value}", would_do)
    return values.astype(np.float32)


# Days ---------------------------------------------------------------------------------------------


def _yyyymmdd(text: str) -> int:
    return datetime.strptime(text, "%Y%m%d").toordinal() - _EPOCH


def _yymmddhh(text: str) -> int:
    return datetime.strptime(text, "%y%m%d%H").toordinal() - _EPOCH


def _yyyymmddhh(text: str) -> int:
    return datetime.strptime(text[:10], "%Y%m%d%H").toordinal() - _EPOCH


def _iso(text: str) -> int:
    return date.fromisoformat(text).toordinal() - _EPOCH


DAYS: dict[str, tuple[str, Callable[[str], int]]] = {
    "day number": (r"^[0-9]{1,6}$", int),
    "YYYYMMDD": (r"^[0-9]{8}$", _yyyymmdd),
    "YYMMDDHH": (r"^[0-9]{8}$", _yymmddhh),  # only where asked for
    # Before the Unix times: as one of those it would be a day in 1976, or after 2030.
    "YYYYMMDDHH": (r"^(19|20)[0-9]{8}([0-9]{2}){0,2}$", _yyyymmddhh),
    "seconds": (r"^[0-9]{9,10}$", lambda text: int(text) // 86_400),
    "milliseconds": (r"^[0-9]{12,13}$", lambda text: int(text) // 86_400_000),
    "YYYY-MM-DD": (r"^[0-9]{4}-[0-9]{2}-[0-9]{2}([T ].*)?$", _iso),
}


def day_format(text: str | None) -> str | None:
    """The name in DAYS of how a day is written; None where no format reads it."""
    for name, (pattern, parse) in DAYS.items():
        if name != "YYMMDDHH" and text is not None:
            match = pc.match_substring_regex(pa.scalar(text), pattern).as_py()
            try:
                if match and parse(text[:10] if name == "YYYY-MM-DD" else text) >= 0:
                    return name
            except ValueError:
                continue
    return None


def days(column: pa.Array, place: Place, form: str | None = None) -> tuple[np.ndarray, str]:
    """Days since 1970 (or day numbers as they are), (n,) int32, and the format found or given.

    A timestamp and a Unix time count as their day in UTC, a text as the day that it begins with.
    """
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp(column.type.unit)).cast(pa.date32(), safe=False)
    if pa.types.is_date(column.type):
        column = column.cast(pa.date32()).dictionary_encode()
        column = pa.DictionaryArray.from_arrays(column.indices, column.dictionary.cast(pa.string()))
    codes, values = encoded(column)
    would_do = (
        "a day must be written as YYYYMMDD, YYYY-MM-DD, a time that begins so, a Unix time in "
        "seconds or milliseconds, or the number of the day"
    )
    integer = pa.types.is_integer(values.type)
    if not (integer or pa.types.is_string(values.type) or pa.types.is_large_string(values.type)):
        place.refuse(0, f"a value of type {values.type}", would_do)
    texts = values.cast(pa.string())
    if form is None:
        first = texts[int(codes[0])].as_py()
        form = day_format(first)
        if form is None:
            place.refuse(0, "no value" if first is None else repr(first), would_do)
    pattern, parse = DAYS[form]
    matches = pc.fill_null(pc.match_substring_regex(texts, pattern), False)
    bad = ~matches.to_numpy(zero_copy_only=False)
    ordinals = np.zeros(len(values), np.int64)
    if form in ("seconds", "milliseconds", "day number") and not bad.any():
        ordinals = texts.cast(pa.int64()).to_numpy()
        ordinals = ordinals // {"seconds": 86_400, "milliseconds": 86_400_000}.get(form, 1)
    else:
        if form in ("YYYY-MM-DD", "YYYYMMDDHH"):
            texts = pc.utf8_slice_codeunits(texts, 0, 10)
        short = texts.dictionary_encode()  # many times of a day are one date
        back = pc.fill_null(short.indices, 0).to_numpy(zero_copy_only=False)
        parsed, failed = [], []
        for text in short.dictionary.to_pylist():
            try:
                parsed.append(parse(text))
                failed.append(False)
            except ValueError:
                parsed.append(0)
                failed.append(True)
        if parsed:
            bad |= np.array(failed)[back]
            ordinals = np.array(parsed, np.int64)[back]
    if bad.any():
        row = int(np.argmax(bad[codes]))
        value = values[int(codes[row])].as_py()
        what = "no value" if value is None else repr(value)
        place.refuse(
            row,
            what,
            would_do
            if day_format(str(value)) is None
            else f"the rows before it write the day as {form}; write all alike",
        )
    return ordinals[codes].astype(np.int32), form

"""Values of a column as ids, labels, days or dense features; each checked, row by row.

Columns are encoded as dictionaries first, so that each distinct value is checked once per chunk.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from typing import NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from multiepoch.data.log import DataError

_LABELS = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "false": 0, "true": 1}
_EPOCH = date(1970, 1, 1).toordinal()
_INVALID = np.iinfo(np.int64).min


@dataclass(frozen=True)
class Place:
    """Names the origin of a chunk of a column in messages."""

    file: str
    column: str
    first: int  # rows of the file before the chunk

    def refuse(self, row: int, what: str, remedy: str) -> NoReturn:
        row += self.first + 1
        raise DataError(f"{self.file}: column {self.column!r}, row {row}: {what}; {remedy}.")

    def refuse_type(self, kind: pa.DataType, remedy: str) -> NoReturn:
        self.refuse(0, f"a value of type {kind}", remedy)

    def refuse_first(self, bad: np.ndarray, values: pa.Array, remedy: str, show=repr) -> NoReturn:
        """Refuses the first value that is bad, (n,) bool."""
        row = int(np.argmax(bad))
        value = values[row].as_py()
        self.refuse(row, "no value" if value is None else show(value), remedy)


def is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _matches(texts: pa.Array, pattern: str) -> np.ndarray:
    """Returns which texts a pattern matches, (n,) bool; no missing one."""
    matches = pc.match_substring_regex(texts, pattern)
    return pc.fill_null(matches, False).to_numpy(zero_copy_only=False)


def encoded(column: pa.Array) -> tuple[np.ndarray, pa.Array]:
    """Returns codes, (n,) int32, and their values; a missing value has a code of its own."""
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
    """Refuses floats: two ids can be one float, and gaps turn a column of integers into floats."""
    remedy = "an id must be a whole number or a string: write the column without decimals"
    if pa.types.is_floating(values.type) or pa.types.is_decimal(values.type):
        place.refuse(0, f"a number of type {values.type}", remedy)
    if is_text(values.type):
        # An exponent needs a point or a sign: 05e12345 is a hash in hexadecimal digits.
        like_a_float = r"^-?[0-9]+(\.0+$|\.[0-9]+[eE][+-]?[0-9]+$|[eE][+-][0-9]+$)"
        bad = _matches(values, like_a_float)
        if bad.any():
            place.refuse_first(bad[codes], values.take(codes), remedy, "{!r} is a float".format)
    elif not pa.types.is_integer(values.type):
        place.refuse_type(values.type, remedy)


def labels(column: pa.Array, place: Place) -> np.ndarray:
    """Returns zeros and ones, (n,) uint8."""
    remedy = "a label must be 0 or 1"
    if pa.types.is_nested(column.type):
        place.refuse_type(column.type, remedy)
    codes, values = encoded(column)
    texts = values.cast(pa.string()).to_pylist() if len(values) <= 1_000 else [None] * len(values)
    found = np.array([_LABELS.get((text or "").lower(), 255) for text in texts], np.uint8)[codes]
    if (found == 255).any():
        place.refuse_first(found == 255, values.take(codes), remedy)
    return found


def dense(column: pa.Array, place: Place, counts: bool = False) -> np.ndarray:
    """Returns numbers, (n,) float32. Counts become sign(x) log(1 + |x|), a missing one 0."""
    remedy = "a dense feature must be a number; fill it, or leave the column out of --dense"
    tests = pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_boolean
    if not any(test(column.type) for test in tests):
        place.refuse_type(column.type, remedy)
    values = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
    if counts:
        values = np.nan_to_num(values)
        return (np.sign(values) * np.log1p(np.abs(values))).astype(np.float32)
    bad = ~np.isfinite(values.astype(np.float32))
    if bad.any():
        place.refuse_first(bad, column, remedy, str)
    return values.astype(np.float32)


# Days ---------------------------------------------------------------------------------------------


def _date(form: str) -> Callable[[str], int]:
    return lambda text: datetime.strptime(text[:10], form).toordinal() - _EPOCH


_UNITS_A_DAY = {"day number": 1, "seconds": 86_400, "milliseconds": 86_400_000}
DAYS: dict[str, tuple[str, Callable[[str], int]]] = {
    "day number": (r"^[0-9]{1,6}$", int),
    "YYYYMMDD": (r"^[0-9]{8}$", _date("%Y%m%d")),
    "YYMMDDHH": (r"^[0-9]{8}$", _date("%y%m%d%H")),  # only if asked for
    # Before the Unix times: as one of those it would be a day in 1976, or after 2030.
    "YYYYMMDDHH": (r"^(19|20)[0-9]{8}([0-9]{2}){0,2}$", _date("%Y%m%d%H")),
    "seconds": (r"^[0-9]{9,10}$", lambda text: int(text) // _UNITS_A_DAY["seconds"]),
    "milliseconds": (r"^[0-9]{12,13}$", lambda text: int(text) // _UNITS_A_DAY["milliseconds"]),
    "YYYY-MM-DD": (r"^[0-9]{4}-[0-9]{2}-[0-9]{2}([T ].*)?$", _date("%Y-%m-%d")),
}


def _parsed(parse: Callable[[str], int], text: str) -> int:
    try:
        return parse(text)
    except ValueError:
        return _INVALID


def day_format(text: str | None) -> str | None:
    """Returns the key of DAYS that reads a text as a day; None if there is none."""
    for name, (pattern, parse) in DAYS.items():
        if name != "YYMMDDHH" and text is not None:
            match = pc.match_substring_regex(pa.scalar(text), pattern).as_py()
            if match and _parsed(parse, text) >= 0:
                return name
    return None


def days(column: pa.Array, place: Place, form: str | None = None) -> tuple[np.ndarray, str]:
    """Returns days since 1970, or day numbers unchanged, (n,) int32, and their format.

    A timestamp or a Unix time counts as its day in UTC, a text as the day it begins with. The
    format is a key of DAYS; if it is None, the first row decides.
    """
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp(column.type.unit)).cast(pa.date32(), safe=False)
    if pa.types.is_date(column.type):
        column = column.cast(pa.date32()).dictionary_encode()
        column = pa.DictionaryArray.from_arrays(column.indices, column.dictionary.cast(pa.string()))
    codes, values = encoded(column)
    remedy = (
        "a day must be written as YYYYMMDD, YYYY-MM-DD, a time that begins so, a Unix time in "
        "seconds or milliseconds, or the number of the day"
    )
    if not (pa.types.is_integer(values.type) or is_text(values.type)):
        place.refuse_type(values.type, remedy)
    texts = values.cast(pa.string())
    form = form or day_format(texts[int(codes[0])].as_py())
    if form is None:
        place.refuse_first(np.ones(1, bool), values.take(codes[:1]), remedy)
    pattern, parse = DAYS[form]
    bad = ~_matches(texts, pattern)
    if form in _UNITS_A_DAY and not bad.any():
        ordinals = texts.cast(pa.int64()).to_numpy() // _UNITS_A_DAY[form]
    else:
        short = pc.utf8_slice_codeunits(texts, 0, 10).dictionary_encode()  # many times, one date
        parsed = [_parsed(parse, text) for text in short.dictionary.to_pylist()]
        at = pc.fill_null(short.indices, len(parsed)).to_numpy(zero_copy_only=False)
        ordinals = np.array([*parsed, _INVALID], np.int64)[at]
        bad |= ordinals == _INVALID
    if bad.any():
        if day_format(texts[int(codes[np.argmax(bad[codes])])].as_py()) is not None:
            remedy = f"the rows before it write the day as {form}; write all alike"
        place.refuse_first(bad[codes], values.take(codes), remedy)
    return ordinals[codes].astype(np.int32), form

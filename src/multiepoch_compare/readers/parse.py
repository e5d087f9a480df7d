"""Values of a column as ids, labels, days or dense features; each checked, row by row.

Columns are encoded as dictionaries first, so that each distinct value is checked once per chunk.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from multiepoch_lab.data.log import DataError

LABELS = {"0": 0, "1": 1, "false": 0, "true": 1, "no": 0, "yes": 1, "n": 0, "y": 1, "f": 0, "t": 1}
_NESTED = "there must be one value a row: write each element into a column of its own"
_EPOCH = date(1970, 1, 1).toordinal()
_INVALID = np.iinfo(np.int64).min


@dataclass(frozen=True)
class Place:
    """Names the origin of a chunk of a column in messages."""

    file: str
    column: str
    first: int  # rows of the file before the chunk
    rows: np.ndarray | None = None  # of the values, if they do not follow each other

    def refuse(self, row: int, what: str, remedy: str) -> NoReturn:
        if self.rows is not None and len(self.rows):
            row = int(self.rows[row])
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


def decoded(column: pa.Array) -> pa.Array:
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def check_ids(codes: np.ndarray, values: pa.Array, place: Place) -> None:
    """Refuses floats: two ids can be one float, and gaps turn a column of integers into floats."""
    what = "an id must be a whole number or a string"
    remedy = f"{what}: write the column without decimals"
    if pa.types.is_floating(values.type) or pa.types.is_decimal(values.type):
        place.refuse(0, f"a number of type {values.type}", f"{what}: cast the column to int64")
    if pa.types.is_nested(values.type):
        place.refuse_type(values.type, _NESTED)
    if is_text(values.type):
        # An exponent needs a point or a sign: 05e12345 is a hash in hexadecimal digits.
        like_a_float = r"^-?[0-9]+(\.0+$|\.[0-9]+[eE][+-]?[0-9]+$|[eE][+-][0-9]+$)"
        bad = _matches(values, like_a_float)
        if bad.any():
            place.refuse_first(bad[codes], values.take(codes), remedy, "{!r} is a float".format)
    elif not pa.types.is_integer(values.type):
        place.refuse_type(values.type, f"{what}: cast the column to one of them")


def labels(column: pa.Array, place: Place) -> np.ndarray:
    """Returns zeros and ones, (n,) uint8."""
    remedy = "a label must be 0 or 1, false or true, no or yes"
    if pa.types.is_nested(column.type):
        place.refuse_type(column.type, _NESTED)
    codes, values = encoded(column)
    if not (_is_number(values.type) or is_text(values.type) or pa.types.is_null(values.type)):
        place.refuse_type(values.type, remedy)
    texts = values.cast(pa.string()).to_pylist()
    plain = (re.sub(r"\.0+$", "", text or "").lower() for text in texts)
    found = np.array([LABELS.get(text, 255) for text in plain], np.uint8)[codes]
    if (found == 255).any():
        place.refuse_first(found == 255, values.take(codes), remedy)
    return found


def dense(column: pa.Array, place: Place) -> np.ndarray:
    """Returns numbers, (n,) float32."""
    remedy = "a dense feature must be a number; fill it, or leave the column out of --dense"
    if pa.types.is_nested(column.type):
        place.refuse_type(column.type, _NESTED)
    if not _is_number(column.type):
        place.refuse_type(column.type, remedy)
    values = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    with np.errstate(over="ignore"):  # beyond the range is infinity
        found = values.astype(np.float32)
    if (bad := ~np.isfinite(found)).any():
        place.refuse_first(bad, column, remedy, str)
    return found


def _is_number(kind: pa.DataType) -> bool:
    tests = pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_boolean
    return any(test(kind) for test in tests)


# Days ---------------------------------------------------------------------------------------------

# All times are hours since 1970: a log of fewer than three days is split by the hour.
_DAY = 24
_FAR = 60_000_000_000  # seconds: a year far beyond has no date in Python, nor hours in an int32
_SECONDS_AN_HOUR = {"seconds": 3_600, "milliseconds": 3_600_000}
_SECONDS = pa.timestamp("s", "UTC")
_TIME = r"[T ][0-9]{2}(:[0-9.,:]*)?"
_ZONE = r" ?(Z|UTC|GMT|[+-][0-9]{2}(:?[0-9]{2})?)"


def _hours(form: str) -> Callable[[str], int]:
    def parsed(text: str) -> int:
        time = datetime.strptime(text, form)
        return _DAY * (time.toordinal() - _EPOCH) + time.hour

    return parsed


def _date_and_hour(text: str) -> int:
    hour = int(text[11:13] or 0)
    return _hours("%Y-%m-%d")(text[:10]) + hour if hour < _DAY else _INVALID


# The formats of a day: a pattern, and a parser of its first 13 characters.
DAYS: dict[str, tuple[str, Callable[[str], int]]] = {
    "day number": (r"^[0-9]{1,6}$", lambda text: _DAY * int(text)),
    "YYYYMMDD": (r"^[0-9]{8}$", _hours("%Y%m%d")),
    # Before the Unix times: as one of those it would be a day in 1976, or after 2030.
    "YYYYMMDDHH": (
        r"^(19|20)[0-9]{8}([0-9]{2}){0,2}$",
        lambda text: _hours("%Y%m%d%H")(text[:10]),
    ),
    "seconds": (r"^[0-9]{9,10}$", lambda text: int(text) // _SECONDS_AN_HOUR["seconds"]),
    "milliseconds": (r"^[0-9]{12,13}$", lambda text: int(text) // 3_600_000),
    "time with a zone": (rf"^[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}{_TIME}{_ZONE}$", _date_and_hour),
    "YYYY-MM-DD": (rf"^[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}({_TIME})?$", _date_and_hour),
    "ISO week": (
        r"^[0-9]{4}-?W[0-9]{2}$",
        lambda text: _hours("%G-W%V-%u")(f"{text[:4]}-{text[-3:]}-1"),
    ),
    "YYYY-MM": (r"^[0-9]{4}-[0-9]{2}$", _hours("%Y-%m")),
}


def day_name(hours: int, form: str | None, whole: bool) -> str:
    """Names a day, or an hour if not `whole`, of a log in that format."""
    if form == "day number":
        return str(hours // _DAY)
    time = datetime(1970, 1, 1) + timedelta(hours=int(hours))
    forms = {"ISO week": "%G-W%V", "YYYY-MM": "%Y-%m"}
    return time.strftime(forms.get(form, "%Y-%m-%d") if whole else "%Y-%m-%d %H h")


def _parsed(parse: Callable[[str], int], text: str) -> int:
    try:
        return parse(text)
    except ValueError:
        return _INVALID


def day_format(text: str | None) -> str | None:
    """Returns the key of DAYS that reads a text as a day; None if there is none."""
    for name, (pattern, parse) in DAYS.items():
        if text is not None:
            match = pc.match_substring_regex(pa.scalar(text), pattern).as_py()
            if match and _parsed(parse, text[:13]) >= 0:
                return name
    return None


def _is_time(text: pa.Scalar) -> bool:
    try:
        text.cast(_SECONDS)
    except pa.ArrowInvalid:
        return False
    return True


def check_zone(tz: str) -> None:
    """Raises DataError if a time zone is unknown."""
    try:
        _local_hours(np.zeros(1, np.int64), tz)
    except pa.ArrowInvalid as error:
        raise DataError(f"--tz {tz}: unknown time zone; name one as Europe/Berlin.") from error


def _local_hours(seconds: np.ndarray, tz: str) -> np.ndarray:
    """Converts Unix times in seconds, (n,) int64, to hours since 1970 on a clock in that zone."""
    times = pa.array(seconds, pa.int64()).cast(pa.timestamp("s", tz))
    return pc.local_timestamp(times).cast(pa.int64()).to_numpy() // 3_600


def _unix_times(column: pa.Array) -> np.ndarray:
    """Converts timestamps to seconds since 1970, (n,) int64."""
    seconds = pc.floor_temporal(column, unit="second").cast(pa.timestamp("s", column.type.tz))
    return seconds.cast(pa.int64()).to_numpy()


def has_far_times(column: pa.ChunkedArray) -> bool:
    """Tells if a column, without missing values, has dates or times that `days` refuses."""
    if pa.types.is_date(column.type):
        column = column.cast(pa.date32()).cast(pa.timestamp("s"))
    is_time = pa.types.is_timestamp(column.type)
    return is_time and bool((np.abs(_unix_times(column)) > _FAR).any())


def days(
    column: pa.Array, place: Place, form: str | None = None, tz: str = "UTC"
) -> tuple[np.ndarray, str]:
    """Returns hours since 1970 by the clock, or 24 times the day number, (n,) int32; the format.

    A Unix time and a time with a zone are read on a clock in `tz`, all others as they are written.
    A week or month counts as its first day. The format is a key of DAYS; if it is None, the first
    row decides.
    """
    if pa.types.is_date(column.type):
        column = column.cast(pa.date32()).cast(pa.timestamp("s"))
    if pa.types.is_timestamp(column.type) and not column.null_count:
        zone, seconds = column.type.tz, _unix_times(column)
        if (far := np.abs(seconds) > _FAR).any():
            remedy = "a time must be within 1,900 years of 1970: write it in its right unit"
            place.refuse_first(far, column.cast(pa.int64()), remedy)
        hours = seconds // 3_600 if zone is None else _local_hours(seconds, tz)
        return hours.astype(np.int32), "time with a zone" if zone else "YYYY-MM-DD"
    codes, values = encoded(column)
    remedy = (
        "a day must be written as YYYYMMDD, YYYY-MM-DD, a time that begins so, an ISO week or "
        "month, a Unix time in seconds or milliseconds, or the number of the day"
    )
    typed = pa.types.is_integer(values.type) or pa.types.is_timestamp(values.type)
    if not (typed or is_text(values.type)):
        place.refuse_type(values.type, remedy)
    texts = values.cast(pa.string())
    form = form or day_format(texts[int(codes[0])].as_py())
    if form is None:
        place.refuse_first(np.ones(1, bool), values.take(codes[:1]), remedy)
    pattern, parse = DAYS[form]
    bad = ~_matches(texts, pattern)
    if form in _SECONDS_AN_HOUR and not bad.any():
        unit = _SECONDS_AN_HOUR[form] // 3_600
        hours = _local_hours(texts.cast(pa.int64()).to_numpy() // unit, tz)
    else:
        short = pc.utf8_slice_codeunits(texts, 0, 13).dictionary_encode()  # many times, one hour
        parsed = [_parsed(parse, text) for text in short.dictionary.to_pylist()]
        at = pc.fill_null(short.indices, len(parsed)).to_numpy(zero_copy_only=False)
        hours = np.array([*parsed, _INVALID], np.int64)[at]
        bad |= hours == _INVALID
    if form == "time with a zone" and not bad.any():
        iso = pc.replace_substring_regex(texts, r" ?(Z|UTC|GMT)$", "Z")
        iso = pc.replace_substring_regex(iso, r"([.,][0-9]*)? ?(Z|[+-][0-9:]+)$", r"\2")
        try:
            times = iso.cast(_SECONDS)
            hours = _local_hours(times.cast(pa.int64()).to_numpy(), tz)
        except pa.ArrowInvalid:
            bad = ~np.array([_is_time(text) for text in iso])
    if bad.any():
        if day_format(texts[int(codes[np.argmax(bad[codes])])].as_py()) not in (None, form):
            remedy = f"the rows before it write the day as {form}; write all alike"
        place.refuse_first(bad[codes], values.take(codes), remedy)
    return hours[codes].astype(np.int32), form

"""Values of a column as ids, labels, days or dense features, each distinct value checked once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from multiepoch_lab.data.log import DataError

LABELS = {"0": 0, "1": 1, "false": 0, "true": 1, "no": 0, "yes": 1, "n": 0, "y": 1, "f": 0, "t": 1}
_LARGEST = 2**53  # beyond it, two whole numbers can be one float


@dataclass
class Column:
    """A column of a file: its values, each once, and which of them each row has.

    Attributes:
        file, name: Where it is from, for messages.
        codes: The position of each row's value in `values`, (n,) int32.
        values: The distinct values; a missing one is null.
        rows: The rows of the file that these are, (n,); None if they follow each other.
    """

    file: str
    name: str
    codes: np.ndarray
    values: pa.Array
    rows: np.ndarray | None = None

    @classmethod
    def of(cls, file: str, name: str, column: pa.ChunkedArray, rows=None) -> Column:
        if pa.types.is_nested(column.type):
            what = f"a value of type {column.type}"
            remedy = "there must be one value a row: write each element into a column of its own"
            raise DataError(f"{file}: column {name!r}, row 1: {what}; {remedy}.")
        if not pa.types.is_dictionary(column.type):
            column = column.dictionary_encode()
        whole = column.combine_chunks()
        if isinstance(whole, pa.ChunkedArray):
            whole = whole.unify_dictionaries().chunk(0)
        values, codes = whole.dictionary, whole.indices.cast(pa.int32())
        if pa.types.is_floating(values.type):
            values = pc.if_else(pc.is_nan(values), None, values)
        if codes.null_count:
            values = pa.concat_arrays([values, pa.nulls(1, values.type)])
            codes = pc.fill_null(codes, len(values) - 1)
        return cls(file, name, codes.to_numpy(zero_copy_only=False), values, rows)

    @property
    def missing(self) -> np.ndarray:
        """Which values are missing, (n_values,) bool."""
        return self.values.is_null().to_numpy(zero_copy_only=False)

    @property
    def is_text(self) -> bool:
        return pa.types.is_string(self.values.type) or pa.types.is_large_string(self.values.type)

    @property
    def is_number(self) -> bool:
        kind, of = self.values.type, pa.types
        return any(test(kind) for test in (of.is_integer, of.is_floating, of.is_decimal))

    def texts(self) -> pd.Series:
        """Returns the values as texts; "" for a missing one."""
        return pd.Series(pc.fill_null(self.values.cast(pa.string()), "").to_pylist(), dtype=object)

    def numbers(self) -> np.ndarray:
        """Returns the values as floats, NaN for one that is no number."""
        if self.is_text:
            texts = self.texts().where(~self.texts().str.fullmatch(r"\s*"), "none")
            return pd.to_numeric(texts, errors="coerce").to_numpy(float)
        values = pc.cast(self.values, pa.float64(), safe=False)
        return pc.fill_null(values, np.nan).to_numpy(zero_copy_only=False)

    def refuse_type(self, remedy: str) -> NoReturn:
        what = f"a value of type {self.values.type}"
        raise DataError(f"{self.file}: column {self.name!r}, row 1: {what}; {remedy}.")

    def refuse(self, bad: np.ndarray, remedy: str) -> None:
        """Raises DataError for the first row whose value is bad, (n_values,) bool."""
        if not bad.any() or not (found := bad[self.codes]).any():
            return
        at = int(np.argmax(found))
        value = self.values.cast(pa.string())[int(self.codes[at])].as_py()
        row = at if self.rows is None else int(self.rows[at])
        what = "no value" if value is None else repr(value) if self.is_text else value
        raise DataError(f"{self.file}: column {self.name!r}, row {row + 1}: {what}; {remedy}.")


def ids(column: Column) -> pa.Array:
    """Returns the values as integers or texts; whole numbers in floats, as gaps make them, too."""
    must, kind = "an id must be a whole number or a string", column.values.type
    if column.is_text:
        texts = column.texts()
        like_a_float = texts.str.fullmatch(r"-?[0-9]+(\.[0-9]*[1-9][0-9]*|\.?[0-9]*[eE]\+[0-9]+)")
        # 17.0 is a whole number that pandas wrote beside a gap.
        column.refuse(like_a_float.to_numpy(bool), f"{must}, not a decimal one")
        texts = texts.str.replace(r"^(-?[0-9]+)\.0+$", r"\1", regex=True)
        return pa.array(texts.where(~column.missing, None), pa.string())
    if pa.types.is_integer(kind):
        return column.values
    if not column.is_number and not pa.types.is_null(kind):
        column.refuse_type(f"{must}: cast the column to one of them")
    numbers = column.numbers()
    bad = ~column.missing & ((numbers != np.round(numbers)) | (np.abs(numbers) >= _LARGEST))
    column.refuse(bad, f"{must}: cast the column to int64")
    whole = np.where(column.missing | ~np.isfinite(numbers), 0, numbers).astype(np.int64)
    return pa.array(whole, mask=column.missing)


def labels(column: Column) -> np.ndarray:
    """Returns zeros and ones, (n,) uint8."""
    remedy, kind = "a label must be 0 or 1, false or true, no or yes", column.values.type
    others = pa.types.is_boolean(kind) or pa.types.is_null(kind)
    if not (column.is_text or column.is_number or others):
        column.refuse_type(remedy)
    texts = column.texts().str.lower().str.replace(r"\.0+$", "", regex=True)
    found = texts.map(LABELS).fillna(255).to_numpy(np.uint8)
    column.refuse(found == 255, remedy)
    return found[column.codes]


def dense(column: Column) -> np.ndarray:
    """Returns numbers, (n,) float32."""
    remedy = "a dense feature must be a number; fill it, or leave the column out of --dense"
    if not (column.is_text or column.is_number or pa.types.is_boolean(column.values.type)):
        column.refuse_type(remedy)
    if column.is_text and column.texts().str.fullmatch(r"-?[0-9]+,[0-9]+").any():
        comma = column.texts().str.fullmatch(r"-?[0-9]+,[0-9]+").to_numpy(bool)
        column.refuse(comma, "a decimal comma: write numbers with a point, as 3.14")
    with np.errstate(over="ignore"):  # beyond the range is infinity
        found = column.numbers().astype(np.float32)
    column.refuse(~np.isfinite(found), remedy)
    return found[column.codes]


# Days ---------------------------------------------------------------------------------------------

# A time is a number of hours since 1970: a log of fewer than three days is split by the hour.
_NEVER = np.iinfo(np.int32).min
_DAYS = (
    "a day must be written as YYYY-MM-DD, YYYYMMDD, YYYY/MM/DD or 1 Jan 2024, a time that begins "
    "so, a Unix time, or the number of the day"
)
NUMBERED = "day number"
# How a number or a text is read as a time, by a pattern of its digits or letters. Before the Unix
# times, of which those with ten digits that begin with 19 or 20 are in 2030 or later.
_FORMS = {
    NUMBERED: r"[0-9]{1,6}",
    "YYYYMMDD": r"(?:19|20)[0-9]{6}",
    "YYYYMMDDHH": r"(?:19|20)[0-9]{8}(?:[0-9]{2}){0,2}",
    "seconds": r"[0-9]{9,10}(?:\.[0-9]+)?",
    "milliseconds": r"[0-9]{12,13}(?:\.[0-9]+)?",
    "microseconds": r"[0-9]{15,16}",
    "nanoseconds": r"[0-9]{18,19}",
    "time with a zone": r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9:.,]+ ?(?:Z|UTC|GMT|[+-][0-9:]+)",
    "YYYY-MM-DD": r"[0-9]{4}-[0-9]{1,2}(?:-[0-9]{1,2}(?:[T ][0-9:.,]+)?)?",
    "YYYY/MM/DD": r"[0-9]{4}/[0-9]{1,2}/[0-9]{1,2}(?:[T ][0-9:.,]+)?",
    "a date in words": r"(?:[0-9]{1,2}[ -][A-Za-z]{3,}|[A-Za-z]{3,} [0-9]{1,2}),?[ -][0-9]{4}\b.*",
}
_UNITS = {"seconds": 1, "milliseconds": 1e3, "microseconds": 1e6, "nanoseconds": 1e9}


def day_name(hours: int, form: str, whole: bool) -> str:
    """Names a day, or an hour if not `whole`, of a log in that format."""
    if form == NUMBERED:
        return str(hours // 24)
    time = np.datetime64(int(hours), "h")
    return str(time.astype("datetime64[D]")) if whole else str(time).replace("T", " ") + " h"


def day_form(column: Column, first: int = 0) -> str | None:
    """Returns the format of a day or time, by the value at a position; None if it is none."""
    kind = column.values.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return "time with a zone" if getattr(kind, "tz", None) else "YYYY-MM-DD"
    if not (column.is_text or column.is_number):
        return None
    one = Column(column.file, column.name, np.zeros(1, np.int32), column.values[first : first + 1])
    return next((form for form in _FORMS if _hours(one, form)[0] != _NEVER), None)


def is_day(column: Column, form: str) -> np.ndarray:
    """Tells which values are days in that format, (n_values,) bool."""
    return _hours(column, form) != _NEVER


def days(column: Column, form: str | None = None) -> tuple[np.ndarray, str]:
    """Returns hours since 1970, or 24 times the day number, (n,) int32, and their format.

    Unix times and times with a zone count in UTC, all others as they are written; a month counts
    as its first day. If the format is None, the first row decides.
    """
    kind = column.values.type
    typed = (pa.types.is_timestamp, pa.types.is_date, pa.types.is_null)
    if not (column.is_text or column.is_number or any(test(kind) for test in typed)):
        column.refuse_type(_DAYS)
    form, first = form or day_form(column, int(column.codes[0])), np.zeros(len(column.values), bool)
    first[column.codes[0]] = form is None
    column.refuse(first, _DAYS)
    assert form is not None
    hours = _hours(column, form)
    bad = np.flatnonzero((hours == _NEVER)[column.codes])
    if len(bad) and day_form(column, int(column.codes[bad[0]])) not in (None, form):
        column.refuse(hours == _NEVER, f"the rows before it are read as {form}; write all alike")
    column.refuse(hours == _NEVER, _DAYS)
    return hours[column.codes], form


def _hours(column: Column, form: str) -> np.ndarray:
    """Returns the hours of each value, _NEVER for one in another format, (n_values,) int32."""
    kind = column.values.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        times = column.values.cast(pa.timestamp("s", getattr(kind, "tz", None)), safe=False)
        hours = times.cast(pa.int64()).to_pandas().to_numpy(float) // 3_600
    else:
        texts = column.texts()
        if pa.types.is_floating(kind):  # 20240301.0 is a whole number beside a gap
            texts = pd.Series(map("{:.6f}".format, column.numbers()), dtype=object)
        texts = texts.str.replace(r"^([0-9]+)\.0*$", r"\1", regex=True)
        fits = texts.str.fullmatch(_FORMS[form]).to_numpy(bool)
        hours = np.where(fits, _read(texts.where(fits, ""), form), np.nan)
    with np.errstate(invalid="ignore"):
        known = np.abs(hours) < 2e7  # some 2,300 years: beyond, the unit is not the right one
    return np.where(known, hours, _NEVER).astype(np.int32)


def _read(texts: pd.Series, form: str) -> np.ndarray:
    """Returns the hours of texts in that format, NaN for "" and for what is no date."""
    if form == NUMBERED or form in _UNITS:
        numbers = pd.to_numeric(texts, errors="coerce").to_numpy(float)
        return 24 * numbers if form == NUMBERED else numbers // (3_600 * _UNITS[form])
    how = {"YYYYMMDD": "%Y%m%d", "YYYYMMDDHH": "%Y%m%d%H"}.get(form, "ISO8601")
    if form == "YYYYMMDDHH":
        texts = texts.str.slice(0, 10)
    elif form == "a date in words":
        how = "mixed"
    elif how == "ISO8601":
        texts = texts.str.replace(",", ".").str.replace(r" ?(?:UTC|GMT)$", "Z", regex=True)
    times = pd.to_datetime(texts, format=how, utc=True, errors="coerce")
    seconds = times.to_numpy("datetime64[s]")
    return np.where(np.isnat(seconds), np.nan, seconds.astype(np.int64) // 3_600)

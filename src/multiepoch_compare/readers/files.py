"""CSV and Parquet files as a stream of batches of the named columns.

CSV may be gzipped, and separated by commas, tabs, semicolons or bars. Every refusal is a DataError
of one sentence with the file. Rows count from 1, without the header.
"""

from __future__ import annotations

import csv
import difflib
import gzip
import hashlib
import io
import os
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from multiepoch_compare.output import listed
from multiepoch_lab.data import check
from multiepoch_lab.data.log import DataError

PARQUET = (".parquet", ".pq")
ENDINGS = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".txt.gz", *PARQUET)
_BLOCK = 1 << 25  # bytes of CSV that are parsed at a time
_BATCH = 1 << 20  # rows of Parquet
_TEXT = pa.dictionary(pa.int32(), pa.string())


def find(path: str | Path) -> list[Path]:
    """Returns the file itself, or the files of a folder and of the folders in it, by name.

    Hidden files and those of other endings are left out: `left_out` names the latter.
    """
    path, endings = Path(path), ", ".join(ENDINGS)
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; give the path of your log.")
    if not path.is_dir():
        if not path.name.lower().endswith(ENDINGS):
            raise DataError(f"{path}: unknown file type; its name must end in {endings}.")
        return [path]
    found = [file for file in _files(path) if file.name.lower().endswith(ENDINGS)]
    if not found:
        remedy = "put the files of your log there"
        raise DataError(f"{path}: no file in this folder ends in {endings}; {remedy}.")
    return found


def left_out(path: str | Path) -> list[str]:
    """Says which files of a folder are not read."""
    files = _files(Path(path)) if Path(path).is_dir() else []
    others = [file.name for file in files if not file.name.lower().endswith(ENDINGS)]
    return [f"{len(others)} other files are left out, such as {others[0]}."] if others else []


def _files(folder: Path) -> list[Path]:
    def refuse(error: OSError):
        raise _unreadable(Path(error.filename), error) from error

    found, seen = [], set()
    for here, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        # A link may lead to a folder again, and a hidden folder holds another program's copies.
        seen.add(os.path.realpath(here))
        folders[:] = [
            name
            for name in folders
            if name[0] not in "._" and os.path.realpath(os.path.join(here, name)) not in seen
        ]
        found += [Path(here, name) for name in names if name[0] not in "._"]
    return sorted(found)


def fingerprint(paths: Sequence[Path]) -> str:
    """Hashes the contents of files."""
    digest = hashlib.sha256()
    for path in paths:
        try:
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise _unreadable(path, error) from error
    return digest.hexdigest()[:24]


def column_names(path: Path) -> list[str]:
    """Returns the names of a file's columns, but for those without one, such as an index."""
    names = [name for name in _header(path)[0] if name]
    for k, name in enumerate(names):
        if name in names[:k]:
            remedy = like_data(names) or "give each its own name"
            raise DataError(f"{path}: column {name!r} appears twice; {remedy}.")
    return names


def require_columns(names: Sequence[str], wanted: Sequence[str], path: Path) -> None:
    """Raises DataError if a column is missing, with a hint if the reason can be guessed."""
    for name in wanted:
        if name not in names and (data := like_data(names)):
            raise DataError(f"{path}: column {name!r} is missing; {data}.")
        if name not in names and (alike := difflib.get_close_matches(name, names[:1_000], 1)):
            hint = f"the nearest name is {alike[0]!r}, to be written as '{listed(alike)}'"
            raise DataError(f"{path}: column {name!r} is missing; {hint}.")
    check.require_columns(names[:100], [name for name in wanted if name not in names], str(path))


def like_data(names: Sequence[str]) -> str | None:
    """Returns what to do about a first line that looks like data; None if it does not."""
    if any(re.match(r"-?[0-9]+([.:-][0-9]+)*([T ]|$)", name) for name in names):
        remedy = "write a line with the names of the columns before it"
        return f"the first line looks like data ({', '.join(names[:20])}): {remedy}"
    return None


def batches(path: Path, wanted: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Yields the named columns, up to about a million rows at a time.

    Columns of a CSV file are dictionaries of strings; those of a Parquet file keep their types.
    """
    require_columns(column_names(path), wanted, path)
    if _is_parquet(path):
        with _parquet(path) as file:
            try:
                for batch in file.iter_batches(batch_size=_BATCH, columns=list(wanted)):
                    yield pa.record_batch(
                        [_taken(one) for one in batch.columns], batch.schema.names
                    )
            except (pa.ArrowInvalid, OSError) as error:
                raise _damaged(path, error) from error
        return
    (names, delimiter), n = _header(path), 0
    options = (
        pyarrow.csv.ReadOptions(block_size=_BLOCK, column_names=names, skip_rows=1),
        pyarrow.csv.ParseOptions(delimiter=delimiter),
        check.csv_columns(dict.fromkeys(wanted, _TEXT)),
    )
    with _Lines(path) as file:
        try:
            for batch in pyarrow.csv.open_csv(file, *options):
                n += len(batch)
                yield batch
        except pa.ArrowInvalid as error:
            if "Empty CSV file" not in str(error):  # but for a header
                what = f"not a complete CSV file ({check.reason(error)}); write it again"
                raise _odd_row(path, names, delimiter, wanted) or _refuse(path, what) from error
        if n + 1 < file.lines and (odd := _odd_row(path, names, delimiter, wanted)):
            raise odd


class _Lines(io.BufferedReader):
    """Reads the bytes of a file, unpacked if it is gzipped, and counts their line feeds."""

    def __init__(self, path: Path) -> None:
        self.path, self.lines = path, 0
        try:
            self.packed = path.open("rb")
        except OSError as error:
            raise _unreadable(path, error) from error
        zipped = path.name.lower().endswith(".gz")
        super().__init__(gzip.GzipFile(fileobj=self.packed) if zipped else self.packed, 1 << 20)

    def read(self, size: int | None = -1) -> bytes:
        try:
            data = super().read(size)
        except (EOFError, zlib.error, OSError) as error:
            raise _damaged(self.path, error) from error
        self.lines += data.count(b"\n")
        return data

    def close(self) -> None:
        super().close()
        self.packed.close()


def _header(path: Path) -> tuple[list[str], str]:
    """Returns the names of the columns, "" for a column without one, and the delimiter."""
    if _is_parquet(path):
        with _parquet(path) as file:
            return list(file.schema_arrow.names), ""
    with _Lines(path) as file:
        try:
            first, second = file.readline(), file.readline()
        except (EOFError, zlib.error, OSError) as error:
            raise _damaged(path, error) from error
    if not first.strip():
        what = "its first line is empty" if first else "empty"
        raise DataError(f"{path}: {what}; it must hold a header and at least one impression.")
    if b"\r" in first.rstrip():
        remedy = f"write line feeds: tr '\\r' '\\n' < {path.name} > new.csv"
        raise DataError(f"{path}: its lines end in carriage returns alone; {remedy}.")
    try:
        line = first.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError:
        line = "\0"
    if "\0" in line:
        how = "unpack the file, or write it in UTF-8, as by iconv -f CP1252 -t UTF-8"
        raise DataError(f"{path}: its first line, {first[:20]!r}, is no UTF-8 text; {how}.")
    delimiter = max(",\t;|", key=line.count)
    names = next(csv.reader([line], delimiter=delimiter), [])
    row = next(csv.reader([second.decode("utf-8", "replace").rstrip("\r\n")], delimiter=delimiter))
    # Trailing delimiters, in the rows alone or in the header alone.
    if len(row) == len(names) + 1 and not row[-1]:
        names.append("")
    elif len(row) == len(names) - 1 and not names[-1]:
        names.pop()
    return [name if name.strip() else "" for name in names], delimiter


def _odd_row(path: Path, names: list[str], delimiter: str, wanted) -> DataError | None:
    """Looks for the first row that is not one line of a field a column, however slow that is."""
    at, row, lines = {name: names.index(name) for name in wanted}, 0, []
    with _Lines(path) as file:
        text = io.TextIOWrapper(file, "utf-8-sig", errors="surrogateescape", newline="")
        text.readline()
        reader = csv.reader(_kept(text, lines), delimiter=delimiter)
        try:
            for row, fields in enumerate(filter(None, reader), 1):
                whole = sum(line.count(delimiter) == len(names) - 1 for line in lines)
                lines.clear()
                if whole > 1:
                    what = f"row {row} holds {whole} lines that look like rows"
                    return _refuse(
                        path, f"{what}: a quote opens there and closes too late; mend it"
                    )
                if len(fields) != len(names):
                    counts = f"{len(fields)} fields, but there are {len(names)} columns"
                    return _refuse(path, f"row {row} has {counts}; fix or remove that line")
                for name, k in at.items():
                    if any("\udc80" <= character <= "\udcff" for character in fields[k]):
                        what = f"column {name!r}, row {row}: not UTF-8"
                        return _refuse(path, f"{what}; write the file again in UTF-8")
        except csv.Error as error:
            what = f"row {row + 1} cannot be split ({error}): a quote opens and closes too late"
            return _refuse(path, f"{what}; mend it")
    return None


def _kept(lines: Iterable[str], kept: list[str]) -> Iterator[str]:
    """Passes lines on, and keeps them."""
    for line in lines:
        kept.append(line)
        yield line


def _taken(column: pa.Array) -> pa.Array:
    """Returns views of strings as strings, since pyarrow cannot take rows of a view."""
    return column.cast(pa.string()) if str(column.type) == "string_view" else column


def _is_parquet(path: Path) -> bool:
    return path.name.lower().endswith(PARQUET)


def _parquet(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except PermissionError as error:
        raise _unreadable(path, error) from error
    except (pa.ArrowInvalid, OSError) as error:
        raise _damaged(path, error) from error


def _refuse(path: Path, what: str) -> DataError:
    return DataError(f"{path}: {what}.")


def _damaged(path: Path, error: Exception) -> DataError:
    kind = "Parquet" if _is_parquet(path) else "gzip"
    if isinstance(error, PermissionError) or (kind == "gzip" and path.suffix.lower() != ".gz"):
        return _unreadable(path, error)
    what = f"not a complete {kind} file ({check.reason(error)})"
    return _refuse(
        path, f"{what}; compress or copy it again" if kind == "gzip" else what + "; write it again"
    )


def _unreadable(path: Path, error: Exception) -> DataError:
    reason = getattr(error, "strerror", None) or check.reason(error)
    return _refuse(path, f"cannot be read ({reason}); check its permissions and its disk")

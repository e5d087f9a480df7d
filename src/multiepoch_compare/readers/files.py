"""CSV and Parquet files as a stream of chunks: the named columns, checked, in bounded memory.

CSV may be gzipped and may be separated by commas, tabs, semicolons or bars. Every refusal is a
DataError of one sentence with file, column and row. Rows count from 1, without the header.
"""

from __future__ import annotations

import csv
import errno
import gzip
import hashlib
import io
import json
import re
import unicodedata
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from multiepoch_lab.data import check
from multiepoch_lab.data.log import DataError
from multiepoch_lab.files import atomic_write

PARQUET_ENDINGS = (".parquet", ".pq")
ENDINGS = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".txt.gz", *PARQUET_ENDINGS)
CHUNK_ROWS = 1 << 20
CACHE_REMEDY = "set MULTIEPOCH_CACHE to another folder"
_BLOCK = 1 << 25  # bytes of CSV that are parsed at a time
_UNPACKED = 200  # times the size of a gzip file; logs unpack to ten or twenty times
_LONGEST_LINE = 1 << 20
_START = 1 << 24  # bytes of a file that identify it together with its size and time
_TEXT = pa.dictionary(pa.int32(), pa.string())


def find(path: str | Path) -> list[Path]:
    """Returns the file itself, or the files of a folder by name, day2 before day10."""
    path, endings = Path(path), ", ".join(ENDINGS)
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; give the path of your log.")
    if not path.is_dir():
        if not path.name.lower().endswith(ENDINGS):
            raise DataError(f"{path}: unknown file type; its name must end in {endings}.")
        return [path]
    found = (p for p in path.rglob("*") if p.is_file() and p.name.lower().endswith(ENDINGS))
    # Other programs' files and folders, such as .ipynb_checkpoints, which holds copies.
    hidden = re.compile(r"(^|/)[._]")
    found = sorted(
        (p for p in found if not hidden.search(p.relative_to(path).as_posix())), key=in_order
    )
    if not found:
        remedy = "put the files of your log there"
        raise DataError(f"{path}: no file in this folder ends in {endings}; {remedy}.")
    return found


def in_order(path: str | Path) -> list:
    """Compares runs of digits as numbers."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"([0-9]+)", str(path))]


def stamps(paths: Iterable[Path]) -> list[tuple[int, int]]:
    """Returns the size of each file and the time of its last change."""
    found = (path.stat() for path in paths)
    return [(one.st_size, one.st_mtime_ns) for one in found]


def fingerprint(paths: Iterable[Path], settings: Any, whole: bool = True) -> str:
    """Hashes files and the settings (JSON values) they are read with.

    If not `whole`, the size, the time and the first 16 MiB stand for a file.
    """
    digest = hashlib.sha256(json.dumps(settings).encode())
    for path in paths:
        try:
            stat = path.stat()
            digest.update(f"{path.name} {stat.st_size}".encode())
            with path.open("rb") as file:
                if whole:
                    digest.update(hashlib.file_digest(file, "sha256").digest())
                else:
                    digest.update(f"{stat.st_mtime_ns}".encode() + file.read(_START))
        except OSError as error:
            raise _unreadable(path, error) from error
    return digest.hexdigest()[:24]


def column_names(path: Path) -> list[str]:
    """Returns the names of a file's columns."""
    if _is_parquet(path):
        with _parquet(path) as file:
            names = list(file.schema_arrow.names)
    else:
        names = _header(path)[0]
    if not names:
        raise DataError(f"{path}: the first line is empty; it must name the columns.")
    for k, name in enumerate(names):
        if name in names[:k]:
            twice = f"appears twice, as columns {names.index(name) + 1} and {k + 1}"
            remedy = like_data(names) or "give each its own name"
            raise DataError(f"{path}: column {name!r} {twice}; {remedy}.")
        if not name.strip():
            raise DataError(f"{path}: column {k + 1} has no name; the first line must name all.")
    return names


def require_columns(names: Sequence[str], wanted: Sequence[str], path: Path) -> None:
    """Raises DataError if a column is missing, with a hint if the reason can be guessed."""
    for name in wanted:
        if name not in names:
            missing = f"{path}: column {name!r} is missing"
            if alike := [one for one in names if _plain(one) == _plain(name)]:
                how = f"name it with its spaces, in quotes: '\"{alike[0]}\"'"
                if alike[0].strip() != name.strip():
                    how = "its letters are coded in another way (composed or not), so copy the name"
                raise DataError(f"{missing}; there is {alike[0]!r}: {how}.")
            if data := like_data(names):
                raise DataError(f"{missing}; {data}.")
    check.require_columns(names, wanted, str(path))


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name.strip())


def like_data(names: Sequence[str]) -> str | None:
    """Returns what to do about a first line that looks like data; None if it does not."""
    if any(re.match(r"-?[0-9]+([.:-][0-9]+)*([T ]|$)", name) for name in names):
        remedy = "write a line with the names of the columns before it"
        return f"the first line looks like data ({', '.join(names)}): {remedy}"
    return None


def about_rows(paths: Sequence[Path]) -> int:
    """Returns the number of rows: that of Parquet files, about that of CSV files."""
    n = 0
    for path in paths:
        if _is_parquet(path):
            with _parquet(path) as file:
                n += file.metadata.num_rows
            continue
        try:
            with _open(path) as stream:
                start = stream.read(1 << 20)
        except OSError as error:
            raise _unreadable(path, error) from error
        size = len(zlib.compress(start)) if _is_gzip(path) else len(start)
        n += round(path.stat().st_size / max(size, 1) * start.count(b"\n"))
    return n


def chunks(
    path: Path,
    columns: Sequence[str],
    floats: Sequence[str] = (),
) -> Iterator[pa.RecordBatch]:
    """Yields the named columns, up to about a million rows at a time.

    Columns of a CSV file are dictionaries of strings, those in `floats` float64; columns of a
    Parquet file keep their types.
    """
    names, wanted = column_names(path), [*columns, *floats]
    require_columns(names, wanted, path)
    if _is_parquet(path):
        with _parquet(path) as file:
            try:
                for batch in file.iter_batches(batch_size=CHUNK_ROWS, columns=wanted):
                    yield _known_types(batch)
            except (pa.ArrowInvalid, OSError) as error:
                raise _damaged(path, error) from error
        return
    delimiter = _header(path)[1]
    types = dict.fromkeys(columns, _TEXT) | dict.fromkeys(floats, pa.float64())
    try:
        with _open(path) as stream:
            yield from pyarrow.csv.open_csv(
                stream,
                pyarrow.csv.ReadOptions(block_size=_BLOCK),
                pyarrow.csv.ParseOptions(delimiter=delimiter),
                check.csv_columns(types),
            )
    except (pa.ArrowInvalid, OSError) as error:
        raise _bad_csv(path, names, floats, delimiter, error) from error


def _known_types(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Turns string views into strings, since many functions of Arrow do not take them."""
    for k, field in enumerate(batch.schema):
        if str(field.type) == "string_view":
            batch = batch.set_column(k, field.name, batch.column(k).cast(pa.string()))
    return batch


# How files of other kinds begin, and what to do with them. {0} is the file, {1} another name.
_OTHERS = {
    b"\x1f\x8b": ("gzipped, though its name does not end in .gz", "rename it to {0}.gz"),
    b"PAR1": ("a Parquet file, though its name does not say so", "rename it to {1}.parquet"),
    b"PK\x03\x04": ("a ZIP archive", "unpack it"),
    b"BZh": ("compressed with bzip2", "unpack it with bunzip2"),
    b"\x28\xb5\x2f\xfd": ("compressed with zstd", "unpack it with unzstd"),
    b"\xff\xfe": ("UTF-16", "write it in UTF-8: iconv -f UTF-16 -t UTF-8 {0} > {1}-utf8.csv"),
    b"\xfe\xff": ("UTF-16", "write it in UTF-8: iconv -f UTF-16 -t UTF-8 {0} > {1}-utf8.csv"),
}


def _open(path: Path) -> pa.NativeFile | gzip.GzipFile:
    if path.stat().st_size == 0:
        raise DataError(f"{path}: empty; it must hold a header and at least one impression.")
    with pa.input_stream(str(path), compression=None) as stream:
        start = stream.read(4)
    if _is_gzip(path):
        if start[:2] != b"\x1f\x8b"[: len(start)]:
            what = f"not gzipped, though its name ends in .gz; rename it to {path.name[:-3]}"
            raise DataError(f"{path}: {what}.")
    else:
        _refuse_others(path, start)
    if _is_gzip(path):
        return _Bounded(path)
    return pa.input_stream(str(path), compression=None)


class _Bounded(gzip.GzipFile):
    """Refuses a file that unpacks to far more than a log does, before it fills memory or disk."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "rb")
        self.path, self.left = path, max(_UNPACKED * path.stat().st_size, _START)

    def read(self, size: int = -1) -> bytes:
        try:
            data = super().read(size)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise _damaged(self.path, error) from error
        self.left -= len(data)
        if self.left < 0:
            what = f"unpacks to more than {_UNPACKED} times its size"
            raise DataError(f"{self.path}: {what}; is it a log? If so, unpack it.")
        return data

    def read1(self, size: int = -1) -> bytes:
        return self.read(io.DEFAULT_BUFFER_SIZE if size < 0 else size)


def _refuse_others(path: Path, start: bytes) -> None:
    for beginning, (what, remedy) in _OTHERS.items():
        if start.startswith(beginning):
            remedy = remedy.format(path.name, path.name.partition(".")[0])
            raise DataError(f"{path}: {what}; {remedy}.")


def _header(path: Path) -> tuple[list[str], str]:
    """Returns the fields of the first line and their delimiter."""
    try:
        with _open(path) as stream:
            start = stream.read(1 << 16)
    except OSError as error:
        raise _damaged(path, error) from error
    _refuse_others(path, start)
    first = start.partition(b"\n")[0]
    if b"\0" in first:
        raise DataError(f"{path}: the first line holds NUL bytes; write the file in UTF-8.")
    if b"\r" in first[:-1]:
        remedy = f"write line feeds: tr '\\r' '\\n' < {path.name} > new.csv"
        raise DataError(f"{path}: its lines end in carriage returns alone; {remedy}.")
    line = first.decode("utf-8-sig", "replace").rstrip("\r")
    if line.startswith("#"):
        what = f"the first line is a comment ({line[:40]!r}), but it must name the columns"
        raise DataError(f"{path}: {what}; remove it: tail -n +2 {path.name} > new.csv.")
    delimiter = max(",\t;|", key=line.count)
    return next(csv.reader([line], delimiter=delimiter), []), delimiter


def _bad_csv(path: Path, names, floats, delimiter: str, error) -> DataError:
    """Looks for the row and column that could not be parsed, however slow that is."""
    if _is_gzip(path) and not isinstance(error, pa.ArrowInvalid):
        return _damaged(path, error)
    try:
        with _open(path) as stream:
            text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape")
            lines = iter(lambda: text.readline(_LONGEST_LINE), "")
            for row, fields in enumerate(csv.reader(lines, delimiter=delimiter)):
                if row > 0 and fields and (problem := _problem(fields, names, floats, row)):
                    return DataError(f"{path}: {problem}")
    except (OSError, pa.ArrowInvalid):
        return _damaged(path, error)
    except csv.Error as reason:
        return DataError(f"{path}: not a CSV file ({reason}); write it again.")
    return DataError(f"{path}: not a complete CSV file ({check.reason(error)}); write it again.")


def _problem(fields: list[str], names: list[str], floats: Sequence[str], row: int) -> str | None:
    if len(fields) != len(names):
        counts = f"{len(fields)} fields, but there are {len(names)} columns"
        return f"row {row} has {counts}; fix or remove that line."
    for name, value in zip(names, fields):
        if any("\udc80" <= character <= "\udcff" for character in value):
            return f"column {name!r}, row {row}: not UTF-8; write the file again in UTF-8."
        if name in floats and value and not _is_float(value):
            must = "there must be a number: mend it, or leave the column out"
            return f"column {name!r}, row {row}: {value!r}; {must}."
    return None


def _is_float(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _is_gzip(path: Path) -> bool:
    return path.name.lower().endswith(".gz")


def _is_parquet(path: Path) -> bool:
    return path.name.lower().endswith(PARQUET_ENDINGS)


def _parquet(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except PermissionError as error:
        raise _unreadable(path, error) from error
    except (pa.ArrowInvalid, OSError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> DataError:
    if _is_parquet(path):
        reason = check.reason(error)
        return DataError(f"{path}: not a complete Parquet file ({reason}); write it again.")
    if _is_gzip(path):
        what = "the gzip file is incomplete or damaged"
        return DataError(f"{path}: {what}; compress or copy it again.")
    return _unreadable(path, error)


def _unreadable(path: Path, error: Exception) -> DataError:
    reason = getattr(error, "strerror", None) or check.reason(error)
    return DataError(f"{path}: cannot be read ({reason}); check its permissions and its disk.")


@contextmanager
def kept_folder(folder: Path) -> Iterator[Path]:
    """Yields a new folder that in the end takes the place of `folder`, in the user's cache.

    Another process that was faster has made the same one, which stays.
    """
    try:
        with atomic_write(folder) as partial:
            partial.mkdir()
            yield partial
    except OSError as error:
        if not folder.exists():
            raise disk_error(error, folder.parent, CACHE_REMEDY) from error


def disk_error(error: OSError, folder: Path, instead: str) -> DataError:
    """Returns the error for a folder that cannot be written to; `instead` names the way out."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT) or "space left" in str(error)
    reason = "the disk is full" if full else f"cannot be written to ({error.strerror or error})"
    remedy = "free some space" if full else "make it writable"
    return DataError(f"{folder}: {reason}; {remedy}, or {instead}.")

"""CSV and Parquet files as a stream of chunks: the named columns, checked, in bounded memory.

CSV may be gzipped and may be separated by commas, tabs, semicolons or bars. Every refusal is a
DataError of one sentence with file, column and row. Rows count from 1, without the header.
"""

from __future__ import annotations

import csv
import io
import re
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from multiepoch.data.log import DataError

CSV_ENDINGS = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".txt.gz")
PARQUET_ENDINGS = (".parquet", ".pq")
CHUNK_ROWS = 1 << 20
_BLOCK = 1 << 25  # bytes of CSV that are parsed at a time
_TEXT = pa.dictionary(pa.int32(), pa.string())


def find(path: str | Path, endings: Sequence[str] = CSV_ENDINGS + PARQUET_ENDINGS) -> list[Path]:
    """The file itself, or the files of a folder in the order of their names, day2 before day10."""
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; give the path of your log.")
    if not path.is_dir():
        if not path.name.lower().endswith(tuple(endings)):
            raise DataError(
                f"{path}: what kind of file it is cannot be told; its name must end in "
                f"{', '.join(endings)}."
            )
        return [path]
    found = sorted((p for p in path.rglob("*") if p.is_file() and p.name[0] not in "._"
                    and p.name.lower().endswith(tuple(endings))), key=_in_order)  # fmt: skip
    if not found:
        raise DataError(
            f"{path}: no file in this folder ends in {', '.join(endings)}; "
            "put the CSV or Parquet files of the days there."
        )
    return found


def _in_order(path: Path) -> list:
    """Runs of digits count as numbers."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"([0-9]+)", str(path))]


def column_names(path: Path, header: Sequence[str] | None = None) -> list[str]:
    """The names of a file's columns; `header` names those of a CSV file that has none."""
    if _is_parquet(path):
        with _parquet(path) as file:
            names = list(file.schema_arrow.names)
    else:
        names = list(header) if header is not None else _header(path)[0]
    if not names:
        raise DataError(f"{path}: the first line is empty; it must name the columns.")
    for k, name in enumerate(names):
        if name in names[:k]:
            raise DataError(
                f"{path}: column {name!r} is there twice, as columns "
                f"{names.index(name) + 1} and {k + 1}; give each its own name."
            )
        if not name.strip():
            raise DataError(f"{path}: column {k + 1} has no name; the first line must name all.")
    return names


def require_columns(path: Path, names: Sequence[str], columns: Sequence[str]) -> None:
    for column in columns:
        if column not in names:
            raise DataError(
                f"{path}: column {column!r} is missing; the columns are {', '.join(names)}."
            )


def chunks(
    path: Path,
    columns: Sequence[str],
    floats: Sequence[str] = (),
    header: Sequence[str] | None = None,
) -> Iterator[pa.RecordBatch]:
    """The named columns, up to about a million rows at a time.

    Columns of a CSV file come as dictionaries of strings, those in `floats` as float64; columns of
    a Parquet file in their own types.
    """
    names = column_names(path, header)
    require_columns(path, names, [*columns, *floats])
    read = _parquet_chunks if _is_parquet(path) else _csv_chunks
    yield from read(path, names, list(columns), list(floats), header)


def _parquet_chunks(path, names, columns, floats, header) -> Iterator[pa.RecordBatch]:
    with _parquet(path) as file:
        try:
            yield from file.iter_batches(batch_size=CHUNK_ROWS, columns=[*columns, *floats])
        except (pa.ArrowInvalid, OSError) as error:
            raise _damaged_parquet(path, error) from error


def _csv_chunks(path, names, columns, floats, header) -> Iterator[pa.RecordBatch]:
    _, delimiter = _header(path)
    types = dict.fromkeys(columns, _TEXT) | dict.fromkeys(floats, pa.float64())
    try:
        with _open(path) as stream:
            yield from pyarrow.csv.open_csv(
                stream,
                read_options=pyarrow.csv.ReadOptions(
                    block_size=_BLOCK, column_names=None if header is None else list(header)
                ),
                parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter),
                convert_options=pyarrow.csv.ConvertOptions(
                    include_columns=[*columns, *floats], column_types=types,
                    strings_can_be_null=True, null_values=[""],
                ),
            )  # fmt: skip
    except (pa.ArrowInvalid, OSError, EOFError, zlib.error) as error:
        raise _bad_csv(path, names, floats, delimiter, header, error) from error


def _open(path: Path):
    if path.stat().st_size == 0:
        raise DataError(f"{path}: empty; it must hold a header and at least one impression.")
    return pa.input_stream(str(path), compression="gzip" if _is_gzip(path) else None)


def _header(path: Path) -> tuple[list[str], str]:
    """The fields of the first line, and what separates them."""
    try:
        with _open(path) as stream:
            start = stream.read(1 << 16)
    except OSError as error:
        if _is_gzip(path):
            raise _damaged_gzip(path) from error
        raise _unreadable(path, error) from error
    line = start.decode("utf-8-sig", "replace").partition("\n")[0].rstrip("\r")
    delimiter = max(",\t;|", key=line.count)
    return next(csv.reader([line], delimiter=delimiter), []), delimiter


def _bad_csv(path, names, floats, delimiter, header, error) -> DataError:
    """The sentence for a file that cannot be parsed; looks for the line, however slow that is."""
    if _is_gzip(path) and not isinstance(error, pa.ArrowInvalid):
        return _damaged_gzip(path)
    try:
        with _open(path) as stream:
            text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape")
            lines = csv.reader(text, delimiter=delimiter)
            for row, fields in enumerate(lines, start=1 if header is not None else 0):
                if row == 0 or not fields:
                    continue
                if len(fields) != len(names):
                    return DataError(
                        f"{path}: row {row} has {len(fields)} fields and there are "
                        f"{len(names)} columns; mend or leave out that line."
                    )
                for name, value in zip(names, fields):
                    if any("\udc80" <= character <= "\udcff" for character in value):
                        return DataError(
                            f"{path}: column {name!r}, row {row}: not UTF-8; "
                            "write the file again in UTF-8."
                        )
                    if name in floats and value and not _is_float(value):
                        return DataError(
                            f"{path}: column {name!r}, row {row}: {value!r}; a dense "
                            "feature must be a number."
                        )
    except (OSError, EOFError, zlib.error, pa.ArrowInvalid):
        return _damaged_gzip(path) if _is_gzip(path) else _unreadable(path, error)
    except csv.Error as reason:
        return DataError(f"{path}: not a CSV file ({reason}); write it again.")
    reason = " ".join(str(error).split()).rstrip(".")
    return DataError(f"{path}: not a whole CSV file ({reason}); write it again.")


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
    except (pa.ArrowInvalid, OSError) as error:
        if isinstance(error, PermissionError):
            raise _unreadable(path, error) from error
        raise _damaged_parquet(path, error) from error


def _damaged_parquet(path: Path, error: Exception) -> DataError:
    reason = " ".join(str(error).split()).rstrip(".")
    return DataError(f"{path}: not a whole Parquet file ({reason}); write it again.")


def _damaged_gzip(path: Path) -> DataError:
    return DataError(f"{path}: the gzip file is cut off or damaged; compress or copy it again.")


def _unreadable(path: Path, error: Exception) -> DataError:
    reason = getattr(error, "strerror", None) or " ".join(str(error).split()).rstrip(".")
    return DataError(f"{path}: cannot be read ({reason}); look at its permissions and its disk.")

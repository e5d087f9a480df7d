"""Ali-CCP (Ma et al., Entire Space Multi-Task Model, SIGIR 2018): clicks and purchases on Taobao.

Four files without headers, `sample_skeleton_train.csv`, `common_features_train.csv` and the same
for test. A line of a skeleton is

    sample, click, purchase, key of the common features, number of features, features

and a line of common features is

    key, number of features, features

where features are parted by \\x01, and each is field \\x02 id \\x03 weight. Common features belong
to a user and are shared by many samples.

Read are the fields with one id a sample: 101, 121, 122, 124 to 129 (the user), 205, 206, 207, 216
(the item), 508, 509, 702, 853 (user and item), 301 (the place on the page). Left out are the
fields with many: 210, and the histories 109_14, 110_14, 127_14, 150_14. The files hold no time: the
last tenth of the training file, by position, is for validation. No checksum is published.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from multiepoch.data.log import DataError
from multiepoch_compare.readers.tabular import (
    Columns,
    MappedLog,
    default_cache,
    disk_error,
    map_log,
)

FIELDS = (
    "101",
    "121",
    "122",
    "124",
    "125",
    "126",
    "127",
    "128",
    "129",
    "205",
    "206",
    "207",
    "216",
    "508",
    "509",
    "702",
    "853",
    "301",
)
LABELS = ("click", "purchase")
COLUMNS = Columns(ids=FIELDS, labels=LABELS)
PARTS = ("0-train.parquet", "1-validation.parquet", "2-test.parquet")
_LINES = 200_000  # written at a time


def load_ali_ccp(folder: str | Path, cache: str | Path | None = None) -> MappedLog:
    """The folder with the four files. Joined once, into Parquet files in the cache."""
    folder = Path(folder)
    cache = default_cache() if cache is None else Path(cache)
    return map_log(join(folder, cache / f"ali-ccp-{stamp(folder)}"), COLUMNS, cache)


def join(folder: Path, out: Path) -> Path:
    """Writes the samples with their common features: a Parquet file a part, each whole or not."""
    for kind in ("train", "test"):
        parts = PARTS[:2] if kind == "train" else PARTS[2:]
        if all((out / part).exists() for part in parts):
            continue
        common = _common(folder / f"common_features_{kind}.csv")
        skeleton = folder / f"sample_skeleton_{kind}.csv"
        n = sum(1 for _ in _lines(skeleton, 6))
        first_of_tail = n - n // 10 if kind == "train" else 0
        samples = _samples(skeleton, common)
        if kind == "train":
            _write(out / PARTS[0], samples, first_of_tail)
            _write(out / PARTS[1], samples, None)
        else:
            _write(out / PARTS[2], samples, None)
    return out


def stamp(folder: Path) -> str:
    names = [f"{what}_{kind}.csv" for kind in ("train", "test")
             for what in ("sample_skeleton", "common_features")]  # fmt: skip
    for name in names:
        if not (folder / name).exists():
            raise DataError(f"{folder}: {name} is missing; unpack the four files of Ali-CCP here.")
    sizes = [(name, (folder / name).stat().st_size, (folder / name).stat().st_mtime_ns)
             for name in names]  # fmt: skip
    return hashlib.sha256(repr(sizes).encode()).hexdigest()[:16]


def _lines(path: Path, n_fields: int) -> Iterator[list[str]]:
    with path.open(encoding="utf-8", newline="\n") as file:
        for row, line in enumerate(file, start=1):
            fields = line.rstrip("\r\n").split(",")
            if len(fields) != n_fields:
                raise DataError(
                    f"{path}: row {row} has {len(fields)} fields where there must be "
                    f"{n_fields}; the file is cut off or another, unpack it again."
                )
            yield fields


def _features(text: str, path: Path, row: int) -> dict[str, str]:
    """The id of each field that is read."""
    found = {}
    for feature in text.split("\x01") if text else ():
        field, separator, rest = feature.partition("\x02")
        if not separator:
            raise DataError(
                f"{path}: row {row}: feature {feature[:40]!r} has no \\x02; the file "
                "is cut off or another, unpack it again."
            )
        if field in FIELDS:
            found[field] = rest.partition("\x03")[0]
    return found


def _common(path: Path) -> dict[str, dict[str, str]]:
    return {key: _features(text, path, row)
            for row, (key, _, text) in enumerate(_lines(path, 3), start=1)}  # fmt: skip


def _samples(path: Path, common: dict[str, dict[str, str]]) -> Iterator[tuple]:
    for row, (_, click, purchase, key, _, text) in enumerate(_lines(path, 6), start=1):
        if key not in common:
            raise DataError(
                f"{path}: row {row}: no common features {key!r}; skeleton and common "
                "features must be of one release."
            )
        for name, label in zip(LABELS, (click, purchase)):
            if label not in ("0", "1"):
                raise DataError(
                    f"{path}: column {name!r}, row {row}: {label!r}; it must be 0 or 1."
                )
        features = common[key] | _features(text, path, row)
        yield int(click), int(purchase), *(features.get(field) for field in FIELDS)


def _write(path: Path, samples: Iterator[tuple], n: int | None) -> None:
    """The next n samples, or all that are left, as one file that appears whole or not at all."""
    schema = pa.schema([*((name, pa.int8()) for name in LABELS),
                        *((field, pa.string()) for field in FIELDS)])  # fmt: skip
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with pq.ParquetWriter(partial, schema, compression="zstd") as writer:
            done = 0
            while n is None or done < n:
                size = _LINES if n is None else min(_LINES, n - done)
                rows = [sample for _, sample in zip(range(size), samples)]
                if not rows:
                    break
                columns = [
                    pa.array(column, field.type) for column, field in zip(zip(*rows), schema)
                ]
                writer.write_table(pa.table(columns, schema=schema))
                done += len(rows)
        os.replace(partial, path)
    except OSError as error:
        raise disk_error(error, path.parent, "set MULTIEPOCH_CACHE to another") from error
    finally:
        partial.unlink(missing_ok=True)

"""Ali-CCP (Ma et al., Entire Space Multi-Task Model, SIGIR 2018): clicks and purchases on Taobao.

Four files without headers: `sample_skeleton_train.csv`, `common_features_train.csv` and the same
for test. A line of a skeleton is

    sample, click, purchase, key of the common features, number of features, features

and a line of common features is

    key, number of features, features

Features are separated by \\x01, and each is field \\x02 id \\x03 weight. Common features belong to
a user and are shared by many samples.

FIELDS are those with one id per sample: 101, 121, 122, 124 to 129 (the user), 205, 206, 207, 216
(the item), 508, 509, 702, 853 (user and item), 301 (the position on the page). The fields with
several ids are not read: 210, and the histories 109_14, 110_14, 127_14, 150_14. The files hold no
time, so the last tenth of the training file is the validation day. Their owner publishes no
checksum.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from multiepoch.data.log import DataError
from multiepoch.files import atomic_write
from multiepoch_compare.readers.columns import Columns
from multiepoch_compare.readers.files import CACHE_REMEDY, disk_error, fingerprint

_ONE_ID = "101 121 122 124 125 126 127 128 129 205 206 207 216 508 509 702 853 301"
FIELDS = tuple(_ONE_ID.split())
LABELS = ("click", "purchase")
COLUMNS = Columns(ids=FIELDS, labels=LABELS)
_SCHEMA = pa.schema([(name, pa.int8()) for name in LABELS] + [(f, pa.string()) for f in FIELDS])
_LINES = 200_000  # written at a time


def join(folder: Path, cache: Path) -> Path:
    """Writes the samples with their common features as a Parquet file for each part.

    Args:
        folder: Holds the four files.
        cache: Keeps the joined files, so that they are made once.

    Returns:
        The folder of the Parquet files, in the order train, validation, test.

    Raises:
        DataError: If a file is missing or damaged, or if the cache cannot be written to.
    """
    sources = {
        (kind, part): folder / f"{part}_{kind}.csv"
        for kind in ("train", "test")
        for part in ("sample_skeleton", "common_features")
    }
    for path in sources.values():
        if not path.exists():
            raise DataError(
                f"{folder}: {path.name} is missing; unpack the four files of Ali-CCP here."
            )
    out = cache / f"ali-ccp-{fingerprint(sources.values(), 'ali-ccp', whole=False)}"
    if out.exists():
        return out

    def samples(kind: str) -> Iterator[tuple]:
        return _samples(sources[kind, "sample_skeleton"], sources[kind, "common_features"])

    n = sum(1 for _ in _lines(sources["train", "sample_skeleton"], 6))
    train = samples("train")
    try:
        with atomic_write(out) as partial:
            partial.mkdir()
            _write(partial / "0-train.parquet", islice(train, n - n // 10))
            _write(partial / "1-validation.parquet", train)
            _write(partial / "2-test.parquet", samples("test"))
    except OSError as error:
        raise disk_error(error, cache, CACHE_REMEDY) from error
    return out


def _lines(path: Path, n_fields: int) -> Iterator[list[str]]:
    with path.open(encoding="utf-8", newline="\n") as file:
        for row, line in enumerate(file, start=1):
            fields = line.rstrip("\r\n").split(",")
            if len(fields) != n_fields:
                raise DataError(
                    f"{path}: row {row} has {len(fields)} fields instead of {n_fields}; the file "
                    "is incomplete or a different one, unpack it again."
                )
            yield fields


def _features(text: str, path: Path, row: int) -> dict[str, str]:
    """Returns the id of each of FIELDS that the line has."""
    found = {}
    for feature in text.split("\x01") if text else ():
        field, separator, rest = feature.partition("\x02")
        if not separator:
            raise DataError(
                f"{path}: row {row}: feature {feature[:40]!r} has no \\x02; the file is "
                "incomplete or a different one, unpack it again."
            )
        if field in FIELDS:
            found[field] = rest.partition("\x03")[0]
    return found


def _samples(skeleton: Path, common_features: Path) -> Iterator[tuple]:
    common = {
        key: _features(text, common_features, row)
        for row, (key, _, text) in enumerate(_lines(common_features, 3), start=1)
    }
    for row, (_, *labels, key, _, text) in enumerate(_lines(skeleton, 6), start=1):
        if key not in common:
            raise DataError(
                f"{skeleton}: row {row}: no common features {key!r}; skeleton and common features "
                "must be of one release."
            )
        for name, label in zip(LABELS, labels):
            if label not in ("0", "1"):
                raise DataError(
                    f"{skeleton}: column {name!r}, row {row}: {label!r}; it must be 0 or 1."
                )
        features = common[key] | _features(text, skeleton, row)
        yield *map(int, labels), *map(features.get, FIELDS)


def _write(path: Path, samples: Iterator[tuple]) -> None:
    with pq.ParquetWriter(path, _SCHEMA, compression="zstd") as writer:
        while rows := list(islice(samples, _LINES)):
            columns = [pa.array(c, field.type) for c, field in zip(zip(*rows), _SCHEMA)]
            writer.write_table(pa.table(columns, schema=_SCHEMA))

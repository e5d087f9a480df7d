"""Ali-CCP (Ma et al., Entire Space Multi-Task Model, SIGIR 2018): clicks and purchases on Taobao.

Four files without headers: `sample_skeleton_train.csv`, `common_features_train.csv` and the same
for test, with the columns SKELETON and COMMON. Features are separated by \\x01, and each is
field \\x02 id \\x03 weight. Common features belong to a user and are shared by many samples.

FIELDS are those with one id per sample: 101, 121, 122, 124 to 129 (the user), 205, 206, 207, 216
(the item), 508, 509, 702, 853 (user and item), 301 (the position on the page). The fields with
several ids are not read: 210, and the histories 109_14, 110_14, 127_14, 150_14. The files hold no
time, so the last tenth of the training file is the validation day. No checksum is published.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from multiepoch_compare.readers import files, parse
from multiepoch_compare.readers.columns import Columns
from multiepoch_lab.data.log import DataError

_ONE_ID = "101 121 122 124 125 126 127 128 129 205 206 207 216 508 509 702 853 301"
FIELDS = tuple(_ONE_ID.split())
LABELS = ("click", "purchase")
COLUMNS = Columns(ids=FIELDS, labels=LABELS)
SKELETON = ("sample", *LABELS, "key", "n_features", "features")
COMMON = ("key", "n_features", "features")
_FEATURE = r"[^\x01]*\x02[^\x01]*"
_WELL_FORMED = rf"^({_FEATURE}(\x01{_FEATURE})*)?$"


def join(folder: Path, cache: Path) -> Path:
    """Joins the samples with their common features, once, into a Parquet file for each part.

    Returns:
        The folder of the Parquet files, in the order train, validation, test.

    Raises:
        DataError: If a file is missing or damaged, or if the cache cannot be written to.
    """
    skeletons = [folder / f"sample_skeleton_{kind}.csv" for kind in ("train", "test")]
    commons = [folder / f"common_features_{kind}.csv" for kind in ("train", "test")]
    for path in skeletons + commons:
        if not path.exists():
            raise DataError(f"{path} is missing; unpack the four files of Ali-CCP there.")
    out = cache / f"ali-ccp-{files.fingerprint(skeletons + commons, FIELDS, whole=False)}"
    if out.exists():
        return out
    n = sum(map(len, files.chunks(skeletons[0], ["key"], header=SKELETON)))
    with files.kept_folder(out) as partial:
        left = n - n // 10  # until the validation day
        types = dict.fromkeys(LABELS, pa.uint8()) | dict.fromkeys(FIELDS, pa.string())
        paths = [partial / f"{name}.parquet" for name in ("0-train", "1-validation", "2-test")]
        train, validation, test = (pq.ParquetWriter(path, pa.schema(types)) for path in paths)
        with train, validation, test:
            for table in _samples(skeletons[0], commons[0]):
                train.write_table(table.slice(0, left))
                validation.write_table(table.slice(left))
                left = max(left - len(table), 0)
            for table in _samples(skeletons[1], commons[1]):
                test.write_table(table)
    return out


def _samples(skeleton: Path, common_path: Path) -> Iterator[pa.Table]:
    common = pa.concat_tables(
        pa.table({"key": batch["key"].cast(pa.string()), **_fields(batch, common_path, first)})
        for first, batch in _numbered(common_path, ["key", "features"], COMMON)
    ).combine_chunks()
    for first, batch in _numbered(skeleton, [*LABELS, "key", "features"], SKELETON):
        keys = batch["key"].cast(pa.string())
        user = pc.index_in(keys, common["key"])
        if user.null_count:
            place, remedy = parse.Place(str(skeleton), "key", first), "use the files of one release"
            row = int(np.argmax(user.is_null().to_numpy(zero_copy_only=False)))
            place.refuse(row, f"no common features {keys[row].as_py()!r}", remedy)
        places = {name: parse.Place(str(skeleton), name, first) for name in LABELS}
        labels = {name: parse.labels(batch[name], place) for name, place in places.items()}
        fields = _fields(batch, skeleton, first).items()
        ids = {field: pc.coalesce(own, common[field].take(user)) for field, own in fields}
        yield pa.table(labels | ids)


def _numbered(path: Path, columns: list, header: tuple) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Yields the rows of the file before each chunk, and the chunk."""
    first = 0
    for batch in files.chunks(path, columns, header=header):
        yield first, batch
        first += len(batch)


def _fields(batch: pa.RecordBatch, path: Path, first: int) -> dict[str, pa.Array]:
    """Returns the id of each of FIELDS; null if a line does not have it."""
    texts = pc.fill_null(batch["features"].cast(pa.string()), "")
    bad = pc.invert(pc.match_substring_regex(texts, _WELL_FORMED)).to_numpy(zero_copy_only=False)
    if bad.any():
        remedy = "each must be a field, \\x02 and an id; unpack the file again"
        parse.Place(str(path), "features", first).refuse_first(bad, texts, remedy)
    patterns = {field: rf"(?:^|\x01){field}\x02(?P<id>[^\x01\x03]*)" for field in FIELDS}
    found = {field: pc.extract_regex(texts, pattern) for field, pattern in patterns.items()}
    return {field: pc.struct_field(one, "id") for field, one in found.items()}

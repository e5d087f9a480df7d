"""Writes the part of KuaiRand-Pure that is in this repository.

    python -m tools.make_kuairand SOURCE

SOURCE is a folder with `impressions.parquet`, a part of the official logs with author_id and tag
joined from the official video table, and the `LICENSE` of the data. The README.md beside the result
lists the changes.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq

TARGET = Path(__file__).parents[1] / "data" / "kuairand"
# The narrowest type that holds every value; a cast that loses one raises.
COLUMNS = {
    "user_id": pa.int32(),
    "video_id": pa.int32(),
    "author_id": pa.int32(),
    "date": pa.int32(),
    "hourmin": pa.int16(),
    "tab": pa.int8(),
    "tag": pa.string(),
    "is_click": pa.int8(),
    "long_view": pa.int8(),
    "is_like": pa.int8(),
    "is_profile_enter": pa.int8(),
    "is_comment": pa.int8(),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="folder with impressions.parquet and LICENSE")
    source = parser.parse_args().source

    table = pq.read_table(source / "impressions.parquet")
    order = pa.compute.sort_indices(table, [("date", "ascending"), ("time_ms", "ascending")])
    table = table.take(order).select(list(COLUMNS)).cast(pa.schema(COLUMNS.items()))
    TARGET.mkdir(exist_ok=True)
    path = TARGET / "impressions.parquet"
    pq.write_table(table, path, compression="zstd", compression_level=19)
    shutil.copyfile(source / "LICENSE", TARGET / "LICENSE")
    print(f"{path}: {len(table)} impressions, {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()

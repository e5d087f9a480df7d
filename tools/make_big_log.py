"""Makes a log that is larger than memory, to try the readers on.

    python -m tools.make_big_log OUT [--rows 20000000] [--days 10]

OUT ends in .parquet or .csv. The log has ten columns: six of ids (strings and integers, with up to
a tenth as many different users as rows), two labels, one dense feature and the day. It is written a
million rows at a time, and the same arguments give the same log.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv
import pyarrow.parquet as pq

CHUNK = 1_000_000


def chunk(index: int, n: int, rows: int, days: int) -> pa.Table:
    """Returns n rows, from row index * CHUNK on, of a log of `rows`."""
    rng = np.random.default_rng(index)

    def skewed(size: int) -> np.ndarray:
        return (size * rng.random(n) ** 3).astype(np.int64)

    day = (index * CHUNK + np.arange(n, dtype=np.int64)) * days // rows
    click = rng.random(n) < 0.1
    hashed = skewed(200_000) * 0x9E3779B97F4A7  # integers of sixty bits
    user = pa.array(skewed(max(1, rows // 10))).cast(pa.string())
    return pa.table(
        {
            "user": pa.compute.binary_join_element_wise("u", user, ""),
            "item": hashed,
            "campaign": skewed(5_000),
            "advertiser": skewed(500),
            "site": pa.array([f"site-{k}.example" for k in range(2_000)]).take(skewed(2_000)),
            "country": pa.array([f"c{k}" for k in range(60)]).take(skewed(60)),
            "click": click.astype(np.int8),
            "buy": (click & (rng.random(n) < 0.1)).astype(np.int8),
            "price": rng.lognormal(size=n).astype(np.float32).round(2),
            "day": (np.datetime64("2024-01-01") + day).astype("datetime64[D]").astype(str),
        }
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--days", type=int, default=10)
    options = parser.parse_args()
    out, rows = options.out, options.rows
    kind = pq.ParquetWriter if out.suffix == ".parquet" else pa.csv.CSVWriter
    with kind(out, chunk(0, 1, rows, options.days).schema) as writer:
        for index, first in enumerate(range(0, rows, CHUNK)):
            writer.write_table(chunk(index, min(CHUNK, rows - first), rows, options.days))
    print(f"{out}: {rows:,} rows, {out.stat().st_size / 1e6:,.0f} MB")


if __name__ == "__main__":
    main()

"""Avazu Click-Through Rate Prediction (Kaggle, 2014): train.csv, ten days of mobile ads.

The day is in `hour`, written YYMMDDHH. `id` numbers the impressions and is no feature. The test
file has no labels and is not read. No checksum of the official archive is published.
"""

from __future__ import annotations

from pathlib import Path

from multiepoch_compare.readers.tabular import Columns, MappedLog, map_log

COLUMNS = Columns(
    ids=("C1", "banner_pos", "site_id", "site_domain", "site_category", "app_id", "app_domain",
         "app_category", "device_id", "device_ip", "device_model", "device_type",
         "device_conn_type", *(f"C{k}" for k in range(14, 22))),
    labels=("click",),
    day="hour",
    day_format="YYMMDDHH",
)  # fmt: skip


def load_avazu(path: str | Path, cache: str | Path | None = None) -> MappedLog:
    """train.csv, gzipped or not."""
    return map_log(path, COLUMNS, cache)

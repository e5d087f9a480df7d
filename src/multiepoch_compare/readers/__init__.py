"""Readers of logs: CSV and Parquet files of any layout, and the formats of public data sets."""

from multiepoch_compare.readers.columns import Columns
from multiepoch_compare.readers.formats import FORMATS
from multiepoch_compare.readers.tabular import MappedLog, default_cache, map_log

__all__ = ["FORMATS", "Columns", "MappedLog", "default_cache", "map_log"]

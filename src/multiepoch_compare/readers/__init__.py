"""Readers of logs: CSV and Parquet files of any layout."""

from multiepoch_compare.readers.columns import Columns
from multiepoch_compare.readers.tabular import MappedLog, default_cache, map_log

__all__ = ["Columns", "MappedLog", "default_cache", "map_log"]

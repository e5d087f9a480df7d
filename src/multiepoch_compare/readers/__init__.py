"""Readers of logs: CSV and Parquet files of any layout."""

from multiepoch_compare.readers.columns import Columns
from multiepoch_compare.readers.whole_log import WholeLog, read_log

__all__ = ["Columns", "WholeLog", "read_log"]

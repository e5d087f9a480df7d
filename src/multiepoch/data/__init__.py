"""Sources of impressions. Each returns the same thing: a `Log`."""

from multiepoch.data.ads_world import AdsWorld
from multiepoch.data.kuairand import PACKAGED_SPLIT, download_kuairand, load_kuairand
from multiepoch.data.log import DataError, Log, Schema
from multiepoch.data.split import split_by_day

__all__ = [
    "PACKAGED_SPLIT",
    "AdsWorld",
    "DataError",
    "Log",
    "Schema",
    "download_kuairand",
    "load_kuairand",
    "split_by_day",
]

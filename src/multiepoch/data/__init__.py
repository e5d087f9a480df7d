"""Sources of impressions. Each returns the same thing: a `Log`."""

from multiepoch.data.ads_world import AdsWorld
from multiepoch.data.log import DataError, Log, Schema

__all__ = ["AdsWorld", "DataError", "Log", "Schema"]

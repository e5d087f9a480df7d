"""Sources of impressions. Each returns the same thing: a `Log`."""

from multiepoch.data.log import DataError, Log, Schema

__all__ = ["DataError", "Log", "Schema"]

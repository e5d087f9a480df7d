"""Sources of impressions, all of which return a `Log`.

KuaiRand needs the extra `lab` (pandas, PyArrow, pooch), so its names are imported on first use.
"""

import importlib

from multiepoch_lab.data.ads_world import AdsWorld
from multiepoch_lab.data.log import DataError, Log, Schema, split_by_day

_KUAIRAND = ["PACKAGED_SPLIT", "load_kuairand"]

__all__ = ["AdsWorld", "DataError", "Log", "Schema", "split_by_day", *_KUAIRAND]


def __getattr__(name: str):
    if name not in _KUAIRAND:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("multiepoch_lab.data.kuairand"), name)


def __dir__() -> list[str]:
    return __all__

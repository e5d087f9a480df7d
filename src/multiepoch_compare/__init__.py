"""`multiepoch inspect` and `multiepoch compare`: does my log collapse, and what helps?

from multiepoch_compare import compare
"""

__all__ = ["compare"]


def __getattr__(name: str):
    if name == "compare":  # on demand, so that the command line answers at once
        from multiepoch_compare.api import compare

        return compare
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

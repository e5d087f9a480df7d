"""Remedies for a repeated epoch over the same data: MEDA, tail rewind, table groups.

`LeaveOneOutRows` and `TwoFoldTables` are controls: they show whether the harm of a repeated epoch
on a log is labels that rows have seen.
"""

from __future__ import annotations

import warnings

from multiepoch.remedies.leave_one_out import LeaveOneOutRows
from multiepoch.remedies.rewind import Rewind, meda, meda_restored, tail_rewind
from multiepoch.remedies.table_groups import TableGroups, meda_groups
from multiepoch.remedies.two_fold import TwoFoldTables

__all__ = [
    "LeaveOneOutRows",
    "Rewind",
    "TableGroups",
    "TwoFoldTables",
    "meda",
    "meda_groups",
    "meda_restored",
    "tail_rewind",
]


def __getattr__(name: str) -> type:
    """Finds `LeaveOneOutRows` under its earlier name, until version 0.3."""
    if name == "SelfExcludingRows":
        text = "SelfExcludingRows is now LeaveOneOutRows; version 0.3 drops the old name"
        warnings.warn(text, DeprecationWarning, stacklevel=2)
        return LeaveOneOutRows
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

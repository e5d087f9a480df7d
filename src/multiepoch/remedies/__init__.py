"""Remedies for a repeated epoch over the same data: MEDA, tail rewind, table groups.

`SelfExcludingRows` and `TwoFoldTables` are controls: they show whether the harm of a repeated epoch
on a log is labels that rows have seen.
"""

from multiepoch.remedies.rewind import Rewind, meda, meda_restored, tail_rewind
from multiepoch.remedies.self_excluding import SelfExcludingRows
from multiepoch.remedies.table_groups import TableGroups, meda_groups
from multiepoch.remedies.two_fold import TwoFoldTables

__all__ = [
    "Rewind",
    "SelfExcludingRows",
    "TableGroups",
    "TwoFoldTables",
    "meda",
    "meda_groups",
    "meda_restored",
    "tail_rewind",
]

"""Remedies for a repeated epoch over the same data: MEDA, tail rewind, leave-one-out rows.

`TwoFoldTables` is a control: it shows whether the harm of a repeated epoch on a log is labels that
rows have seen.
"""

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

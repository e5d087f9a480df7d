"""What happens between epochs over the same data: MEDA, tail rewind, table groups."""

from multiepoch.remedies.rewind import (
    Rewind,
    TableGroups,
    meda,
    meda_groups,
    meda_redrawn,
    meda_restored,
    tail_rewind,
)

__all__ = [
    "Rewind",
    "TableGroups",
    "meda",
    "meda_groups",
    "meda_redrawn",
    "meda_restored",
    "tail_rewind",
]

"""Remedies that act between epochs over the same data: MEDA, tail rewind, table groups."""

from multiepoch.remedies.rewind import Rewind, meda, meda_restored, tail_rewind
from multiepoch.remedies.table_groups import TableGroups, meda_groups

__all__ = ["Rewind", "TableGroups", "meda", "meda_groups", "meda_restored", "tail_rewind"]

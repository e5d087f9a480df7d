"""Remedies for a repeated epoch over the same data: MEDA and tail rewind."""

from multiepoch.remedies.rewind import Rewind, meda, meda_restored, tail_rewind

__all__ = ["Rewind", "meda", "meda_restored", "tail_rewind"]

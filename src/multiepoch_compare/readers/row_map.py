"""Row numbers for ids of any kind: strings or integers of any size, chunk by chunk.

An id becomes a 64-bit key, and the key a row. Integers are their own key. Strings are hashed, so
two of them could share a row: among ten million different strings, the chance that any two do is
one in four hundred thousand. Only the keys and their rows are held in memory, 12 bytes per id.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

_MISSING = np.uint64(0x6D697373696E6721)  # a missing id is an id of its own


_MOST_CHANGED = 1_000_000  # ids that are compared with each other


class RowMap:
    """Numbers 64-bit keys 0, 1, 2, ... in the order in which they are first seen."""

    def __init__(self) -> None:
        self.keys = np.zeros(0, np.uint64)  # sorted
        self._rows = np.zeros(0, np.int32)

    @property
    def n(self) -> int:
        return len(self.keys)

    def rows(self, keys: np.ndarray) -> np.ndarray:
        """Returns the rows of distinct keys, (n,) uint64 to (n,) int32; new keys get new rows."""
        order = np.argsort(keys)  # sorted keys are found faster
        at = np.searchsorted(self.keys, keys[order])
        known = at < self.n
        known[known] = self.keys[at[known]] == keys[order[known]]
        rows = np.full(len(keys), -1, np.int32)
        rows[order[known]] = self._rows[at[known]]
        new = rows < 0
        rows[new] = np.arange(self.n, self.n + new.sum(), dtype=np.int32)
        at, order = at[~known], order[~known]
        self.keys = np.insert(self.keys, at, keys[order])
        self._rows = np.insert(self._rows, at, rows[order])
        return rows


class Alike:
    """Counts the ids that differ from another by case, blanks or composition of letters alone."""

    def __init__(self) -> None:
        self._changed = np.zeros((0, 2), np.uint64)  # ids that are not plain: key, key of the plain

    def add(self, values: pa.Array, keys: np.ndarray) -> None:
        """Adds distinct texts, and their keys as from `keys_of`."""
        if len(self._changed) > _MOST_CHANGED:  # then they are codes, not slips
            return
        plain = pc.utf8_lower(pc.utf8_trim_whitespace(pc.utf8_normalize(values, "NFC")))
        changed = pc.fill_null(pc.not_equal(plain, values), False)
        pairs = np.stack([keys[changed.to_numpy(False)], keys_of(plain.filter(changed))], axis=1)
        self._changed = np.unique(np.concatenate([self._changed, pairs]), axis=0)

    def count(self, keys: np.ndarray) -> int:
        """Returns how many of all keys, (n,), are not the first of their kind."""
        ours, plain = self._changed.T
        return len(keys) - len(np.union1d(np.setdiff1d(keys, ours), plain))


def keys_of(values: pa.Array) -> np.ndarray:
    """Returns the 64-bit key of each value of an array of integers or strings, (n,) uint64."""
    if pa.types.is_integer(values.type):
        filled = pc.fill_null(values, 0).to_numpy(zero_copy_only=False)
        signed = np.issubdtype(filled.dtype, np.signedinteger)
        keys = filled.astype(np.int64).view(np.uint64) if signed else filled.astype(np.uint64)
    else:
        texts = pc.fill_null(values, "").to_numpy(zero_copy_only=False)
        keys = pd.util.hash_array(texts, categorize=False)
    if values.null_count:
        keys = np.where(pc.is_null(values).to_numpy(zero_copy_only=False), _MISSING, keys)
    return keys

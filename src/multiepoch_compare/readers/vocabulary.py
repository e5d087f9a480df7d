"""Row numbers for ids of any kind: strings or integers of any size, chunk by chunk.

An id becomes a 64-bit key, the key a row. Integers are their own key. Strings are hashed, so two
strings could share a row: for ten million different strings the chance that any two do is one in
four hundred thousand. Only keys are held in memory, 12 bytes a slot; the ids themselves are
written to a file in the order of their rows.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MISSING = np.uint64(0x6D697373696E6721)  # an empty id is an id of its own


class RowMap:
    """From 64-bit keys to the rows 0, 1, 2, ... in the order in which keys were first seen.

    An open-addressing hash table with linear probing, at most half full, whose every operation is
    on whole arrays.
    """

    def __init__(self, capacity: int = 1 << 16) -> None:
        self.n = 0
        self._keys = np.zeros(capacity, np.uint64)
        self._rows = np.full(capacity, -1, np.int32)

    def rows(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows of distinct keys, (n,) uint64 to (n,) int32, and which of them are new, (n,) bool.

        New keys are given the next rows, in their order.
        """
        rows = self._find(keys)
        new = rows < 0
        n_new = int(new.sum())
        if n_new:
            rows[new] = np.arange(self.n, self.n + n_new, dtype=np.int32)
            while 2 * (self.n + n_new) > len(self._keys):
                self._grow()
            self._insert(keys[new], rows[new])
            self.n += n_new
        return rows, new

    def _find(self, keys: np.ndarray) -> np.ndarray:
        rows = np.full(len(keys), -1, np.int32)
        pending = np.arange(len(keys))
        slots = self._home(keys)
        while len(pending):
            there = self._rows[slots]
            match = self._keys[slots] == keys[pending]
            found = match & (there >= 0)
            rows[pending[found]] = there[found]
            on = (there >= 0) & ~match
            pending, slots = pending[on], self._next(slots[on])
        return rows

    def _insert(self, keys: np.ndarray, rows: np.ndarray) -> None:
        """Distinct keys that are not there yet. Of several that want one free slot, one gets it."""
        slots = self._home(keys)
        while len(keys):
            free = self._rows[slots] < 0
            self._rows[slots[free]] = rows[free]
            placed = free & (self._rows[slots] == rows)
            self._keys[slots[placed]] = keys[placed]
            keys, rows, slots = keys[~placed], rows[~placed], self._next(slots[~placed])

    def _grow(self) -> None:
        used = self._rows >= 0
        keys, rows = self._keys[used], self._rows[used]
        capacity = 2 * len(self._keys)
        self._keys = np.zeros(capacity, np.uint64)
        self._rows = np.full(capacity, -1, np.int32)
        self._insert(keys, rows)

    def _home(self, keys: np.ndarray) -> np.ndarray:
        shift = np.uint64(64 - (len(self._keys).bit_length() - 1))
        return ((_mixed(keys) * _GOLDEN) >> shift).astype(np.int64)

    def _next(self, slots: np.ndarray) -> np.ndarray:
        return (slots + 1) & (len(self._keys) - 1)


def keys_of(values: pa.Array) -> np.ndarray:
    """The 64-bit key of each value of an array of integers or strings; (n,) uint64."""
    if pa.types.is_integer(values.type):
        filled = pc.fill_null(values, 0).to_numpy(zero_copy_only=False)
        signed = np.issubdtype(filled.dtype, np.signedinteger)
        keys = filled.astype(np.int64).view(np.uint64) if signed else filled.astype(np.uint64)
    else:
        keys = _hashed(values.cast(pa.large_string()))
    if values.null_count:
        keys = np.where(pc.is_null(values).to_numpy(zero_copy_only=False), _MISSING, keys)
    return keys


def _hashed(values: pa.LargeStringArray) -> np.ndarray:
    """Hashes eight bytes of every string at a time, each followed by the mixing of SplitMix64."""
    n = len(values)
    _, offsets, data = values.buffers()
    ends = np.frombuffer(offsets, np.int64)[values.offset : values.offset + n + 1]
    text = np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8)
    text = np.concatenate([text[ends[0] : ends[-1]], np.zeros(8, np.uint8)])
    # Eight bytes from every position on, without a copy.
    words = np.ndarray((len(text) - 7,), np.dtype("<u8"), text.data, strides=(1,))
    start, left = ends[:-1] - ends[0], np.diff(ends)
    keys = _mixed(left.astype(np.uint64) + _GOLDEN)
    todo = np.flatnonzero(left > 0)
    while len(todo):
        bits = np.uint64(8) * np.minimum(left[todo], 8).astype(np.uint64)
        word = words[start[todo]] & (np.uint64(0xFFFFFFFFFFFFFFFF) >> (np.uint64(64) - bits))
        keys[todo] = _mixed(keys[todo] * _GOLDEN ^ word)
        start[todo] += 8
        left[todo] -= 8
        todo = todo[left[todo] > 0]
    return keys


def _mixed(x: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): a bijection of 64 bits."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))

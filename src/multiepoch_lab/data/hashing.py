"""Hashed crosses: one id for each pair of ids."""

import numpy as np


def hashed_cross(left: np.ndarray, right: np.ndarray, rows: int) -> np.ndarray:
    """Hashes each pair (left[k], right[k]) to a row in [0, rows).

    Mixes the bits with the finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014), so that
    neighbouring ids land far apart. Distinct pairs may share a row. Takes and returns int64, (n,).
    """
    x = left.astype(np.uint64)
    x *= np.uint64(0x9E3779B97F4A7C15)
    x ^= right.astype(np.uint64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x ^= x >> np.uint64(shift)
        x *= np.uint64(factor)
    x ^= x >> np.uint64(31)
    return (x % np.uint64(rows)).astype(np.int64)

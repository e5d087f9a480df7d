"""Criteo Display Advertising Challenge (Kaggle, 2014): train.txt, seven days of clicks.

Tab-separated, no header: label, thirteen counts I1 to I13, twenty-six ids C1 to C26 of eight
hexadecimal digits; any feature may be missing. There is no time in the file, but its rows are in
order of time (as its readme.txt says), so a seventh of them stands for a day. The test.txt of the
challenge has no labels and is not read. No checksum of the official archive is published.
"""

from __future__ import annotations

from pathlib import Path

from multiepoch_compare.readers.tabular import Columns, MappedLog, map_log

_COUNTS = tuple(f"I{k}" for k in range(1, 14))
_IDS = tuple(f"C{k}" for k in range(1, 27))

COLUMNS = Columns(
    ids=_IDS,
    labels=("label",),
    dense=_COUNTS,
    counts=_COUNTS,
    parts=7,
    header=("label", *_COUNTS, *_IDS),
)


def load_criteo(path: str | Path, cache: str | Path | None = None) -> MappedLog:
    """train.txt, gzipped or not. Counts become sign(x) log(1 + |x|), a missing one 0."""
    return map_log(path, COLUMNS, cache)

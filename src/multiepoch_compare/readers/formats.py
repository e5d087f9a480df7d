"""Public data sets that `multiepoch compare --format` knows.

Criteo Display Advertising Challenge (Kaggle, 2014), train.txt: seven days of clicks. Tab-separated,
no header: label, thirteen counts I1 to I13, twenty-six ids C1 to C26 of eight hexadecimal digits;
any feature may be missing. The file has no time, but its readme.txt says that the rows are in
order of time, so each seventh of them counts as a day.

Avazu Click-Through Rate Prediction (Kaggle, 2014), train.csv: ten days of mobile ads. The day is in
`hour`, written YYMMDDHH; `id` numbers the impressions and is not a feature.

The test files of both have no labels and are not read. Their owners publish no checksums.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from multiepoch_compare.readers import ali_ccp
from multiepoch_compare.readers.columns import Columns


class Format(NamedTuple):
    """A data set: its columns and, if needed, prepare(path, cache), which makes it readable."""

    columns: Columns
    prepare: Callable[[Path, Path], Path] = lambda path, cache: path


def _numbered(prefix: str, first: int, last: int) -> tuple[str, ...]:
    return tuple(f"{prefix}{k}" for k in range(first, last + 1))


_COUNTS, _IDS = _numbered("I", 1, 13), _numbered("C", 1, 26)
_CRITEO = Columns(
    ids=_IDS,
    labels=("label",),
    dense=_COUNTS,
    counts=_COUNTS,
    parts=7,
    header=("label", *_COUNTS, *_IDS),
)

_AVAZU_IDS = (
    "C1 banner_pos site_id site_domain site_category app_id app_domain app_category "
    "device_id device_ip device_model device_type device_conn_type"
)
_AVAZU = Columns(
    ids=(*_AVAZU_IDS.split(), *_numbered("C", 14, 21)),
    labels=("click",),
    day="hour",
    day_format="YYMMDDHH",
)

FORMATS = {
    "criteo": Format(_CRITEO),
    "avazu": Format(_AVAZU),
    "ali-ccp": Format(ali_ccp.COLUMNS, ali_ccp.join),
}

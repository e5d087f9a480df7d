"""KuaiRand-Pure: impressions of short videos in the Kuaishou app, April and May 2022.

Source: Gao et al., KuaiRand: An Unbiased Sequential Recommendation Dataset with Randomly Exposed
Videos, CIKM 2022, https://doi.org/10.1145/3511808.3557624; CC BY-SA 4.0. The repository
contains two weeks of it (`data/kuairand/`, see its README.md).
"""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

try:
    import pandas as pd
    import pyarrow as pa
except ImportError as error:
    raise ImportError(
        "KuaiRand needs pandas and PyArrow: pip install 'multiepoch[lab]'."
    ) from error

from multiepoch_lab.data import check
from multiepoch_lab.data.hashing import hashed_cross
from multiepoch_lab.data.log import DataError, Log, Schema

# The part in the repository: in a checkout it is read from there, elsewhere it is downloaded.
PACKAGED = Path(__file__).parents[3] / "data" / "kuairand" / "impressions.parquet"
REPOSITORY = "https://github.com/the-second-epoch/the-second-epoch"
PACKAGED_URL = f"{REPOSITORY}/raw/main/data/kuairand/impressions.parquet"  # 1.6 MB
PACKAGED_SHA256 = "576c21ffce69995a15ec5728708658d4d557e82814ff86778ce70b6f39630724"

# Last day of each part for `split_by_day`, counted from 25 April: train to 2 May (135,128
# impressions), validation the next day (18,943), test from 4 to 8 May (74,258).
PACKAGED_SPLIT = {"train": 7, "validation": 8, "test": 13}

LABELS = {
    "click": "is_click",
    "long_view": "long_view",
    "like": "is_like",
    "profile_enter": "is_profile_enter",
    "comment": "is_comment",
}
IDS = {"user": "user_id", "video": "video_id", "author": "author_id", "tab": "tab", "tag": "tag"}
CROSS_ROWS = 1 << 18  # of user_x_author; the packaged part has 219,788 distinct pairs


def load_kuairand(
    path: str | Path | None = None,
    objectives: Sequence[str] = ("click", "long_view", "like"),
    cross: bool = True,
) -> Log:
    """Loads impressions in order of time; day 0 is the first day of the source.

    The day is the source's `date`. Around midnight the source's `time_ms` disagrees with it by up
    to an hour: 903 impressions (0.7 %) of the packaged training days have a `time_ms` later than
    the first one of the validation day.

    Ids count from 0 in the order of their first appearance. `tag` is the topic of the video, with
    one id for each combination of topics and one for none. Dense features are the hour of the day
    as sine and cosine, times sqrt(2).

    Args:
        path: A Parquet file with the columns of the packaged part. None for the packaged part
            itself, of a checkout or downloaded once and cached; the environment variable
            MULTIEPOCH_KUAIRAND replaces its address by another URL or a local path.
        objectives: Names from LABELS, in the order wanted.
        cross: Adds `user_x_author`, the ultra-sparse id of a pair, hashed into CROSS_ROWS rows.

    Raises:
        DataError: If a file is missing, damaged or has a value out of range.
        ImportError: If the download needs pooch and it is not installed.
        ValueError: If an objective is unknown.
    """
    objectives = tuple(objectives)
    if not objectives or not LABELS.keys() >= set(objectives):
        raise ValueError(f"load_kuairand: objectives {objectives}; choose from {tuple(LABELS)}.")
    path = _packaged() if path is None else Path(path)
    label_columns = [LABELS[name] for name in objectives]
    if not path.exists():
        raise DataError(f"{path}: no such file; give no path for the packaged part.")
    table = check.read_parquet(path, [*IDS.values(), "date", "hourmin", *label_columns])
    raw = _checked(table, label_columns, str(path))
    return _to_log(raw.sort_values("date", kind="stable", ignore_index=True), objectives, cross)


def _packaged() -> Path:
    place = os.environ.get("MULTIEPOCH_KUAIRAND")
    if place and "://" not in place:
        return Path(place)
    if not place and PACKAGED.exists():
        return PACKAGED
    return _download(place or PACKAGED_URL)


def _download(url: str) -> Path:
    """Downloads the packaged part into the user's cache, unless it is there already."""
    try:
        import pooch
    except ImportError as error:
        raise ImportError("A download needs pooch: pip install 'multiepoch[lab]'.") from error
    folder = pooch.os_cache("multiepoch")
    try:
        known = f"sha256:{PACKAGED_SHA256}"
        return Path(pooch.retrieve(url, known, url.rpartition("/")[2], folder))
    except ValueError as error:  # pooch has removed the file
        remedy = f"does not have the SHA256 checksum {PACKAGED_SHA256}; try again"
        raise DataError(f"{url}: the file received {remedy}.") from error
    except OSError as error:
        raise DataError(f"{url}: cannot be downloaded ({error}); try again.") from error


def _checked(table: pa.Table, labels: list[str], source: str) -> pd.DataFrame:
    """Returns the columns of one file as checked numbers; tags stay strings."""
    if len(table) == 0:
        raise DataError(f"{source}: no rows; it must hold at least one impression.")
    names = ("user_id", "video_id", "author_id", "tab", "hourmin")
    raw = {name: check.integers(table, name, source) for name in names}
    days = check.integers(table, "date", source)  # YYYYMMDD
    dates = pd.to_datetime(pd.Series(days).astype(str), format="%Y%m%d", errors="coerce")
    check.refuse_first(dates.isna(), days, "date", source, "it must be a day as YYYYMMDD")
    raw["date"] = dates.to_numpy()
    bad, must = (raw["hourmin"] >= 2400) | (raw["hourmin"] % 100 >= 60), "it must be a time as HHMM"
    check.refuse_first(bad, raw["hourmin"], "hourmin", source, must)
    raw |= {name: check.labels(table, name, source) for name in labels}
    raw["tag"] = table["tag"].to_pandas().to_numpy(dtype=object, na_value="unknown")
    return pd.DataFrame(raw)


def _to_log(raw: pd.DataFrame, objectives: tuple[str, ...], cross: bool) -> Log:
    codes, cardinality = {}, {}
    for name, column in IDS.items():
        codes[name], seen = pd.factorize(raw[column])  # numbers in order of first appearance
        cardinality[name] = len(seen)
    if cross:
        codes["user_x_author"] = hashed_cross(codes["user"], codes["author"], CROSS_ROWS)
        cardinality["user_x_author"] = CROSS_ROWS
    hour = raw["hourmin"].to_numpy() // 100 + raw["hourmin"].to_numpy() % 100 / 60
    angle = 2 * np.pi * hour / 24
    dense = np.sqrt(2) * np.stack([np.sin(angle), np.cos(angle)], axis=1)
    day = (raw["date"] - raw["date"].min()).dt.days.to_numpy()
    labels = np.stack([raw[LABELS[name]] for name in objectives], axis=1)
    schema = Schema(cardinality, ("hour_sin", "hour_cos"), objectives)
    return Log.from_numpy(schema, codes, dense=dense, labels=labels, day=day)

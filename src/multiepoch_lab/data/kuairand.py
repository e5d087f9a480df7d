"""KuaiRand-Pure: impressions of short videos in the Kuaishou app, April and May 2022.

Source: Gao et al., KuaiRand: An Unbiased Sequential Recommendation Dataset with Randomly Exposed
Videos, CIKM 2022, https://doi.org/10.1145/3511808.3557624; CC BY-SA 4.0. The repository
contains two weeks of it (`data/kuairand/`, see its README.md).
"""

import os
import tarfile
import zlib
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

URL = "https://zenodo.org/records/10439422/files/KuaiRand-Pure.tar.gz"  # 47 MB
MD5 = "0820331067a3784d9691136f772b35a7"  # as published by Zenodo for this file

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

# The logs of ordinary traffic. The third, of randomly inserted videos, has another distribution.
LOGS = ("log_standard_4_08_to_4_21_pure.csv", "log_standard_4_22_to_5_08_pure.csv")
VIDEOS = "video_features_basic_pure.csv"


def load_kuairand(
    path: str | Path | None = None,
    objectives: Sequence[str] = ("click", "long_view", "like"),
    cross: bool = True,
    md5: str | None = MD5,
) -> Log:
    """Loads impressions in order of time; day 0 is the first day of the source.

    The day is the source's `date`. Around midnight the source's `time_ms` disagrees with it by up
    to an hour: 903 impressions (0.7 %) of the packaged training days have a `time_ms` later than
    the first one of the validation day.

    Ids count from 0 in the order of their first appearance. `tag` is the topic of the video, with
    one id for each combination of topics and one for none. Dense features are the hour of the day
    as sine and cosine, times sqrt(2).

    Args:
        path: The official archive `KuaiRand-Pure.tar.gz`, the folder it unpacks to, or a Parquet
            file with the columns of the packaged part. None for the packaged part itself, of a
            checkout or downloaded once and cached; the environment variable MULTIEPOCH_KUAIRAND
            replaces its address by another URL or a local path.
        objectives: Names from LABELS, in the order wanted.
        cross: Adds `user_x_author`, the ultra-sparse id of a pair, hashed into CROSS_ROWS rows.
        md5: The checksum the archive must have; None if the same files were packed anew.

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
        remedy = "give KuaiRand-Pure.tar.gz, its folder, or no path for the packaged part"
        raise DataError(f"{path}: no such file or folder; {remedy}.")
    if path.suffix == ".parquet":
        table = check.read_parquet(path, [*IDS.values(), "date", "hourmin", *label_columns])
        raw = _checked(table, ["author_id", "tab"], label_columns, str(path))
        raw = raw.sort_values("date", kind="stable", ignore_index=True)
    else:
        raw = _read_official(path, label_columns, md5)
    return _to_log(raw, objectives, cross)


def download_kuairand(folder: str | Path) -> Path:
    """Downloads the official archive into `folder`, unless it is there, and returns its path.

    Raises:
        DataError: If the download fails or has a wrong checksum; no partial file is left behind.
        ImportError: If pooch is not installed.
    """
    return _download(URL, f"md5:{MD5}", Path(folder))


def _packaged() -> Path:
    place = os.environ.get("MULTIEPOCH_KUAIRAND")
    if place and "://" not in place:
        return Path(place)
    if not place and PACKAGED.exists():
        return PACKAGED
    return _download(place or PACKAGED_URL, f"sha256:{PACKAGED_SHA256}")


def _download(url: str, known_hash: str, folder: Path | None = None) -> Path:
    """Downloads a file into a folder, by default the user's cache, unless it is there already."""
    try:
        import pooch
    except ImportError as error:
        raise ImportError("A download needs pooch: pip install 'multiepoch[lab]'.") from error
    folder = folder or pooch.os_cache("multiepoch")
    try:
        return Path(pooch.retrieve(url, known_hash, url.rpartition("/")[2], folder))
    except ValueError as error:  # pooch has removed the file
        kind, _, digest = known_hash.partition(":")
        remedy = f"does not have the {kind.upper()} checksum {digest}; try again"
        raise DataError(f"{url}: the file received {remedy}.") from error
    except OSError as error:
        raise DataError(f"{url}: cannot be downloaded ({error}); try again.") from error


def _read_official(path: Path, label_columns: list[str], md5: str | None) -> pd.DataFrame:
    """Reads the two logs in order of time, with author and tag joined from the video table."""
    if path.is_dir():
        files = {one.name: one for one in sorted(path.rglob("*.csv"), reverse=True)}
        contents = {k: files[k].read_bytes() for k in (*LOGS, VIDEOS) if k in files}
    else:
        contents = _read_archive(path, md5)
    for name in (*LOGS, VIDEOS):
        if name not in contents:
            raise DataError(f"{path}: {name} is missing; give all of the official KuaiRand-Pure.")
    logs = []
    for name in LOGS:
        source = f"{path}/{name}"
        columns = ["user_id", "video_id", "tab", "date", "hourmin", "time_ms", *label_columns]
        table = check.read_csv(contents[name], columns, source)
        logs.append(_checked(table, ["tab", "time_ms"], label_columns, source))
    raw = pd.concat(logs, ignore_index=True)

    source = f"{path}/{VIDEOS}"
    videos = check.read_csv(contents[VIDEOS], ["video_id", "author_id", "tag"], source)
    video_id = pd.Index(check.integers(videos, "video_id", source))
    found, must = video_id.astype(str) + " appears twice", "each video must have one row"
    check.refuse_first(video_id.duplicated(), found, "video_id", source, must)
    at = video_id.get_indexer(raw["video_id"])
    if (at < 0).any():
        unknown = f"no row for video {raw['video_id'][int(np.argmax(at < 0))]} of the logs"
        remedy = "logs and videos must be of one release"
        raise DataError(f"{source}: column 'video_id': {unknown}; {remedy}.")
    raw["author_id"] = check.integers(videos, "author_id", source)[at]
    raw["tag"] = videos["tag"].to_pandas().to_numpy(dtype=object, na_value="unknown")[at]
    return raw.sort_values(["date", "time_ms"], kind="stable", ignore_index=True)


def _read_archive(path: Path, md5: str | None) -> dict[str, bytes]:
    """Reads the members into memory, so that no unpacked file is left behind."""
    if md5 is not None:
        check.checksum(path, md5)
    contents = {}
    try:
        with tarfile.open(path, "r:gz") as archive:
            for member in archive:
                name = member.name.rpartition("/")[2]
                if name in (*LOGS, VIDEOS) and (file := archive.extractfile(member)):
                    contents[name] = file.read()
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        remedy = "download it again"
        raise DataError(f"{path}: not a whole .tar.gz archive ({error}); {remedy}.") from error
    return contents


def _checked(table: pa.Table, extra: list[str], labels: list[str], source: str) -> pd.DataFrame:
    """Returns the columns of one file as checked numbers; tags stay strings."""
    if len(table) == 0:
        raise DataError(f"{source}: no rows; it must hold at least one impression.")
    names = ("user_id", "video_id", "hourmin", *extra)
    raw = {name: check.integers(table, name, source) for name in names}
    days = check.integers(table, "date", source)  # YYYYMMDD
    dates = pd.to_datetime(pd.Series(days).astype(str), format="%Y%m%d", errors="coerce")
    check.refuse_first(dates.isna(), days, "date", source, "it must be a day as YYYYMMDD")
    raw["date"] = dates.to_numpy()
    bad, must = (raw["hourmin"] >= 2400) | (raw["hourmin"] % 100 >= 60), "it must be a time as HHMM"
    check.refuse_first(bad, raw["hourmin"], "hourmin", source, must)
    raw |= {name: check.labels(table, name, source) for name in labels}
    if "tag" in table.column_names:
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

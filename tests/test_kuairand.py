import hashlib
import shutil
import sys
import tarfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from multiepoch_lab.data import (
    PACKAGED_SPLIT,
    DataError,
    download_kuairand,
    kuairand,
    load_kuairand,
    split_by_day,
)
from multiepoch_lab.data.kuairand import LOGS, PACKAGED, VIDEOS


@pytest.fixture(scope="module")
def packaged():
    return load_kuairand()


def test_the_packaged_part_is_the_one_that_is_documented(packaged):
    assert len(packaged) == 228_329
    assert packaged.objectives == ("click", "long_view", "like")
    cardinality = packaged.schema.cardinality
    assert cardinality["user"] == 25_156 and cardinality["video"] == 6_361
    assert cardinality["author"] == 5_641 and cardinality["user_x_author"] == 1 << 18
    assert packaged.labels.mean(0).tolist() == pytest.approx([0.4419, 0.3108, 0.0171], abs=1e-4)
    assert packaged.day.min() == 0 and packaged.day.max() == 13
    for name, ids in packaged.ids.items():
        assert ids.min() >= 0 and ids.max() < cardinality[name]
    assert PACKAGED.stat().st_size <= 2_000_000
    assert {path.name for path in PACKAGED.parent.iterdir()} == {
        "impressions.parquet",
        "LICENSE",
        "README.md",
    }


def test_packaged_labels_and_ids_are_those_of_the_file(packaged):
    raw = pq.read_table(PACKAGED).to_pandas()
    assert np.array_equal(packaged.labels[:, 2].numpy(), raw["is_like"])
    for name, column in (("user", "user_id"), ("tag", "tag")):
        pairs = set(zip(packaged.ids[name].tolist(), raw[column]))
        assert len(pairs) == raw[column].nunique() == packaged.schema.cardinality[name]


def test_days_follow_each_other_and_ids_count_up_as_they_appear(packaged):
    assert (packaged.day.diff() >= 0).all()
    for name in ("user", "video", "author", "tab", "tag"):
        ids = packaged.ids[name]
        highest_so_far = ids.cummax(0).values
        assert ids[0] == 0 and (highest_so_far.diff() <= 1).all()


def test_the_split_keeps_the_future_out_of_training(packaged):
    train, validation, test = split_by_day(packaged, **PACKAGED_SPLIT)
    assert [len(part) for part in (train, validation, test)] == [135_128, 18_943, 74_258]
    assert train.day.max() < validation.day.min()
    assert validation.day.max() < test.day.min()
    assert train.schema == test.schema == packaged.schema
    with pytest.raises(ValueError, match="train=8, validation=8"):
        split_by_day(packaged, 8, 8, 13)
    with pytest.raises(DataError, match="no impression in test; the last day of this log is 13"):
        split_by_day(packaged, 7, 13, 20)


def test_objectives_and_cross_are_chosen_by_the_caller(packaged):
    log = load_kuairand(objectives=("comment", "click"), cross=False)
    assert log.objectives == ("comment", "click") and "user_x_author" not in log.ids
    assert torch.equal(log.labels[:, 1], packaged.labels[:, 0])
    with pytest.raises(ValueError, match="share"):
        load_kuairand(objectives=("share",))


# The official archive, in small ------------------------------------------------------------------

LOG_COLUMNS = (
    "user_id,video_id,date,hourmin,time_ms,is_click,is_like,is_follow,is_comment,is_forward,"
    "is_hate,long_view,play_time_ms,duration_ms,profile_stay_time,comment_stay_time,"
    "is_profile_enter,is_rand,tab"
)
OFFICIAL = {
    LOGS[0]: f"{LOG_COLUMNS}\n"
    "7,10,20220409,2330,300,1,0,0,0,0,0,1,900,900,0,0,0,0,1\n"
    "5,11,20220408,0600,100,0,0,0,0,0,0,0,0,900,0,0,0,0,4\n",
    LOGS[1]: f"{LOG_COLUMNS}\n7,11,20220422,1200,400,1,1,0,0,0,0,0,50,900,0,0,1,0,1\n",
    VIDEOS: "video_id,author_id,video_type,tag\n11,200,NORMAL,\n10,100,NORMAL,39\n",
}


def write_folder(folder, files):
    data = folder / "KuaiRand-Pure" / "data"
    data.mkdir(parents=True)
    for name, text in files.items():
        (data / name).write_text(text)
    return folder


def write_archive(folder, files):
    path = folder / "KuaiRand-Pure.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.add(write_folder(folder / "unpacked", files) / "KuaiRand-Pure", "KuaiRand-Pure")
    return path


@pytest.mark.parametrize("write", [write_folder, write_archive])
def test_the_official_files_are_joined_and_sorted_by_time(tmp_path, write):
    log = load_kuairand(write(tmp_path, OFFICIAL), md5=None)
    assert log.day.tolist() == [0, 1, 14]
    assert log.ids["user"].tolist() == [0, 1, 1]  # 5, 7, 7
    assert log.ids["video"].tolist() == [0, 1, 0]  # 11, 10, 11
    assert log.ids["author"].tolist() == [0, 1, 0]  # 200, 100, 200
    assert log.ids["tag"].tolist() == [0, 1, 0]  # none, 39, none
    assert log.ids["tab"].tolist() == [0, 1, 1]  # 4, 1, 1
    assert log.labels.tolist() == [[0, 0, 0], [1, 1, 0], [1, 0, 1]]
    at_six, late, at_noon = log.dense.tolist()
    assert at_six == pytest.approx([2**0.5, 0], abs=1e-6)
    assert at_noon == pytest.approx([0, -(2**0.5)], abs=1e-6)
    assert late == pytest.approx([2**0.5 * np.sin(2 * np.pi * 23.5 / 24), 1.402114], abs=1e-6)


def changed(name, old, new):
    assert OFFICIAL[name].count(old), old
    return OFFICIAL | {name: OFFICIAL[name].replace(old, new)}


EARLY, LATE = LOGS


BAD = {
    "missing column": (
        changed(LATE, "is_click", "clicks"),
        f"{LATE}: column 'is_click' is missing",
    ),
    "wrong type": (changed(EARLY, "\n5,", "\nfive,"), f"{EARLY}: column 'user_id', row 2: 'five'"),
    "fraction": (changed(LATE, "\n7,", "\n7.5,"), "column 'user_id', row 1: '7.5'"),
    "label": (
        changed(LATE, ",400,1,1,", ",400,2,1,"),
        "column 'is_click', row 1: 2; it must be a whole number from 0 to 1",
    ),
    "missing label": (changed(LATE, ",400,1,1,", ",400,,1,"), "column 'is_click', row 1: no value"),
    "negative id": (
        changed(EARLY, "\n5,", "\n-5,"),
        "column 'user_id', row 2: -5; it must be a whole number 0 or more",
    ),
    "missing id": (changed(EARLY, "\n5,11", "\n5,"), "column 'video_id', row 2: no value"),
    "no such day": (changed(LATE, "20220422", "20220432"), "column 'date', row 1: 20220432"),
    "no such time": (changed(LATE, ",1200,", ",1260,"), "column 'hourmin', row 1: 1260"),
    "empty file": (OFFICIAL | {LATE: ""}, f"{LATE}: empty"),
    "header alone": (OFFICIAL | {LATE: LOG_COLUMNS + "\n"}, f"{LATE}: no rows"),
    "semicolons": (
        OFFICIAL | {LATE: OFFICIAL[LATE].replace(",", ";")},
        f"{LATE}: separated by semicolons",
    ),
    "tabs": (
        OFFICIAL | {VIDEOS: OFFICIAL[VIDEOS].replace(",", "\t")},
        f"{VIDEOS}: separated by tabs",
    ),
    "cut-off line": (
        OFFICIAL | {LATE: OFFICIAL[LATE][:-9]},
        f"{LATE}: not a whole CSV file .* 19 fields",
    ),
    "unknown video": (
        changed(VIDEOS, "\n10,", "\n12,"),
        f"{VIDEOS}: column 'video_id': no row for video 10",
    ),
    "video twice": (
        changed(VIDEOS, "\n10,", "\n11,"),
        "column 'video_id', row 2: 11 appears twice",
    ),
    "missing file": ({LATE: OFFICIAL[LATE], VIDEOS: OFFICIAL[VIDEOS]}, f"{EARLY} is missing"),
}


@pytest.mark.parametrize("files, message", BAD.values(), ids=BAD)
def test_bad_official_files_are_named_with_column_and_row(tmp_path, files, message):
    write_folder(tmp_path, files)
    with pytest.raises(DataError, match=message) as caught:
        load_kuairand(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


PARQUET = {
    "user_id": [3, 4],
    "video_id": [1, 1],
    "author_id": [9, 9],
    "tab": [1, 0],
    "tag": ["39", None],
    "date": [20220425, 20220426],
    "hourmin": [0, 2300],
    "is_click": [0, 1],
    "long_view": [0, 1],
    "is_like": [0, 0],
}


@pytest.mark.parametrize(
    "change, message",
    [
        ({"tab": None}, "column 'tab' is missing"),
        ({"user_id": [1.0, 2.0]}, "column 'user_id', row 1: 1.0 of type double"),
        ({"author_id": [9, -9]}, "column 'author_id', row 2: -9"),
        ({"author_id": [9, None]}, "column 'author_id', row 2: no value"),
        ({"is_like": [0, 3]}, "column 'is_like', row 2: 3"),
    ],
)
def test_bad_parquet_files_are_named_with_column_and_row(tmp_path, change, message):
    path = tmp_path / "part.parquet"
    pq.write_table(pa.table(PARQUET), path)
    assert load_kuairand(path).ids["tag"].tolist() == [0, 1]
    columns = {k: v for k, v in (PARQUET | change).items() if v is not None}
    pq.write_table(pa.table(columns), path)
    with pytest.raises(DataError, match=f"part.parquet: {message}"):
        load_kuairand(path)


def test_damaged_and_absent_files_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"none\.tar\.gz: no such file"):
        load_kuairand(tmp_path / "none.tar.gz")
    parquet = tmp_path / "part.parquet"
    for content in (PACKAGED.read_bytes()[:-1000], b""):
        parquet.write_bytes(content)
        with pytest.raises(DataError, match=r"part\.parquet: not a whole Parquet file"):
            load_kuairand(parquet)
    archive = write_archive(tmp_path, OFFICIAL)
    with pytest.raises(DataError, match="MD5 checksum"):
        load_kuairand(archive)
    before = sorted(tmp_path.rglob("*"))
    for content in (archive.read_bytes()[:-200], archive.read_bytes()[:40], b"", b"no archive"):
        archive.write_bytes(content)
        with pytest.raises(DataError, match=r"not a whole \.tar\.gz archive"):
            load_kuairand(archive, md5=None)
    assert sorted(tmp_path.rglob("*")) == before  # nothing unpacked, nothing left behind


# Download, from a server on this machine ---------------------------------------------------------


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A folder that is served on this machine, and its address."""
    folder = tmp_path / "served"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=folder))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def official_place(served, monkeypatch):
    folder, address = served
    archive = write_archive(folder, OFFICIAL)
    monkeypatch.setattr(kuairand, "URL", f"{address}/{archive.name}")
    monkeypatch.setattr(kuairand, "MD5", hashlib.md5(archive.read_bytes()).hexdigest())
    return archive


def test_a_download_is_verified_and_kept(tmp_path, official_place):
    path = download_kuairand(tmp_path / "data")
    assert path == tmp_path / "data" / "KuaiRand-Pure.tar.gz"
    assert len(load_kuairand(path, md5=kuairand.MD5)) == 3
    official_place.unlink()
    assert download_kuairand(tmp_path / "data") == path  # not fetched again


def test_a_download_with_a_wrong_checksum_leaves_nothing(tmp_path, official_place):
    official_place.write_bytes(official_place.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"KuaiRand-Pure\.tar\.gz: .* MD5 checksum"):
        download_kuairand(tmp_path / "data")
    assert not list((tmp_path / "data").rglob("*"))


def test_a_download_without_pooch_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(ImportError, match=r"pip install 'multiepoch\[lab\]'"):
        download_kuairand(tmp_path)


def test_the_packaged_part_is_read_from_a_local_path_instead(tmp_path, monkeypatch):
    path = tmp_path / "part.parquet"
    pq.write_table(pa.table(PARQUET), path)
    monkeypatch.setenv("MULTIEPOCH_KUAIRAND", str(path))
    assert len(load_kuairand()) == 2
    path.unlink()
    with pytest.raises(DataError, match=r"part\.parquet: no such file"):
        load_kuairand()


def test_outside_a_checkout_the_packaged_part_is_downloaded(served, tmp_path, monkeypatch):
    folder, address = served
    shutil.copy(PACKAGED, folder)
    url = f"{address}/{PACKAGED.name}"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(kuairand, "PACKAGED", tmp_path / "no checkout.parquet")
    monkeypatch.setattr(kuairand, "PACKAGED_URL", url)
    assert len(load_kuairand()) == 228_329
    (folder / PACKAGED.name).unlink()
    assert len(load_kuairand()) == 228_329  # from the cache
    monkeypatch.setenv("MULTIEPOCH_KUAIRAND", f"{address}/other.parquet")
    with pytest.raises(DataError, match=r"other\.parquet: cannot be downloaded .*404"):
        load_kuairand()
    (folder / "other.parquet").write_bytes(PACKAGED.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"other\.parquet: .* SHA256 checksum"):
        load_kuairand()

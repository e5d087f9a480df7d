import shutil
import sys
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
    kuairand,
    load_kuairand,
    split_by_day,
)
from multiepoch_lab.data.kuairand import PACKAGED


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
    with pytest.raises(DataError, match=r"none\.parquet: no such file"):
        load_kuairand(tmp_path / "none.parquet")
    parquet = tmp_path / "part.parquet"
    for content in (PACKAGED.read_bytes()[:-1000], b""):
        parquet.write_bytes(content)
        with pytest.raises(DataError, match=r"part\.parquet: not a whole Parquet file"):
            load_kuairand(parquet)


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


def test_a_download_without_pooch_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    monkeypatch.setenv("MULTIEPOCH_KUAIRAND", "https://example.com/part.parquet")
    with pytest.raises(ImportError, match=r"pip install 'multiepoch\[lab\]'"):
        load_kuairand()


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

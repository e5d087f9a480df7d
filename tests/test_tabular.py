import errno
import gzip
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from multiepoch_compare.readers import Columns, files, map_log, parse, tabular
from multiepoch_compare.readers.row_map import RowMap, keys_of
from multiepoch_lab.data import DataError, load_kuairand
from multiepoch_lab.data.hashing import hashed_cross
from multiepoch_lab.data.kuairand import PACKAGED
from multiepoch_lab.files import atomic_write

COLUMNS = Columns(
    ids=("user", "item"),
    labels=("click", "buy"),
    day="day",
    dense=("price",),
    cross=(("user", "item"),),
)


def table(n=1_000, seed=0, n_days=4):
    rng = np.random.default_rng(seed)
    return pa.table(
        {
            "user": [f"u{k}" for k in rng.integers(0, 200, n)],
            "item": rng.integers(-(2**62), 2**62, 50)[rng.integers(0, 50, n)],
            "click": rng.integers(0, 2, n).astype(np.int8),
            "buy": rng.integers(0, 2, n).astype(bool),
            "price": rng.normal(size=n).astype(np.float32),
            "day": (20240227 + np.arange(n) * n_days // n).astype(np.int32)
            if n_days < 3
            else [f"2024-02-{26 + k * n_days // n} 12:00:00" for k in range(n)],
        }
    )


def numbered(values):
    """What a dictionary would do: each value's place in the order of first appearance."""
    places = {}
    return [places.setdefault(value, len(places)) for value in values]


def check(mapped, source):
    log = mapped.read(slice(None))
    assert log.ids["user"].tolist() == numbered(source["user"].to_pylist())
    assert log.ids["item"].tolist() == numbered(source["item"].to_pylist())
    assert log.labels[:, 0].tolist() == source["click"].to_pylist()
    assert log.labels[:, 1].tolist() == source["buy"].to_pylist()
    assert log.dense[:, 0].tolist() == pytest.approx(source["price"].to_pylist(), abs=1e-6)
    assert log.day.tolist() == numbered(text[:10] for text in source["day"].to_pylist())
    assert mapped.days == ["2024-02-26", "2024-02-27", "2024-02-28", "2024-02-29"]
    pair = hashed_cross(log.ids["user"].numpy(), log.ids["item"].numpy(), mapped.cross_rows)
    assert log.ids["user_x_item"].tolist() == pair.tolist()
    for name, size in log.schema.cardinality.items():
        assert log.ids[name].min() >= 0 and log.ids[name].max() < size


@pytest.mark.parametrize(
    "kind", ["parquet", "csv", "tsv", "csv.gz", "folder", "several row groups"]
)
def test_every_kind_of_file_gives_the_same_log(tmp_path, kind):
    source = table()
    path = tmp_path / f"log.{kind}"
    if kind in ("parquet", "several row groups"):
        path = tmp_path / "log.parquet"
        pq.write_table(source, path, row_group_size=None if kind == "parquet" else 77)
    elif kind == "folder":
        path.mkdir()
        for k in range(4):
            pq.write_table(source.slice(k * 250, 250), path / f"part-{k}.parquet")
    else:
        options = pa.csv.WriteOptions(delimiter="\t" if kind == "tsv" else ",")
        pa.csv.write_csv(source, path, options)
        if kind == "csv.gz":
            path.write_bytes(gzip.compress(path.read_bytes()))
    check(map_log(path, COLUMNS, tmp_path / "cache"), source)


def test_chunks_do_not_show_in_the_result(tmp_path, monkeypatch):
    source = table()
    pq.write_table(source, tmp_path / "log.parquet")
    pa.csv.write_csv(source, tmp_path / "log.csv")
    monkeypatch.setattr(files, "CHUNK_ROWS", 64)
    monkeypatch.setattr(files, "_BLOCK", 4_096)
    for name in ("log.parquet", "log.csv"):
        check(map_log(tmp_path / name, COLUMNS, tmp_path / "cache"), source)


def test_days_and_rows_are_read_apart(tmp_path):
    source = table().take(np.random.default_rng(1).permutation(1_000))  # days lie mixed
    pq.write_table(source, tmp_path / "log.parquet")
    mapped = map_log(tmp_path / "log.parquet", COLUMNS, tmp_path / "cache")
    whole = mapped.read(slice(None))
    for first, last in ((0, 0), (1, 3)):
        part = mapped.read_days(first, last)
        assert len(part) == mapped.day_counts[first : last + 1].sum()
        assert torch.equal(part.ids["item"], whole.days(first, last).ids["item"])


def test_a_folder_without_a_day_column_has_a_day_a_file(tmp_path):
    (tmp_path / ".ipynb_checkpoints").mkdir()
    names = "b.parquet", "a.parquet", ".hidden.parquet", ".ipynb_checkpoints/a-checkpoint.parquet"
    for k, name in enumerate(names):
        pq.write_table(table(10 + k).drop(["day"]), tmp_path / name)
    columns = Columns(("user", "item"), ("click",))
    mapped = map_log(tmp_path, columns, tmp_path / "cache")
    assert mapped.days == ["a.parquet", "b.parquet"] and mapped.day_counts.tolist() == [11, 10]


def test_a_subfolder_of_several_files_is_one_day(tmp_path):
    for day in range(3):
        (tmp_path / "log" / f"dt=2024-03-0{day + 1}").mkdir(parents=True)
        for part in range(2):
            rows = pa.table({"user": [f"u{day}"] * (day + 1), "click": [part] * (day + 1)})
            pq.write_table(rows, tmp_path / "log" / f"dt=2024-03-0{day + 1}" / f"{part}.parquet")
    mapped = map_log(tmp_path / "log", Columns(("user",), ("click",)), tmp_path)
    assert mapped.days == ["dt=2024-03-01", "dt=2024-03-02", "dt=2024-03-03"]
    assert mapped.day_counts.tolist() == [2, 4, 6]
    (tmp_path / "log" / "dt=2024-03-01").rename(tmp_path / "log" / "dt=2024-02-29")
    mapped = map_log(tmp_path / "log", Columns(("user",), ("click",)), tmp_path)
    assert mapped.days[0] == "dt=2024-02-29", "the same files in other folders are read again"


def test_a_file_that_grows_while_it_is_read_is_refused(tmp_path):
    pq.write_table(table(), tmp_path / "log.parquet")

    def grow(line):
        if line.startswith("read "):
            with (tmp_path / "log.parquet").open("ab") as file:
                file.write(b"more")

    with pytest.raises(DataError, match="changed while it was read; give a copy"):
        map_log(tmp_path / "log.parquet", COLUMNS, tmp_path / "cache", say=grow)
    assert list((tmp_path / "cache").iterdir()) == []


def test_the_tenth_day_comes_after_the_ninth(tmp_path):
    folder = tmp_path / "days"
    folder.mkdir()
    for day in range(1, 13):
        pa.csv.write_csv(pa.table({"user": [f"u{day}"], "click": [0]}), folder / f"day{day}.csv")
    assert map_log(folder, Columns(("user",), ("click",)), tmp_path).days == [
        f"day{day}.csv" for day in range(1, 13)
    ]


def test_hashes_in_hexadecimal_digits_are_ids(tmp_path):
    path = tmp_path / "LOG.CSV.GZ"  # in capitals, as some systems write it
    ids = ["05e12345", "1e5", "68fd1e64", "00000000"]
    path.write_bytes(
        gzip.compress(
            (
                "user,click,day\n" + "".join(f"{one},0,{k + 1}\n" for k, one in enumerate(ids))
            ).encode()
        )
    )
    assert map_log(path, Columns(("user",), ("click",), "day"), tmp_path).n == 4


def test_a_file_is_mapped_once_and_again_when_it_changes(tmp_path):
    path, lines = tmp_path / "log.parquet", []
    pq.write_table(table(seed=0), path)
    first = map_log(path, COLUMNS, tmp_path / "cache", say=lines.append)
    assert len(lines) == 2
    again = map_log(path, COLUMNS, tmp_path / "cache", say=lines.append)
    assert len(lines) == 3 and again.folder == first.folder  # its size, but nothing was read
    pq.write_table(table(seed=1), path)
    changed = map_log(path, COLUMNS, tmp_path / "cache", say=lines.append)
    assert len(lines) == 5 and changed.folder != first.folder


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_sample_is_of_users_with_all_their_rows(tmp_path, suffix):
    log = table(3_000)
    path = tmp_path / f"log.{suffix}"
    (pa.csv.write_csv if suffix == "csv" else pq.write_table)(log, path)
    part = map_log(path, COLUMNS, tmp_path / "cache", share=0.3)
    users = log[COLUMNS.ids[0]].to_pandas().astype(str)
    read = part.read(slice(None))
    sizes = np.bincount(read.ids[COLUMNS.ids[0]])
    assert 0.1 * len(log) < part.n < 0.5 * len(log)
    assert set(sizes) <= set(users.value_counts()) and len(sizes) < users.nunique()
    assert part.n == sizes.sum()
    with pytest.raises(DataError, match="name the column with most"):
        map_log(path, COLUMNS, tmp_path / "cache", share=1e-9)


def test_hive_folders_are_days(tmp_path):
    log = table(400)
    for k in range(4):
        folder = tmp_path / "log" / "year=2024" / "month=3" / f"day={k + 9}"
        folder.mkdir(parents=True)
        part = log.slice(100 * k, 100).drop_columns(["day"])
        pq.write_table(part, folder / "part.parquet")
    for day in ("day", None):
        mapped = map_log(tmp_path / "log", replace(COLUMNS, day=day), tmp_path / "cache")
        assert mapped.days == [f"year=2024/month=3/day={k}" for k in (9, 10, 11, 12)]
        assert mapped.day_counts.tolist() == [100] * 4
    for place in ("country=de", "fr"):
        shutil.copytree(tmp_path / "log", tmp_path / "abroad" / place)
    shutil.rmtree(next((tmp_path / "abroad" / "country=de").glob("*/*/day=10")))
    mapped = map_log(tmp_path / "abroad", replace(COLUMNS, day=None), tmp_path / "cache")
    assert mapped.days == [f"year=2024/month=3/day={k}" for k in (9, 10, 11, 12)]
    assert mapped.day_counts.tolist() == [200, 100, 200, 200]
    of_none = tmp_path / "log" / "year=2024" / "month=3" / "day=__HIVE_DEFAULT_PARTITION__"
    folder.rename(of_none)
    with pytest.raises(DataError, match=r"part\.parquet: its rows have no day; leave out"):
        map_log(tmp_path / "log", COLUMNS, tmp_path / "cache")


def test_ids_that_look_like_one_are_counted(tmp_path):
    names = ["ann", "Ann", " ann", "bob", "Zo\u00eb", "Zoe\u0308", "C3", None, "zed"]
    path = tmp_path / "log.parquet"
    columns = {"user": names, "item": list(range(9)), "click": [0, 1, 0] * 3, "day": [1, 2, 3] * 3}
    pq.write_table(pa.table(columns), path, row_group_size=4)
    mapped = map_log(path, Columns(("user", "item"), ("click",), "day"), tmp_path / "cache")
    assert mapped.alike == {"user": 3, "item": 0}  # of ann, three; of Zoe, two


@pytest.mark.parametrize("when", ["mapping", "renaming"])
def test_a_full_disk_gives_one_sentence_and_leaves_nothing(tmp_path, monkeypatch, when):
    path, cache = tmp_path / "log.parquet", tmp_path / "cache"
    pq.write_table(table(), path)

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    if when == "mapping":
        monkeypatch.setattr(tabular, "_write_days", full)
    else:
        monkeypatch.setattr("os.replace", full)
    with pytest.raises(DataError, match="the disk is full; free some space, or set MULTIEPOCH"):
        map_log(path, COLUMNS, cache)
    assert list(cache.iterdir()) == []


def test_two_writers_of_one_file_do_not_disturb_each_other(tmp_path):
    """As two containers with a common volume, whose processes have the same id."""
    with atomic_write(tmp_path / "a") as one, atomic_write(tmp_path / "a") as other:
        one.write_text("1")
        other.write_text("2")
    assert (tmp_path / "a").read_text() == "1"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has /dev/full")
def test_a_disk_that_is_full_at_the_days_says_so(tmp_path):
    (tmp_path / "day").symlink_to("/dev/full")
    with pytest.raises(OSError) as error:
        tabular._write_days(np.arange(9_000) % 3 * 24, "day number", [], COLUMNS, tmp_path)
    assert error.value.errno == errno.ENOSPC


def test_the_packaged_log_is_read_as_its_own_source_reads_it(tmp_path):
    columns = Columns(("user_id", "tag"), ("is_click",), "date")
    log = map_log(PACKAGED, columns, tmp_path).read(slice(None))
    own = load_kuairand(objectives=("click",), cross=False)
    assert torch.equal(log.ids["user_id"], own.ids["user"])
    assert torch.equal(log.ids["tag"], own.ids["tag"])
    assert torch.equal(log.labels, own.labels) and torch.equal(log.day, own.day)


DAYS = {
    "YYYYMMDD": ["20240229", "20240301"],
    "dates": ["2024-02-29", "2024-03-01"],
    "times": ["2024-02-29 23:59:59", "2024-03-01T00:00:00"],
    "seconds": ["1709251199", "1709251200"],
    "milliseconds": ["1709251199999", "1709251200000"],
    "hours": ["2024022923", "2024030100"],
    "minutes": ["202402292359", "202403010000"],
    "seconds of a date": ["20240229235959", "20240301000000"],
}


@pytest.mark.parametrize("days", DAYS.values(), ids=DAYS)
@pytest.mark.parametrize("kind", ["csv", "integers"])
def test_days_are_read_however_they_are_written(tmp_path, days, kind):
    if kind == "integers" and not days[0].isdigit():
        pytest.skip("not a number")
    rows = {"user": ["a", "b"], "click": [0, 1], "day": days}
    path = tmp_path / "log.csv"
    if kind == "csv":
        pa.csv.write_csv(pa.table(rows), path)
    else:
        path = tmp_path / "log.parquet"
        pq.write_table(pa.table(rows | {"day": [int(day) for day in days]}), path)
    mapped = map_log(path, Columns(("user",), ("click",), "day"), tmp_path)
    assert mapped.days == ["2024-02-29", "2024-03-01"]


def days_of(tmp_path, values, kind="parquet", **options):
    """The days of a log with those times."""
    rows = {"user": [1] * len(values), "click": [0] * len(values)}
    path, source = tmp_path / f"{len(list(tmp_path.iterdir()))}.{kind}", pa.table(rows)
    source = source.append_column("day", values if isinstance(values, pa.Array) else [values])
    pq.write_table(source, path) if kind == "parquet" else pa.csv.write_csv(source, path)
    mapped = map_log(path, Columns(("user",), ("click",), "day", **options), tmp_path / "cache")
    return mapped.days


def test_csv_and_parquet_give_the_same_days_in_every_time_zone(tmp_path):
    times = [f"2024-03-0{day}T{hour}:30:00" for day in (1, 2, 3, 4) for hour in ("01", "22")]
    naive = pa.array(times).cast(pa.timestamp("ms"))
    aware = pa.compute.assume_timezone(naive, "Asia/Kolkata")  # 5 h 30 min before UTC
    texts = pa.array([f"{time}+05:30" for time in times])
    utc = ["2024-02-29", "2024-03-01", "2024-03-02", "2024-03-03", "2024-03-04"]
    unix = aware.cast(pa.int64())
    for values in (aware, texts, unix):
        for kind in ("parquet", "csv"):
            assert days_of(tmp_path, values, kind) == utc, (values.type, kind)
            assert days_of(tmp_path, values, kind, tz="Asia/Kolkata") == utc[1:]
    for kind in ("parquet", "csv"):  # without a zone, as they are written
        assert days_of(tmp_path, naive, kind, tz="Asia/Kolkata") == utc[1:]


def test_weeks_and_months_are_days(tmp_path):
    weeks = ["2024-W52", "2025-W01", "2025-W02"]
    assert days_of(tmp_path, pa.array(weeks)) == weeks
    assert days_of(tmp_path, pa.array(["2024-11", "2024-12", "2025-01"])) == [
        "2024-11",
        "2024-12",
        "2025-01",
    ]


def test_one_day_with_times_is_split_by_the_hour(tmp_path):
    times = pa.array([f"2024-03-01 {hour:02d}:10:00" for hour in (9, 7, 8, 9)])
    expected = ["2024-03-01 07 h", "2024-03-01 08 h", "2024-03-01 09 h"]
    assert days_of(tmp_path, times) == expected
    assert days_of(tmp_path, times.cast(pa.timestamp("s"))) == expected


def test_typed_dates_and_day_numbers_are_days_too(tmp_path):
    times = pa.array(["2024-02-29T23:00:00", "2024-03-02T01:00:00"]).cast(pa.timestamp("us"))
    for name, column, expected in (
        ("time", times, ["2024-02-29", "2024-03-02"]),
        ("date", times.cast(pa.date32(), safe=False), ["2024-02-29", "2024-03-02"]),
        ("number", pa.array([7, 9]), ["7", "9"]),
    ):
        path = tmp_path / f"{name}.parquet"
        pq.write_table(pa.table({"user": [1, 2], "click": [0, 1], "day": column}), path)
        mapped = map_log(path, Columns(("user",), ("click",), "day"), tmp_path)
        assert mapped.days == expected and mapped.day.tolist() == [0, 1]


def test_whole_numbers_beyond_those_of_a_float_are_dense_features():
    column = pa.array([2**63 - 1, -(2**53) - 1, 0])
    found = parse.dense(column, parse.Place("log", "price", 0))
    assert found.tolist() == [float(2**63), float(-(2**53)), 0.0]


# Rows of ids --------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.integers(0, 2**64 - 1), unique=True, max_size=50), max_size=12))
def test_a_row_map_is_a_dictionary(chunks):
    rows, places = RowMap(), {}
    for chunk in chunks:
        expected = [places.setdefault(key, len(places)) for key in chunk]
        assert rows.rows(np.array(chunk, np.uint64)).tolist() == expected
    assert rows.n == len(places)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.one_of(st.none(), st.text(max_size=40)), unique=True))
def test_different_strings_have_different_keys_at_any_offset(texts):
    array = pa.array(texts, pa.string())
    keys = keys_of(array)
    assert len(set(keys.tolist())) == len(texts)
    assert keys_of(array[len(texts) // 2 :]).tolist() == keys[len(texts) // 2 :].tolist()
    assert keys_of(pa.array(texts[::-1], pa.string())).tolist() == keys[::-1].tolist()


def test_integers_of_any_size_are_their_own_key():
    signed = keys_of(pa.array([-(2**63), -1, 0, 2**63 - 1]))
    assert len(set(signed.tolist())) == 4
    assert keys_of(pa.array([2**64 - 1], pa.uint64())).tolist() == [2**64 - 1]


def test_what_was_mapped_is_plain_to_read(tmp_path):
    pq.write_table(table(), tmp_path / "log.parquet")
    mapped = map_log(tmp_path / "log.parquet", COLUMNS, tmp_path / "cache")
    about = json.loads((mapped.folder / "about.json").read_text())
    assert about["n"] == 1_000 and about["cardinality"] == list(mapped.cardinality.values())
    assert np.fromfile(mapped.folder / "id-0", np.int32).max() == about["cardinality"][0] - 1

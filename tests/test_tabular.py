"""Logs as users write them: every kind of file gives the same log, or one sentence."""

import gzip
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import torch

from multiepoch_compare.readers import Columns, files, parse, read_log
from multiepoch_lab.data import DataError, load_kuairand
from multiepoch_lab.data.hashing import hashed_cross
from multiepoch_lab.data.kuairand import PACKAGED
from multiepoch_lab.files import atomic_write

COLUMNS = Columns(("user", "item"), ("click", "buy"), "day", ("price",), (("user", "item"),))
FEW = Columns(("user",), ("click",), "day")


def table(n=1_000, seed=0):
    rng = np.random.default_rng(seed)
    columns = {"user": [f"u{k}" for k in rng.integers(0, 200, n)]}
    columns["item"] = rng.integers(-(2**62), 2**62, 50)[rng.integers(0, 50, n)]
    columns["click"] = rng.integers(0, 2, n).astype(np.int8)
    columns["buy"] = rng.integers(0, 2, n).astype(bool)
    columns["price"] = rng.normal(size=n).astype(np.float32)
    columns["day"] = [f"2024-02-{26 + k * 4 // n} 12:00:00" for k in range(n)]
    return pa.table(columns)


def numbered(values):
    """What a dictionary would do: each value's place in the order of first appearance."""
    places = {}
    return [places.setdefault(value, len(places)) for value in values]


def read(path, columns=COLUMNS, **options):
    return read_log(files.find(path), columns, **options)


def check(whole, source):
    log = whole.read()
    assert log.ids["user"].tolist() == numbered(source["user"].to_pylist())
    assert log.ids["item"].tolist() == numbered(source["item"].to_pylist())
    assert log.labels[:, 0].tolist() == source["click"].to_pylist()
    assert log.labels[:, 1].tolist() == source["buy"].to_pylist()
    assert log.dense[:, 0].tolist() == pytest.approx(source["price"].to_pylist(), abs=1e-6)
    assert log.day.tolist() == numbered(text[:10] for text in source["day"].to_pylist())
    assert whole.days == ["2024-02-26", "2024-02-27", "2024-02-28", "2024-02-29"]
    pair = hashed_cross(log.ids["user"].numpy(), log.ids["item"].numpy(), whole.cross_rows)
    assert log.ids["user_x_item"].tolist() == pair.tolist()
    for name, size in log.schema.cardinality.items():
        assert log.ids[name].min() >= 0 and log.ids[name].max() < size


@pytest.mark.parametrize(
    "kind", ["parquet", "csv", "tsv", "csv.gz", "folder", "folders", "several row groups"]
)
def test_every_kind_of_file_gives_the_same_log(tmp_path, kind, monkeypatch):
    monkeypatch.setattr(files, "_BATCH", 64)
    monkeypatch.setattr(files, "_BLOCK", 4_096)
    source, path = table(), tmp_path / f"log.{kind}"
    if kind in ("parquet", "several row groups"):
        path = tmp_path / "log.parquet"
        pq.write_table(source, path, row_group_size=None if kind == "parquet" else 77)
    elif kind.startswith("folder"):
        for k in range(4):
            part = path / (f"{k}" if kind == "folders" else "") / f"part-{k}.parquet"
            part.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(source.slice(k * 250, 250), part)
        (path / ".ipynb_checkpoints").mkdir()
        pq.write_table(source, path / ".ipynb_checkpoints" / "part.parquet")
    else:
        pa.csv.write_csv(source, path, pa.csv.WriteOptions(delimiter=",\t"[kind == "tsv"]))
        if kind == "csv.gz":
            path.write_bytes(gzip.compress(path.read_bytes()))
    check(read(path), source)


def test_days_and_rows_are_read_apart(tmp_path):
    source = table().take(np.random.default_rng(1).permutation(1_000))  # days lie mixed
    pq.write_table(source, tmp_path / "log.parquet")
    log = read(tmp_path / "log.parquet")
    for first, last in ((0, 0), (1, 3)):
        part = log.read_days(first, last)
        assert len(part) == log.day_counts[first : last + 1].sum()
        assert torch.equal(part.ids["item"], log.read().days(first, last).ids["item"])


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_sample_is_of_users_with_all_their_rows(tmp_path, suffix):
    log, path = table(3_000), tmp_path / f"log.{suffix}"
    (pa.csv.write_csv if suffix == "csv" else pq.write_table)(log, path)
    part = read(path, share=0.3)
    users = log["user"].to_pandas()
    sizes = np.bincount(part.read().ids["user"])
    assert 0.1 * len(log) < part.n < 0.5 * len(log) and part.n == sizes.sum()
    assert set(sizes) <= set(users.value_counts()) and len(sizes) < users.nunique()
    with pytest.raises(DataError, match="name the column with most"):
        read(path, share=1e-9)


def test_two_writers_of_one_file_do_not_disturb_each_other(tmp_path):
    """As two containers with a common volume, whose processes have the same id."""
    with atomic_write(tmp_path / "a") as one, atomic_write(tmp_path / "a") as other:
        one.write_text("1")
        other.write_text("2")
    assert (tmp_path / "a").read_text() == "1"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_the_packaged_log_is_read_as_its_own_source_reads_it():
    log = read(PACKAGED, Columns(("user_id", "tag"), ("is_click",), "date")).read()
    own = load_kuairand(objectives=("click",), cross=False)
    assert torch.equal(log.ids["user_id"], own.ids["user"])
    assert torch.equal(log.ids["tag"], own.ids["tag"])
    assert torch.equal(log.labels, own.labels) and torch.equal(log.day, own.day)


DAYS = {
    "YYYYMMDD": ["20240229", "20240301"],
    "dates": ["2024-02-29", "2024-03-01"],
    "slashes": ["2024/02/29", "2024/3/1"],
    "words": ["29 Feb 2024", "1 Mar 2024"],
    "American words": ["Feb 29, 2024", "March 1, 2024"],
    "times": ["2024-02-29 23:59:59", "2024-03-01T00:00:00"],
    "zones": ["2024-03-01 05:29:59+05:30", "2024-03-01T05:30:00+05:30"],
    "seconds": ["1709251199", "1709251200"],
    "float seconds": ["1709251199.75", "1709251200.25"],
    "milliseconds": ["1709251199999", "1709251200000"],
    "hours": ["2024022923", "2024030100"],
    "minutes": ["202402292359", "202403010000"],
    "seconds of a date": ["20240229235959", "20240301000000"],
}


@pytest.mark.parametrize("days", DAYS.values(), ids=DAYS)
@pytest.mark.parametrize("kind", ["csv", "numbers"])
def test_days_are_read_however_they_are_written(tmp_path, days, kind):
    rows = {"user": ["a", "b"], "click": [0, 1], "day": days}
    path = tmp_path / "log.csv"
    if kind == "csv":
        pa.csv.write_csv(pa.table(rows), path)
    elif days[0].replace(".", "").isdigit():
        path = tmp_path / "log.parquet"
        number = float if "." in days[0] else int
        pq.write_table(pa.table(rows | {"day": [number(day) for day in days]}), path)
    else:
        pytest.skip("not a number")
    assert read(path, FEW).days == ["2024-02-29", "2024-03-01"]


def of_days(tmp_path, column):
    rows = pa.table({"user": [1] * len(column), "click": [0] * len(column), "day": column})
    pq.write_table(rows, tmp_path / "days.parquet")
    return read(tmp_path / "days.parquet", FEW).days


def test_typed_dates_day_numbers_and_months_are_days_too(tmp_path):
    times = pa.array(["2024-02-29T23:00:00", "2024-03-02T01:00:00"]).cast(pa.timestamp("us"))
    dates = ["2024-02-29", "2024-03-02"]
    assert of_days(tmp_path, times) == of_days(tmp_path, times.cast(pa.date32(), safe=False))
    assert of_days(tmp_path, times) == dates
    aware = pa.compute.assume_timezone(times, "Asia/Kolkata")  # 5 h 30 min before UTC
    assert of_days(tmp_path, aware) == ["2024-02-29", "2024-03-01"]
    assert of_days(tmp_path, pa.array([7, 9])) == ["7", "9"]
    assert of_days(tmp_path, pa.array(["2024-11", "2025-01"])) == ["2024-11-01", "2025-01-01"]
    hours = pa.array([f"2024-03-01 {hour:02d}:10:00" for hour in (9, 7, 8, 9)])
    assert of_days(tmp_path, hours) == [f"2024-03-01 0{k} h" for k in (7, 8, 9)]


def test_ids_beside_gaps_are_whole_numbers_again_and_missing_ones_share_a_row(tmp_path):
    rows = {"user": [1.0, None, 3.0, None], "click": [0, 1, 0, 1], "day": [1, 2, 3, 4]}
    pq.write_table(pa.table(rows), tmp_path / "gaps.parquet")
    log = read(tmp_path / "gaps.parquet", FEW)
    assert log.read().ids["user"].tolist() == [0, 1, 2, 1] and log.missing == {"user": 2}
    rows = "user,click,day\n" + "".join(
        f"{one},0,{k + 1}\n" for k, one in enumerate(["05e12345", "1e5", "68fd1e64", "00000000"])
    )
    (tmp_path / "hashes.csv").write_text(rows)
    assert read(tmp_path / "hashes.csv", FEW).read().ids["user"].tolist() == [0, 1, 2, 3]


HEAD = "user,click,day\n"
ROWS = "".join(f"u{k},{k % 2},2024-03-0{1 + k % 4}\n" for k in range(40))


@pytest.mark.parametrize(
    "content, said",
    [
        (HEAD + ROWS.replace("u3,", '"u3,') + 'u,0,"x\n', "quote"),
        (HEAD + ROWS + "u9,1\n", r"row 41"),
        (HEAD + ROWS.replace("2024-03-02", ""), "no value"),
        (HEAD + ROWS.replace("u5,1", "u5,2"), "'2'"),
        ("user,click\n" + "a,1\n", "column .day. is missing"),
        (HEAD, "no rows"),
        ("", "empty"),
    ],
    ids=["quotes", "short row", "null day", "label", "no column", "header alone", "empty"],
)
def test_what_is_wrong_is_said_in_one_sentence(tmp_path, content, said):
    (tmp_path / "log.csv").write_text(content)
    with pytest.raises(DataError, match=said) as error:
        read(tmp_path / "log.csv", FEW)
    assert "log.csv" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "content",
    [
        (HEAD + ROWS).replace("\n", "\r\n"),
        "\ufeff" + HEAD + ROWS,
        (HEAD + ROWS).replace("\n", ",\n"),
        "\n".join(f"{k},{line}" for k, line in enumerate(ROWS.splitlines())),
    ],
    ids=["carriage returns", "byte order mark", "trailing commas", "index column"],
)
def test_what_programs_write_is_taken(tmp_path, content):
    if content.startswith("0,"):
        content = "," + HEAD + content
    (tmp_path / "log.csv").write_text(content, encoding="utf-8", newline="")
    log = read(tmp_path / "log.csv", FEW)
    assert (log.n, len(log.days)) == (40, 4) and log.read().ids["user"].max() == 39


def test_a_header_of_any_length_or_encoding_is_read(tmp_path):
    names = ["user", "click", "day", *(f"feature_{k}" for k in range(30_000))]
    rows = [",".join(line.split(",") + ["0"] * 30_000) for line in ROWS.splitlines()[:8]]
    (tmp_path / "wide.csv").write_text("\n".join([",".join(names), *rows]))
    assert read(tmp_path / "wide.csv", FEW).n == 8
    header = HEAD.replace("user", "größe").encode("cp1252")
    (tmp_path / "old.csv").write_bytes(header + ROWS.encode())
    old = Columns(("größe",), ("click",), "day")
    try:
        assert read(tmp_path / "old.csv", old).n == 40
    except DataError as error:
        assert "UTF-8" in str(error)


def test_what_a_folder_leaves_out_is_said(tmp_path):
    log, other = tmp_path / "log", tmp_path / "other"
    for k, folder in enumerate((log, other)):
        folder.mkdir()
        pq.write_table(table(), folder / f"{k}.parquet")
    (log / "notes.md").write_text("a log")
    (log / "linked").symlink_to(other)
    (other / "back").symlink_to(log)
    assert read(log).n == 2_000, "a linked folder is read, once"
    assert "notes.md" in " ".join(files.left_out(log))


def test_whole_numbers_beyond_those_of_a_float_are_dense_features():
    numbers = pa.chunked_array([pa.array([2**63 - 1, -(2**53) - 1, 0])])
    found = parse.dense(parse.Column.of("log", "price", numbers))
    assert found.tolist() == [float(2**63), float(-(2**53)), 0.0]


def test_files_of_other_types_are_refused(tmp_path):
    for k, user in enumerate((["a"], [1])):
        rows = pa.table({"user": user, "click": [1], "day": [k]})
        pq.write_table(rows, tmp_path / f"{k}.parquet")
    with pytest.raises(DataError, match=r"of type .* here or before"):
        read(Path(tmp_path), FEW)

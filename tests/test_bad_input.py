"""Bad input to `compare` and `inspect`: one clear sentence each, exit code 2, nothing left behind.

Every case starts from one good log and spoils one thing.
"""

import errno
import gzip
import json
import os
import pickle
import re
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import multiepoch
from multiepoch_compare import command as compare
from multiepoch_compare import output, run
from multiepoch_compare.__main__ import main
from multiepoch_compare.readers import Columns, parse, read_log

HEADER = "user,item,click,buy,price,day"
GOOD = (
    "\n".join(
        [
            HEADER,
            *(
                f"u{k % 5},i{k % 3},{k % 2},{int(k % 3 == 0)},{k / 7:.3f},2024-03-0{1 + k // 12}"
                for k in range(48)
            ),
        ]
    )
    + "\n"
)
CALL = ["--ids", "user,item", "--labels", "click,buy", "--day", "day", "--dense", "price"]
NAN = float("nan")


def spoiled(row, column, value, name="log.csv"):
    """The good log with another value in one row (from 1) and column."""
    lines = GOOD.splitlines()
    fields = lines[row].split(",")
    fields[HEADER.split(",").index(column)] = value
    lines[row] = ",".join(fields)
    return {name: "\n".join(lines) + "\n"}


def parquet(name="log.parquet", **columns):
    """The good log as Parquet with other columns."""
    lines = [line.split(",") for line in GOOD.splitlines()[1:]]
    good = dict(zip(HEADER.split(","), map(list, zip(*lines))))
    good |= {c: [int(v) for v in good[c]] for c in ("click", "buy")}
    good["price"] = [float(v) for v in good["price"]]
    return {name: pa.table({k: v for k, v in (good | columns).items() if v is not None})}


def with_labels(column, day, value):
    """The good log with one value of a label on the whole of one day."""
    lines = GOOD.splitlines()
    at = HEADER.split(",").index(column)
    for k, line in enumerate(lines):
        fields = line.split(",")
        if fields[-1] == day:
            fields[at] = value
            lines[k] = ",".join(fields)
    return {"log.csv": "\n".join(lines) + "\n"}


def days(n):
    """The good log with so many days."""
    lines = [HEADER, *(line[:-1] + str(1 + k % n) for k, line in enumerate(GOOD.splitlines()[1:]))]
    return {"log.csv": "\n".join(lines) + "\n"}


floats = [1.0] * 47 + [NAN]
ZIPPED = gzip.compress(GOOD.encode() * 3)

# name: (files, arguments after the file, words of the message)
BAD = {
    "no such file": ({}, CALL, "log.csv: no such file or folder"),
    "unknown ending": (
        {"log.xlsx": "a"},
        CALL,
        "log.xlsx: unknown file type; its name must end in",
    ),
    "empty file": ({"log.csv": ""}, CALL, "log.csv: empty; it must hold a header"),
    "header alone": ({"log.csv": HEADER + "\n"}, CALL, "no rows; it must hold at least one"),
    "empty folder": ({"days/readme.md": "x"}, CALL, "no file in this folder ends in .csv"),
    "no such id column": (
        {"log.csv": GOOD.replace("item", "product", 1)},
        CALL,
        "column 'item' is missing; the columns are user, product, click",
    ),
    "no such label": ({"log.csv": GOOD.replace("buy", "sale", 1)}, CALL, "column 'buy' is missing"),
    "no such day column": ({"log.csv": GOOD}, [*CALL[:5], "date"], "column 'date' is missing"),
    "no such column in Parquet": (parquet(item=None), CALL, "column 'item' is missing"),
    "duplicate header": (
        {"log.csv": GOOD.replace("item", "user", 1)},
        CALL,
        "column 'user' appears twice; give each its own name",
    ),
    "a column without a name": (
        {"log.csv": GOOD.replace("item", "", 1)},
        CALL,
        "column 'item' is missing; the columns are user, click",
    ),
    "no header": (
        {"log.csv": GOOD.partition("\n")[2]},
        CALL,
        "column 'user' is missing; the first line looks like data (u0, i0, 0, 1, 0.000, 2024",
    ),
    "label 2": (spoiled(7, "click", "2"), CALL, "column 'click', row 7: '2'; a label must be 0"),
    "labels in lists": (
        parquet(click=[[1]] * 48),
        CALL,
        "column 'click', row 1: a value of type list<",
    ),
    "an empty first line": ({"log.csv": "\n" + GOOD}, CALL, "its first line is empty; it must"),
    "label in words": (spoiled(3, "buy", "maybe"), CALL, "column 'buy', row 3: 'maybe'"),
    "label missing": (spoiled(9, "click", ""), CALL, "column 'click', row 9: no value"),
    "label NaN": (parquet(click=floats), CALL, "column 'click', row 48: no value; a label must be"),
    "label is a rate": (parquet(click=[0.5] * 48), CALL, "column 'click', row 1: 0.5"),
    "no such day": (
        spoiled(20, "day", "2024-02-30"),
        CALL,
        "column 'day', row 20: '2024-02-30'; a day must be written as",
    ),
    "unparsable day": (spoiled(1, "day", "Friday"), CALL, "column 'day', row 1: 'Friday'"),
    "two ways to write a day": (
        spoiled(5, "day", "20240301"),
        CALL,
        "row 5: '20240301'; the rows before it are read as YYYY-MM-DD; write all alike",
    ),
    "day missing": (spoiled(48, "day", ""), CALL, "column 'day', row 48: no value"),
    "day is a float": (
        parquet(day=[1.5] * 48),
        CALL,
        "row 1: 1.5; a day must be written",
    ),
    "a single day": (days(1), CALL, "column 'day' has a single day, 2024-03-01; at least 3"),
    "two days": (days(2), CALL, "has 2 days, 2024-03-01 and 2024-03-02; at least 3 are needed"),
    "no positives in the test day": (
        with_labels("buy", "2024-03-04", "0"),
        CALL,
        "column 'buy' has no 1 in any of the 12 rows of 2024-03-04 (test)",
    ),
    "no positives in the validation day": (
        with_labels("click", "2024-03-03", "0"),
        CALL,
        "column 'click' has no 1 in any of the 12 rows of 2024-03-03 (validation)",
    ),
    "no negatives in the test day": (
        with_labels("click", "2024-03-04", "1"),
        CALL,
        "column 'click' has no 0",
    ),
    "ids with an exponent": (
        spoiled(2, "item", "1.5e+17"),
        CALL,
        "column 'item', row 2: '1.5e+17'; an id must be",
    ),
    "ids in lists of floats": (
        parquet(user=[[1.5]] * 48),
        CALL,
        "column 'user', row 1: a value of type list<element: double>; there must be one",
    ),
    "ids in lists of lists": (parquet(item=[[["i"]]] * 48), CALL, "row 1: a value of type list"),
    "ids in structs": (parquet(item=[{"a": 1}] * 48), CALL, "row 1: a value of type struct<"),
    "lists in one file alone": (
        parquet("days/a.parquet") | parquet("days/b.parquet", item=[["i"]] * 48),
        CALL,
        "b.parquet: column 'item', row 1: a value of type list<element: string>; there must be",
    ),
    "dense in words": (
        spoiled(13, "price", "cheap"),
        CALL,
        "column 'price', row 13: 'cheap'; a dense feature must be a number",
    ),
    "dense missing": (spoiled(4, "price", ""), CALL, "column 'price', row 4: no value"),
    "dense NaN": (
        spoiled(6, "price", "nan"),
        CALL,
        "column 'price', row 6: 'nan'; a dense",
    ),
    "dense infinite": (
        parquet(price=[1.0] * 47 + [float("inf")]),
        CALL,
        "column 'price', row 48: inf",
    ),
    "dense strings in Parquet": (
        parquet(price=["a"] * 48),
        CALL,
        "column 'price', row 1: 'a'; a dense feature",
    ),
    "too few fields": (
        {"log.csv": GOOD + "u1,i1,0\n"},
        CALL,
        "row 49 has 3 fields, but there are 6 columns",
    ),
    "too many fields": (
        {"log.csv": GOOD + "u1,i1,0,0,1,2024-03-04,9\n"},
        CALL,
        "row 49 has 7 fields",
    ),
    "not UTF-8": (
        {"log.csv": GOOD.encode() + b"\xff\xfe,i1,0,0,1,2024-03-04\n"},
        CALL,
        "column 'user', row 49: not UTF-8; write the file again in UTF-8",
    ),
    "truncated gzip": (
        {"log.csv.gz": ZIPPED[:-30]},
        CALL,
        "not a complete gzip file",
    ),
    "not gzip": (
        {"log.csv.gz": GOOD},
        CALL,
        "not a complete gzip file (Not a gzipped file",
    ),
    "zstd": ({"log.csv": b"\x28\xb5\x2f\xfdabc"}, CALL, "is no UTF-8 text; unpack the file"),
    "UTF-16": (
        {"log.csv": GOOD.encode("utf-16")},
        CALL,
        "is no UTF-8 text",
    ),
    "UTF-16 without a mark": (
        {"log.csv": GOOD.encode("utf-16-le")},
        CALL,
        "is no UTF-8 text",
    ),
    "lines end in carriage returns": (
        {"log.csv": GOOD.replace("\n", "\r")},
        CALL,
        "its lines end in carriage returns alone; write line feeds: tr '\\r' '\\n' < log.csv",
    ),
    "spaces in the header": (
        {"log.csv": GOOD.replace(",", ", ", 2)},
        CALL,
        "the nearest name is ' item', to be written as '\" item\"'",
    ),
    "no header but dates": (
        {"log.csv": "2024-03-01,a,b,c,d,e\n"},
        CALL,
        "the first line looks like data",
    ),
    "ids in bytes": (parquet(user=[b"a"] * 48), CALL, "a value of type binary; an id must be"),
    "ids are true or false": (parquet(user=[True] * 48), CALL, "a value of type bool; an id"),
    "ids are times": (
        parquet(user=pa.array([0] * 48).cast(pa.timestamp("s"))),
        CALL,
        "a value of type timestamp[ms]; an id",
    ),
    "ids in categories of floats": (
        parquet(user=pa.array([1.5] * 48).dictionary_encode()),
        CALL,
        "column 'user', row 1: 1.5; an id",
    ),
    "dense in lists": (
        parquet(price=[[1.0, 2.0]] * 48),
        CALL,
        "there must be one value a row: write each element into a column of its own",
    ),
    "dense is a date": (
        parquet(price=pa.array([0] * 48, pa.int32()).cast(pa.date32())),
        CALL,
        "a value of type date32[day]; a dense feature must be a number",
    ),
    "days in lists": (parquet(day=[["2024-03-01"]] * 48), CALL, "column 'day', row 1: a value"),
    "day is true or false": (parquet(day=[True] * 48), CALL, "column 'day', row 1: a value"),
    "day missing among timestamps": (
        parquet(day=pa.array([*range(47), None]).cast(pa.timestamp("s"))),
        CALL,
        "column 'day', row 48: no value",
    ),
    "a time with a zone among others": (
        spoiled(5, "day", "2024-03-01T10:00:00Z"),
        CALL,
        "row 5: '2024-03-01T10:00:00Z'; the rows before it are read as YYYY-MM-DD",
    ),
    "no such hour": (
        spoiled(1, "day", "2024-03-01 25:00:00"),
        CALL,
        "row 1: '2024-03-01 25:00:00'",
    ),
    "no such week": (spoiled(1, "day", "2024-W60"), CALL, "row 1: '2024-W60'; a day must be"),
    "no such month": (spoiled(1, "day", "2024-13"), CALL, "column 'day', row 1: '2024-13'"),
    "milliseconds among seconds": (
        parquet(day=[1709251200] * 47 + [1709251200000]),
        CALL,
        "row 48: 1709251200000; the rows before it are read as seconds",
    ),
    "label 3 among integers": (parquet(click=[0, 1] * 23 + [3, 0]), CALL, "row 47: 3; a label"),
    "label is half a decimal": (
        parquet(click=pa.array([Decimal("0.50")] * 48, pa.decimal128(4, 2))),
        CALL,
        "row 1: 0.50; a label must be 0 or 1",
    ),
    "no label at all": (parquet(click=pa.nulls(48)), CALL, "column 'click', row 1: no value"),
    "Parquet without rows": (
        {"log.parquet": parquet()["log.parquet"].slice(0, 0)},
        CALL,
        "no rows; it must hold at least one impression",
    ),
    "an empty file in a folder": (
        {"days/a.csv": GOOD, "days/b.csv": ""},
        CALL,
        "b.csv: empty; it must hold a header",
    ),
    "an open quote": ({"log.csv": GOOD + '"u1,i1,0,0,1,2024-03-04\n'}, CALL, "log.csv: "),
    "labels in bytes": (
        parquet(click=[b"\xff"] * 48),
        CALL,
        "column 'click', row 1: a value of type binary; a label must be 0 or 1",
    ),
    "a time of another unit": (
        parquet(day=pa.array([10**15] * 48, pa.timestamp("ms"))),
        CALL,
        "column 'day', row 1: <value out of range: 1000000000000000>; a day must be",
    ),
    "no such minute": (
        parquet(day=["2024-03-01T10:00Z"] * 30 + ["2024-03-02T10:61Z"] * 18),
        CALL,
        "column 'day', row 31: '2024-03-02T10:61Z'; a day must be written as",
    ),
    "no header, and a value twice": (
        {"log.csv": GOOD.partition("\n")[2].replace("i0,0,1", "i0,0,0", 1)},
        CALL,
        "column '0' appears twice; the first line looks like data (u0, i0, 0",
    ),
    "a number too large": (
        spoiled(5, "price", "1e300"),
        CALL,
        "column 'price', row 5: '1e300'; a dense feature must be a number",
    ),
    "too few steps": (
        {"log.csv": GOOD},
        [*CALL, "--batch-size", "8"],
        "24 training impressions are 3 steps of 8; at least 4 are needed: give a smaller --batch",
    ),
    "an option without a value": ({"log.csv": GOOD}, [*CALL, "--epochs", "two"], "invalid int"),
    "no day to test on": (
        {"log.csv": GOOD},
        [*CALL, "--test-days", "0"],
        "--test-days is 0; give at least 1",
    ),
    "too many days to test on": (
        {"log.csv": GOOD},
        [*CALL, "--test-days", "2"],
        "has 4 days, 2024-03-01 to 2024-03-04; at least 5 are needed",
    ),
    "a cross of one id with itself": (
        {"log.csv": GOOD},
        [*CALL, "--cross", "user,user"],
        "a cross needs two different columns of the ids",
    ),
    "empty names": ({"log.csv": GOOD}, ["--ids", ",", *CALL[2:]], "ids: no column is named"),
    "truncated Parquet": (
        {"log.parquet": b"PAR1" + b"x" * 99},
        CALL,
        "not a complete Parquet file",
    ),
    "a day in a folder differs": (
        {"days/a.csv": GOOD, "days/b.csv": GOOD.replace("item", "thing", 1)},
        CALL,
        "b.csv: column 'item' is missing",
    ),
    "ids change their type": (
        parquet("days/a.parquet") | parquet("days/b.parquet", user=list(range(48))),
        CALL,
        "b.parquet: column 'user': of type",
    ),
    "no ids": ({"log.csv": GOOD}, CALL[2:], "ids: no column is named; name at least one column"),
    "no labels": ({"log.csv": GOOD}, [*CALL[:2], *CALL[4:]], "labels: no column is named"),
    "no day": ({"log.csv": GOOD}, CALL[:4], "required: --day"),
    "a column named twice": (
        {"log.csv": GOOD},
        [*CALL[:6], "--dense", "click"],
        "column 'click' is named twice",
    ),
    "a cross of three": (
        {"log.csv": GOOD},
        [*CALL, "--cross", "user,item,day"],
        "a cross needs two different columns of the ids",
    ),
    "a cross of what is no id": (
        {"log.csv": GOOD},
        [*CALL, "--cross", "user,price"],
        "a cross needs two different columns of the ids",
    ),
    "one epoch": (
        {"log.csv": GOOD},
        [*CALL, "--epochs", "1"],
        "--epochs is 1; give at least 2, since one epoch repeats nothing",
    ),
    "no seed": (
        {"log.csv": GOOD},
        [*CALL, "--seeds", "0"],
        "--seeds is 0; give at least 2, since one gives no interval",
    ),
    "no batch": ({"log.csv": GOOD}, [*CALL, "--batch-size", "0"], "--batch-size is 0"),
    "a comment before the header": (
        {"log.csv": "# exported on Monday, by hand\n" + GOOD},
        CALL,
        "column 'user' is missing; the columns are # exported",
    ),
    "a name that is composed in another way": (
        {"log.csv": GOOD.replace("user", "us\u00e9r", 1)},
        ["--ids", "use\u0301r,item", *CALL[2:]],
        "is missing; the nearest name is",
    ),
    "an unknown method": (
        {"log.csv": GOOD},
        [*CALL, "--methods", "FAL,SAM"],
        "--methods: 'SAM' is unknown; choose from row-wise Adagrad",
    ),
    "no share": ({"log.csv": GOOD}, [*CALL, "--sample", "0"], "--sample is 0.0; give a share"),
}


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def lay_out(folder, contents):
    """Writes the files; returns the one to be read, or the folder they are in."""
    path = folder / "log.csv"
    for name, content in contents.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        if isinstance(content, pa.Table):
            pq.write_table(content, path)
        else:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path.parent if path.parent != folder else path


def one_sentence(captured, words):
    assert captured.err.startswith("multiepoch compare: ")
    pattern = re.escape(words).replace(r"\.\*", ".*")
    assert re.search(pattern, captured.err), captured.err
    assert captured.err.count("\n") == 1 and captured.err.rstrip().endswith(".")
    assert "Traceback" not in captured.err


@pytest.mark.parametrize("contents, arguments, words", BAD.values(), ids=BAD)
def test_bad_input_gets_one_sentence_and_leaves_nothing(place, capsys, contents, arguments, words):
    path = lay_out(place, contents)
    before = sorted(place.rglob("*"))
    assert main(["compare", str(path), *arguments, "--out", str(place / "report")]) == 2
    one_sentence(capsys.readouterr(), words)
    left = [p for p in sorted(place.rglob("*")) if p not in before and "cache" not in p.parts]
    assert left == []
    assert not [p for p in place.rglob("*.part*")]


def test_a_refused_call_does_not_block_the_corrected_one(place, capsys):
    path = lay_out(place, {"log.csv": GOOD})
    (place / "report").mkdir()
    out = ["--out", str(place / "report")]
    assert main(["compare", str(path), "--ids", "usr", *CALL[2:], *out]) == 2
    assert "column 'usr' is missing" in capsys.readouterr().err
    assert list((place / "report").iterdir()) == []


def test_quotes_keep_commas_and_spaces_of_names(place, capsys):
    text = GOOD.replace("user,item,click", '" user","a,b","the ""click"""', 1)
    path = lay_out(place, {"log.csv": text})
    ids, labels = '" user", "a,b"', '"the ""click"""'
    options = compare._parser().parse_args(["x", "--ids", ids, "--labels", labels, "--day", "day"])
    columns = compare.columns_of(options)
    assert columns.ids == (" user", "a,b") and columns.labels == ('the "click"',)
    assert read_log([path], columns).n == 48
    assert output.listed(columns.ids) == '" user","a,b"'
    assert compare._names(output.listed(columns.labels)) == columns.labels


def test_missing_ids_and_nul_bytes_are_ids_of_their_own(place):
    rows = ["user,click,day", ",0,1", "a,1,1", "a\0,1,2", ",0,2"]
    path = lay_out(place, {"log.csv": "\n".join(rows) + "\n"})
    log = read_log([path], Columns(("user",), ("click",), "day"))
    assert log.missing == {"user": 2}
    first, a, nul, last = log.read().ids["user"].tolist()
    assert first == last and len({first, a, nul}) == 3


def test_the_version_is_printed(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == f"multiepoch {multiepoch.__version__}"


@pytest.mark.parametrize("command, kept", [("compare", True), ("inspect", False)])
def test_control_c_ends_with_one_line(place, capsys, monkeypatch, command, kept):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("multiepoch_compare.readers.files.find", interrupted)
    assert main([command, "log.csv", *(CALL if command == "compare" else [])]) == 130
    said = capsys.readouterr().err.strip()
    assert said.startswith(f"multiepoch {command}: stopped") and "\n" not in said
    assert ("repeat the command to resume" in said) == kept


@pytest.mark.slow
def test_the_command_itself_exits_with_2_and_no_traceback(place):
    done = subprocess.run(
        [sys.executable, "-m", "multiepoch_compare", "compare", "none.csv", *CALL],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and "no such file" in done.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_gives_one_sentence(place, capsys):
    path = lay_out(place, {"log.csv": GOOD})
    path.chmod(0)
    assert main(["compare", str(path), *CALL]) == 2
    one_sentence(capsys.readouterr(), "cannot be read (")


def test_a_file_that_cannot_be_opened_gives_one_sentence(place, capsys, monkeypatch):
    path = lay_out(place, {"log.csv": GOOD})

    opened = Path.open

    def refuse(one, *args, **kwargs):
        if one == path:
            raise PermissionError(errno.EACCES, "Permission denied", str(one))
        return opened(one, *args, **kwargs)

    monkeypatch.setattr("pathlib.Path.open", refuse)
    assert main(["compare", str(path), *CALL]) == 2
    one_sentence(capsys.readouterr(), "log.csv: cannot be read (Permission denied)")


# The output folder --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "contents, words",
    [
        ({"report/thesis.tex": "x"}, "report: holds other files, such as thesis.tex"),
        ({"report": "x"}, "report: a file with this name exists"),
        (
            {"report/report.json": "{}", "report/call.json": '["other.csv"]'},
            "report: holds the report of another call (other.csv)",
        ),
    ],
)
def test_an_output_folder_in_use_is_left_alone(place, capsys, contents, words):
    path = lay_out(place, {"log.csv": GOOD})
    lay_out(place, contents)
    before = sorted(place.rglob("*"))
    assert main(["compare", str(path), *CALL, "--out", str(place / "report")]) == 2
    one_sentence(capsys.readouterr(), words)
    assert sorted(place.rglob("*")) == before
    assert all((place / name).read_text() == content for name, content in contents.items())


def test_the_lock_follows_no_link(place, capsys):
    path = lay_out(place, {"log.csv": GOOD})
    (place / "precious").write_text("kept")
    (place / "report").mkdir()
    (place / "report" / "lock").symlink_to(place / "precious")
    assert main(["compare", str(path), *CALL, "--out", str(place / "report")]) == 2
    one_sentence(capsys.readouterr(), "report: cannot be written to")
    assert (place / "precious").read_text() == "kept"


def test_a_planted_file_of_parts_runs_no_code(place):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(place / "ran"),)

    torch.save(Evil(), place / "parts")
    with pytest.raises(pickle.UnpicklingError):
        run.read_parts(str(place / "parts"))
    assert not (place / "ran").exists()


@pytest.mark.parametrize("words", ["yes no", "Y n", "True false", "t f"])
def test_labels_may_be_words(words):
    column = parse.Column.of("log.csv", "click", pa.chunked_array([words.split() * 2]))
    assert parse.labels(column).tolist() == [1, 0, 1, 0]


def test_control_c_while_libraries_are_imported_ends_with_one_line():
    code = (
        "import os, signal, sys, threading\n"
        "from multiepoch_compare.__main__ import main\n"
        "assert 'torch' not in sys.modules\n"
        "threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
        f"sys.exit(main(['compare', 'none.csv', *{CALL}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 130, done.stderr
    assert done.stderr.strip().startswith("multiepoch compare: stopped")
    assert done.stderr.strip().count("\n") == 0


def test_two_calls_do_not_share_a_folder(place, capsys):
    path = lay_out(place, {"log.csv": GOOD})
    with output.folder(place / "report", ["x"]):
        assert main(["compare", str(path), *CALL, "--out", str(place / "report")]) == 2
        one_sentence(capsys.readouterr(), f"report: in use by process {os.getpid()}; wait for it")
    assert not (place / "report").exists()


def test_a_kill_before_the_first_result_does_not_block_another_call(place):
    (place / "report" / "trials").mkdir(parents=True)
    left = {"call.json": '["x"]', "lock": str(os.getpid()), "trials/.7.part.a.json": ""}
    for name, content in left.items():
        (place / "report" / name).write_text(content)
    with output.folder(place / "report", ["y"]) as out:
        assert json.loads((out / "call.json").read_text()) == ["y"]


@pytest.mark.slow
def test_a_pipe_that_ends_stops_no_work(place):
    """As in `multiepoch inspect log.csv | head -1`."""
    path = lay_out(place, {"log.csv": GOOD})
    reader, writer = os.pipe()
    os.close(reader)
    call = [sys.executable, "-m", "multiepoch_compare", "inspect", str(path)]
    done = subprocess.run(call, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert done.returncode == 0 and done.stderr == ""


@pytest.mark.slow
def test_a_terminated_call_tidies_up(place):
    path = lay_out(place, {"log.csv": GOOD})
    code = (
        "import os, signal\n"
        "from multiepoch_compare import command\n"
        "from multiepoch_compare.__main__ import main\n"
        "command.tune_and_run = lambda *_: os.kill(os.getpid(), signal.SIGTERM)\n"
        f"raise SystemExit(main({['compare', str(path), *CALL]!r}))"
    )
    call = [sys.executable, "-c", code]
    done = subprocess.run(call, capture_output=True, text=True, check=False, cwd=place)
    assert done.returncode == 130 and "repeat the command to resume" in done.stderr
    assert not (place / "report").exists()


@pytest.mark.slow
def test_a_full_disk_at_the_report_gives_one_sentence(place, capsys, monkeypatch):
    path = lay_out(place, {"log.csv": GOOD})

    def full(target, text):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(compare, "write_text", full)
    few = ["--methods", "MEDA", "--seeds", "2", "--epochs", "2"]
    assert main(["compare", str(path), *CALL, *few, "--out", str(place / "report")]) == 2
    one_sentence(capsys.readouterr(), "report: the disk is full; free some space, or give another")
    assert not (place / "report" / "index.html").exists()


# inspect ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "case",
    [
        "no such file",
        "empty file",
        "header alone",
        "duplicate header",
        "truncated gzip",
        "truncated Parquet",
        "not UTF-8",
    ],
)
def test_inspect_refuses_what_it_cannot_read(place, capsys, case):
    path = lay_out(place, BAD[case][0])
    assert main(["inspect", str(path)]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("multiepoch inspect: ") and captured.err.count("\n") == 1

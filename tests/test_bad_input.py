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

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import multiepoch
from multiepoch_compare import command as compare
from multiepoch_compare import output, run
from multiepoch_compare.__main__ import main
from multiepoch_compare.readers import Columns, files, map_log, parse
from multiepoch_lab.data.log import DataError

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
        "column 'user' appears twice, as columns 1 and 2",
    ),
    "a column without a name": (
        {"log.csv": GOOD.replace("item", "", 1)},
        CALL,
        "column 2 has no name",
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
    "an empty first line": ({"log.csv": "\n" + GOOD}, CALL, "the first line is empty; it must"),
    "label in words": (spoiled(3, "buy", "maybe"), CALL, "column 'buy', row 3: 'maybe'"),
    "label missing": (spoiled(9, "click", ""), CALL, "column 'click', row 9: no value"),
    "label NaN": (parquet(click=floats), CALL, "column 'click', row 48: nan; a label must be"),
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
        "row 5: '20240301'; the rows before it write the day as YYYY-MM-DD; write all alike",
    ),
    "day missing": (spoiled(48, "day", ""), CALL, "column 'day', row 48: no value"),
    "day is a float": (parquet(day=[1.5] * 48), CALL, "column 'day', row 1: a value of type"),
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
    "ids in floats": (
        parquet(user=[1.0] * 48),
        CALL,
        "column 'user', row 1: a number of type double; an id",
    ),
    "ids that were floats": (
        spoiled(11, "user", "17.0"),
        CALL,
        "column 'user', row 11: '17.0' is a float; an id",
    ),
    "ids with an exponent": (
        spoiled(2, "item", "1.5e+17"),
        CALL,
        "column 'item', row 2: '1.5e+17' is a float",
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
        "column 'price', row 13: 'cheap'; there must be a number",
    ),
    "dense missing": (spoiled(4, "price", ""), CALL, "column 'price', row 4: no value"),
    "dense NaN": (spoiled(6, "price", "nan"), CALL, "column 'price', row 6: nan; a dense feature"),
    "dense infinite": (
        parquet(price=[1.0] * 47 + [float("inf")]),
        CALL,
        "column 'price', row 48: inf",
    ),
    "dense strings in Parquet": (
        parquet(price=["a"] * 48),
        CALL,
        "column 'price', row 1: a value of type string",
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
        "the gzip file is incomplete or damaged",
    ),
    "long gzip cut at its end": (
        {"log.csv.gz": gzip.compress(GOOD.encode() + GOOD.partition("\n")[2].encode() * 999)[:-99]},
        CALL,
        "log.csv.gz: the gzip file is incomplete or damaged",
    ),
    "gzip cut in its head": ({"log.csv.gz": ZIPPED[:5]}, CALL, "the gzip file is incomplete"),
    "not gzip": (
        {"log.csv.gz": GOOD},
        CALL,
        "not gzipped, though its name ends in .gz; rename it to log.csv.",
    ),
    "gzip by another name": ({"log.csv": ZIPPED}, CALL, "gzipped, .* rename it to log.csv.gz."),
    "Parquet by another name": (
        {"log.csv": b"PAR1" + b"x" * 99},
        CALL,
        "a Parquet file, though its name does not say so; rename it to log.parquet.",
    ),
    "a ZIP archive": ({"log.csv": b"PK\x03\x04xx"}, CALL, "a ZIP archive; unpack it."),
    "bzip2": ({"log.csv": b"BZh91AY"}, CALL, "compressed with bzip2; unpack it with bunzip2."),
    "zstd": ({"log.csv": b"\x28\xb5\x2f\xfdabc"}, CALL, "zstd; unpack it with unzstd."),
    "UTF-16": (
        {"log.csv": GOOD.encode("utf-16")},
        CALL,
        "UTF-16; write it in UTF-8: iconv -f UTF-16 -t UTF-8 log.csv > log-utf8.csv.",
    ),
    "UTF-16 with the other end first": (
        {"log.csv": b"\xfe\xff" + GOOD.encode("utf-16-be")},
        CALL,
        "UTF-16; write it in UTF-8",
    ),
    "UTF-16 without a mark": (
        {"log.csv": GOOD.encode("utf-16-le")},
        CALL,
        "the first line holds NUL bytes; write the file in UTF-8",
    ),
    "gzipped UTF-16": ({"log.csv.gz": gzip.compress(GOOD.encode("utf-16"))}, CALL, "UTF-16;"),
    "lines end in carriage returns": (
        {"log.csv": GOOD.replace("\n", "\r")},
        CALL,
        "its lines end in carriage returns alone; write line feeds: tr '\\r' '\\n' < log.csv",
    ),
    "spaces in the header": (
        {"log.csv": GOOD.replace(",", ", ", 2)},
        CALL,
        "there is ' item': name it with its spaces, in quotes: '\" item\"'",
    ),
    "no header but dates": (
        {"log.csv": "2024-03-01,a,b,c,d,e\n"},
        CALL,
        "the first line looks like data",
    ),
    "ids in decimals": (
        parquet(user=pa.array([Decimal(1)] * 48, pa.decimal128(20, 2))),
        CALL,
        "column 'user', row 1: a number of type decimal128(20, 2); an id must be a whole number "
        "or a string: cast the column to int64",
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
        "a number of type double; an id",
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
        "row 5: '2024-03-01T10:00:00Z'; the rows before it write the day as YYYY-MM-DD",
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
        "row 48: 1709251200000; the rows before it write the day as seconds",
    ),
    "label 3 among integers": (parquet(click=[0, 1] * 23 + [3, 0]), CALL, "row 47: 3; a label"),
    "label is half a decimal": (
        parquet(click=pa.array([Decimal("0.50")] * 48, pa.decimal128(4, 2))),
        CALL,
        "row 1: Decimal('0.50'); a label must be 0 or 1",
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
        "column 'day', row 1: 1000000000000000; a time must be within 1,900 years of 1970",
    ),
    "no such minute": (
        parquet(day=["2024-03-01T10:00Z"] * 30 + ["2024-03-02T10:61Z"] * 18),
        CALL,
        "column 'day', row 31: '2024-03-02T10:61Z'; a day must be written as",
    ),
    "no header, and a value twice": (
        {"log.csv": GOOD.partition("\n")[2].replace("i0,0,1", "i0,0,0", 1)},
        CALL,
        "column '0' appears twice, as columns 3 and 4; the first line looks like data (u0, i0, 0",
    ),
    "a number too large": (
        spoiled(5, "price", "1e300"),
        CALL,
        "column 'price', row 5: 1e+300; a dense feature must be a number",
    ),
    "no such time zone": (
        {"log.csv": GOOD},
        [*CALL, "--tz", "Mars/Olympus"],
        "--tz Mars/Olympus: unknown time zone; name one as Europe/Berlin",
    ),
    "too few steps": (
        {"log.csv": GOOD},
        [*CALL, "--batch-size", "8"],
        "24 training impressions are 3 steps of 8; at least 4 are needed: give a smaller --batch",
    ),
    "a sample of users that are floats": (
        parquet(user=pa.array(floats)),
        [*CALL, "--sample", "0.9"],
        "column 'user', row 1: a number of type double; an id must be a whole number",
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
        "a cross needs exactly two different id columns",
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
        "b.parquet: column 'user', row 1: of type int64, but of type string in the files before it",
    ),
    "no ids": ({"log.csv": GOOD}, CALL[2:], "ids: no column is named; name at least one column"),
    "no labels": ({"log.csv": GOOD}, [*CALL[:2], *CALL[4:]], "labels: no column is named"),
    "no day": ({"log.csv": GOOD}, CALL[:4], "--day is missing; name the column with the day"),
    "a column named twice": (
        {"log.csv": GOOD},
        [*CALL[:6], "--dense", "click"],
        "column 'click' is named twice",
    ),
    "a cross of three": (
        {"log.csv": GOOD},
        [*CALL, "--cross", "user,item,day"],
        "a cross needs exactly two different id columns",
    ),
    "a cross of what is no id": (
        {"log.csv": GOOD},
        [*CALL, "--cross", "user,price"],
        "cross: 'price' is not among the ids",
    ),
    "one epoch": (
        {"log.csv": GOOD},
        [*CALL, "--epochs", "1"],
        "--epochs is 1; give at least 2, since one epoch repeats nothing",
    ),
    "no seed": ({"log.csv": GOOD}, [*CALL, "--seeds", "0"], "--seeds is 0; give at least 1"),
    "no batch": ({"log.csv": GOOD}, [*CALL, "--batch-size", "0"], "--batch-size is 0"),
    "a comment before the header": (
        {"log.csv": "# exported on Monday, by hand\n" + GOOD},
        CALL,
        "the first line is a comment ('# exported on Monday, by hand'), but it must name the",
    ),
    "a name that is composed in another way": (
        {"log.csv": GOOD.replace("user", "us\u00e9r", 1)},
        ["--ids", "use\u0301r,item", *CALL[2:]],
        "column 'use\u0301r' is missing; there is 'us\u00e9r': its letters are coded in another",
    ),
    "a gzip file of one endless line": (
        {"log.csv.gz": gzip.compress(b"user,item,click,buy,price,day\n" + b"0" * (1 << 27))},
        CALL,
        "unpacks to more than 200 times its size; is it a log?",
    ),
    "a gzip file of very many lines": (
        {"log.csv.gz": gzip.compress((HEADER + "\n" + "u,i,1,1,1,1\n" * (1 << 22)).encode())},
        CALL,
        "unpacks to more than 200 times its size; is it a log?",
    ),
    "an unknown method": (
        {"log.csv": GOOD},
        [*CALL, "--methods", "FAL,SAM"],
        "--methods: 'SAM' is unknown; choose from sparse optimizer",
    ),
    "no share": ({"log.csv": GOOD}, [*CALL, "--sample", "0"], "--sample is 0.0; give a share"),
}


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("MULTIEPOCH_CACHE", str(tmp_path / "cache"))
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


def test_a_label_that_is_refused_is_none_that_would_be_taken():
    many = pa.array([0.0, *(k / 7 for k in range(1, 2_000))])
    with pytest.raises(DataError, match="row 2: 0"):
        parse.labels(many, parse.Place("log.parquet", "click", 0))


def test_quotes_keep_commas_and_spaces_of_names(place, capsys):
    text = GOOD.replace("user,item,click", '" user","a,b","the ""click"""', 1)
    path = lay_out(place, {"log.csv": text})
    ids, labels = '" user", "a,b"', '"the ""click"""'
    options = compare._parser().parse_args(["x", "--ids", ids, "--labels", labels, "--day", "day"])
    columns = compare.columns_of(options)
    assert columns.ids == (" user", "a,b") and columns.labels == ('the "click"',)
    assert map_log(path, columns).n == 48
    assert output.listed(columns.ids) == '" user","a,b"'
    assert compare._names(output.listed(columns.labels)) == columns.labels


def test_missing_ids_and_nul_bytes_are_ids_of_their_own(place):
    rows = ["user,click,day", ",0,1", "a,1,1", "a\0,1,2", ",0,2"]
    path = lay_out(place, {"log.csv": "\n".join(rows) + "\n"})
    mapped = map_log(path, Columns(("user",), ("click",), "day"))
    assert mapped.missing == {"user": 2}
    first, a, nul, last = mapped.read(slice(None)).ids["user"].tolist()
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


def test_reading_says_how_long_it_takes(place, capsys):
    lines = []
    path = lay_out(place, {"log.csv": GOOD})
    map_log(path, Columns(("user",), ("click",), "day"), say=lines.append)
    assert lines[0] == f"{path}: about 49 impressions"
    assert lines[1].startswith("read 48 impressions")
    zipped = lay_out(place, {"log.csv.gz": ZIPPED})
    assert files.about_rows([zipped]) == pytest.approx(3 * 49, abs=5)


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

    def refuse(*args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("multiepoch_compare.readers.files.pa.input_stream", refuse)
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
        run.read_parts(run.Setup("", Columns((), ()), None, 2, 64, str(place / "parts")))
    assert not (place / "ran").exists()


@pytest.mark.parametrize("words", ["yes no", "Y n", "True false", "t f"])
def test_labels_may_be_words(words):
    column = pa.array(words.split() * 2)
    assert parse.labels(column, parse.Place("log.csv", "click", 0)).tolist() == [1, 0, 1, 0]


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
    few = ["--methods", "MEDA", "--seeds", "1", "--epochs", "2"]
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

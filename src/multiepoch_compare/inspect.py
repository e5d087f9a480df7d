"""`multiepoch inspect FILE`: which columns look like ids, labels and days, and the call to make."""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from multiepoch.data.log import DataError
from multiepoch_compare.readers import columns as parse
from multiepoch_compare.readers import files

ROWS = 200_000
_LABEL_NAMES = ("click", "label", "like", "view", "cart", "checkout", "purchase", "buy", "pay",
                "order", "convers", "install", "follow", "comment", "share", "target",
                "enter")  # fmt: skip
_DAY_NAMES = re.compile(r"(^|_)(day|date|dt|time|timestamp|ts|hour)(_|$)", re.I)
_ID_NAMES = re.compile(r"(^|_)(id|ids|uid|key|hash|code)$|^c[0-9]+$|_id_", re.I)


@dataclass(frozen=True)
class Guess:
    """kind: "id", "label", "day", "dense" or "" for none of them; why: in words."""

    name: str
    kind: str
    why: str
    example: str


def command(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="multiepoch inspect",
        description=f"Looks at the first {ROWS:,} rows: which columns look like ids, labels and "
        "days. Prints the call of `multiepoch compare` to begin with.",
    )
    parser.add_argument("file", type=Path, help="CSV or Parquet, or a folder of them")
    options = parser.parse_args(arguments)
    try:
        print(inspect(options.file))
    except DataError as error:
        print(f"multiepoch inspect: {error}", file=sys.stderr)
        return 2
    return 0


def inspect(path: Path) -> str:
    """The table of guesses and the call, as text."""
    found = files.find(path)
    guesses, n = look(found[0])
    width = max(len(g.name) for g in guesses)
    lines = [f"{found[0]}: {n:,} rows looked at, {len(guesses)} columns"]
    if len(found) > 1:
        lines[0] += f"; the first of {len(found)} files"
    lines += ["", f"{'column':<{width}}  looks like  because"]
    for g in guesses:
        lines.append(f"{g.name:<{width}}  {g.kind or '-':<10}  {g.why}, such as {g.example}")
    lines += ["", *_advice(path, guesses, len(found))]
    return "\n".join(lines)


def look(path: Path) -> tuple[list[Guess], int]:
    """A guess for each column of a file, and how many rows it is made from."""
    names = files.column_names(path)
    parts, n = [], 0
    for batch in files.chunks(path, names):
        parts.append(batch.slice(0, ROWS - n))
        n += len(parts[-1])
        if n >= ROWS:
            break
    if n == 0:
        raise DataError(f"{path}: no rows; it must hold at least one impression.")
    guesses = [guess(name, [part.column(name) for part in parts], n) for name in names]
    return guesses, n


def guess(name: str, parts: list[pa.Array], n: int) -> Guess:
    """What a column looks like, from its values first and its name second."""
    values = pa.chunked_array([p.cast(p.type.value_type) if pa.types.is_dictionary(p.type) else p
                               for p in parts])  # fmt: skip
    if pa.types.is_nested(values.type):
        return Guess(name, "", f"type {values.type}, not one value a row", "lists")
    there = values.drop_null()
    if len(there) == 0:
        return Guess(name, "", "every value is missing", "nothing")
    distinct = pc.count_distinct(there).as_py()
    example = str(there[0].as_py())
    example = repr(example[:30])
    text = pa.types.is_string(values.type) or pa.types.is_large_string(values.type)
    unique = pc.unique(there)
    if distinct <= 3 and _binary(unique):
        if distinct == 1:
            return Guess(name, "", "one value throughout", example)
        ones = sum(pc.sum(pc.equal(there, v)).as_py() for v in unique if _is_one(v))
        share = 100 * ones / n
        likely = share <= 60 or any(word in name.lower() for word in _LABEL_NAMES)
        why = f"zeros and ones, {share:.2g} % ones"
        if values.null_count:
            return Guess(name, "", why + ", some missing", example)
        other = "id" if _may_be_id(values.type) else ""
        return Guess(name, "label" if likely else other, why, example)
    if pa.types.is_timestamp(values.type) or pa.types.is_date(values.type):
        return Guess(name, "day", f"type {values.type}", example)
    if _looks_like_day(name, unique):
        return Guess(name, "day", f"{distinct:,} times or days", example)
    floats = pa.types.is_floating(values.type) or (text and _all_match(unique, r"^-?[0-9]*\.[0-9]"))
    counted = f"{distinct:,} different values"
    if floats:
        whole = _ID_NAMES.search(name) is not None
        note = "; an id must not be a float" if whole else ""
        return Guess(name, "" if whole else "dense", f"numbers with decimals{note}", example)
    if distinct == n and n > 1_000:
        return Guess(name, "", f"{counted}, another in each row", example)
    number = not text or _all_match(unique, r"^-?[0-9]+$")
    if distinct == 1:
        return Guess(name, "", "one value throughout", example)
    if not _may_be_id(values.type):
        return Guess(name, "", f"type {values.type}", example)
    if number and _ID_NAMES.search(name) is None and distinct > 100:
        return Guess(name, "dense", f"whole numbers, {counted}", example)
    return Guess(name, "id", counted, example)


def _may_be_id(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _binary(unique: pa.Array) -> bool:
    return all(str(v).lower() in ("0", "1", "0.0", "1.0", "true", "false")
               for v in unique.to_pylist())  # fmt: skip


def _is_one(value: pa.Scalar) -> bool:
    return str(value.as_py()).lower() in ("1", "1.0", "true")


def _looks_like_day(name: str, unique: pa.Array) -> bool:
    if _DAY_NAMES.search(name) is None or not _may_be_id(unique.type):
        return False
    some = unique[:100].cast(pa.string()).to_pylist()
    forms = {parse.day_format(text) for text in some}
    return len(forms) == 1 and None not in forms and (forms != {"day number"} or "day" in name)


def _all_match(unique: pa.Array, pattern: str) -> bool:
    texts = unique.slice(0, 10_000).cast(pa.string())
    return bool(pc.all(pc.match_substring_regex(texts, pattern)).as_py())


def _listed(names: list[str]) -> str:
    return shlex.quote(",".join(names))


def _advice(path: Path, guesses: list[Guess], n_files: int) -> list[str]:
    of = {kind: [g.name for g in guesses if g.kind == kind]
          for kind in ("id", "label", "day", "dense")}  # fmt: skip
    missing = [what for kind, what in (("id", "ids"), ("label", "labels")) if not of[kind]]
    if missing:
        return [f"No column looks like {' or '.join(missing)}: name them yourself, "
                "python -m multiepoch compare --help says how."]  # fmt: skip
    if not of["day"] and n_files < 3:
        return ["No column looks like a day, and without days nothing can be tested on a later "
                "one: add such a column, or give a folder with a file a day."]  # fmt: skip
    words = ["python -m multiepoch compare", shlex.quote(str(path)), "--ids", _listed(of["id"]),
             "--labels", _listed(of["label"])]  # fmt: skip
    if of["day"]:
        words += ["--day", shlex.quote(of["day"][0])]
    lines = ["To begin with, a look in about a minute (leave out --quick for all of it):", "",
             "  " + " ".join([*words, "--quick"]), ""]  # fmt: skip
    if of["dense"]:
        lines.append(f"Numbers that could be dense features: --dense {_listed(of['dense'])}")
    lines.append("Leave out every column that is known only after the impression, such as a play "
                 "time, and ids that number the rows.")  # fmt: skip
    if len(of["id"]) >= 2:
        lines.append(f"A cross is often what collapses first: --cross {_listed(of['id'][:2])}")
    return lines

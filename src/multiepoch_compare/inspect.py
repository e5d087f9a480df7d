"""`multiepoch inspect FILE`: guesses which columns are ids, labels and days, and the command."""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from tabulate import tabulate

from multiepoch.data.log import DataError
from multiepoch_compare.readers import files, parse

ROWS = 200_000
_ACTIONS = "click|like|view|cart|checkout|purchase|buy|pay|order|install|follow|comment|share|enter"
_LABEL_NAMES = re.compile(f"{_ACTIONS}|convers|label|target", re.I)
_DAY_NAMES = re.compile(r"(^|_)(day|date|dt|time|timestamp|ts|hour)(_|$)", re.I)
_ID_NAMES = re.compile(r"(^|_)(id|ids|uid|key|hash|code)$|^c[0-9]+$|_id_", re.I)
_ONES, _ZEROS = {"1", "1.0", "true"}, {"0", "0.0", "false"}


class Guess(NamedTuple):
    """The likely role of a column: "id", "label", "day", "dense", or "-" for none of them."""

    name: str
    kind: str
    why: str


def command(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="multiepoch inspect",
        description=f"Guesses from the first {ROWS:,} rows which columns are ids, labels and days. "
        "Prints a `multiepoch compare` command to start with.",
    )
    parser.add_argument("file", type=Path, help="CSV or Parquet, or a folder of them")
    print(inspect(parser.parse_args(arguments).file))
    return 0


def inspect(path: Path) -> str:
    """Returns the table of guesses and the command, as text."""
    found = files.find(path)
    guesses, n = look(found[0])
    first = f" (the first of {len(found)} files)" if len(found) > 1 else ""
    table = tabulate(guesses, ["column", "looks like", "because"], "plain", disable_numparse=True)
    lines = [f"{found[0]}{first}: looked at {n:,} rows of {len(guesses)} columns", ""]
    lines += [*map(str.rstrip, table.splitlines()), "", *_advice(path, guesses, len(found))]
    return "\n".join(lines)


def look(path: Path) -> tuple[list[Guess], int]:
    """Returns a guess for each column of a file, and the number of rows looked at."""
    names = files.column_names(path)
    parts, n = [], 0
    for batch in files.chunks(path, names):
        parts.append(batch.slice(0, ROWS - n))
        n += len(parts[-1])
        if n >= ROWS:
            break
    if n == 0:
        raise DataError(f"{path}: no rows; it must hold at least one impression.")
    return [guess(name, [part.column(name) for part in parts], n) for name in names], n


def guess(name: str, parts: list[pa.Array], n: int) -> Guess:
    """Guesses the role of a column, from its values first and its name second."""
    kind = parts[0].type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_nested(kind):
        return Guess(name, "-", f"type {kind}, not one value per row")
    values = pa.chunked_array([part.cast(kind) for part in parts])
    present = values.drop_null()
    if len(present) == 0:
        return Guess(name, "-", "every value is missing")
    role, why = _role(name, present, n)
    return Guess(name, role, f"{why}, such as {str(present[0].as_py())[:30]!r}")


def _role(name: str, values: pa.ChunkedArray, n: int) -> tuple[str, str]:
    """Returns the kind of a guess and its reason; the values that are not missing decide."""
    kind, unique = values.type, pc.unique(values)
    distinct, missing = len(unique), n - len(values)
    text, may_be_id = parse.is_text(kind), parse.is_text(kind) or pa.types.is_integer(kind)
    looks_like_id = _ID_NAMES.search(name) is not None
    if distinct <= 3 and {str(v).lower() for v in unique.to_pylist()} <= _ONES | _ZEROS:
        if distinct == 1:
            return "-", "one value throughout"
        is_one = pa.array([str(v).lower() in _ONES for v in unique.to_pylist()])
        share = 100 * len(values.filter(pc.is_in(values, unique.filter(is_one)))) / n
        why = f"zeros and ones, {share:.2g} % ones"
        if missing:
            return "-", why + ", some missing"
        if share <= 60 or _LABEL_NAMES.search(name):
            return "label", why
        return "id" if may_be_id else "-", why
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return "day", f"type {kind}"
    if may_be_id and _looks_like_day(name, unique):
        return "day", f"{distinct:,} times or days"
    if pa.types.is_floating(kind) or (text and _all_match(unique, r"^-?[0-9]*\.[0-9]")):
        if looks_like_id:
            return "-", "numbers with decimals; an id must not be a float"
        return "dense", "numbers with decimals"
    counted = f"{distinct:,} different values"
    if distinct == n and n > 1_000:
        return "-", f"{counted}, a new one in each row"
    if distinct == 1:
        return "-", "one value throughout"
    if not may_be_id:
        return "-", f"type {kind}"
    number = not text or _all_match(unique, r"^-?[0-9]+$")
    if number and not looks_like_id and distinct > 100:
        return "dense", f"whole numbers, {counted}"
    return "id", counted


def _looks_like_day(name: str, unique: pa.Array) -> bool:
    if _DAY_NAMES.search(name) is None:
        return False
    forms = {parse.day_format(text) for text in unique[:100].cast(pa.string()).to_pylist()}
    return len(forms) == 1 and None not in forms and (forms != {"day number"} or "day" in name)


def _all_match(unique: pa.Array, pattern: str) -> bool:
    texts = unique.slice(0, 10_000).cast(pa.string())
    return bool(pc.all(pc.match_substring_regex(texts, pattern)).as_py())


def _advice(path: Path, guesses: list[Guess], n_files: int) -> list[str]:
    kinds = ("id", "label", "day", "dense")
    ids, labels, days, dense = ([g.name for g in guesses if g.kind == kind] for kind in kinds)
    if not ids or not labels:
        missing = " or ".join(name for name, of in (("ids", ids), ("labels", labels)) if not of)
        remedy = "name them yourself, see multiepoch compare --help"
        return [f"No column looks like {missing}: {remedy}."]
    if not days and n_files < 3:
        return ["No column looks like a day: add one, or give a folder with one file per day."]
    words = ["multiepoch", "compare", str(path), "--ids", ",".join(ids)]
    words += ["--labels", ",".join(labels), *(["--day", days[0]] if days else []), "--quick"]
    start = "To start with, a look of about a minute (without --quick, all of the log is used):"
    lines = [start, "", f"  {shlex.join(words)}", ""]
    if dense:
        lines.append(f"Possible dense features: --dense {shlex.quote(','.join(dense))}")
    lines.append("Leave out columns that are known only after the impression, such as play time,")
    lines.append("and ids that number the rows.")
    if len(ids) >= 2:
        cross = shlex.quote(",".join(ids[:2]))
        lines.append(f"A cross is often the first to collapse: --cross {cross}")
    return lines

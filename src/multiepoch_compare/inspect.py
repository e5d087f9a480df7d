"""`multiepoch inspect FILE`: guesses which columns are ids, labels and days, and the command."""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from tabulate import tabulate

from multiepoch_compare import leak, outlook, output, plan
from multiepoch_compare.readers import Columns, files, parse, read_log
from multiepoch_lab.data.log import DataError

ROWS = 200_000
MOST_COLUMNS = 1_000
SEEDS = 5  # the default of `compare`
_LARGE = 2_000_000  # rows: more take long
_ACTIONS = "click|like|view|cart|checkout|purchase|buy|pay|order|install|follow|comment|share|enter"
_LABEL_NAMES = re.compile(f"{_ACTIONS}|convers|label|target", re.I)
_DAY_NAMES = re.compile(r"(^|_)(day|date|dt|time|timestamp|ts|hour|week|month)(_|$)", re.I)
# How long something took, not when it was.
_DURATION = r"(lead|watch|play|dwell|view|wait|waiting|response|elapsed|reading|travel)_time$"
_NO_DAY_NAMES = re.compile(rf"(^|_){_DURATION}", re.I)
_USER_NAMES = re.compile("user|uid|member|customer|client|visitor|viewer|player|session", re.I)
_THINGS = "user|item|movie|ip|app|channel|product|video|author|ad|campaign|advertiser|device|site"
_ID_NAMES = re.compile(
    rf"(^|_)(id|ids|uid|key|hash|code|{_THINGS})$|^c[0-9]+$|_id_|(?-i:[a-z]I[dD]$)", re.I
)
_GAPS = "some missing: fill them to use it"
_ONES, _ZEROS = ({k for k, v in parse.LABELS.items() if v == one} for one in (1, 0))
_ONES, _ZEROS = _ONES | {"1.0"}, _ZEROS | {"0.0"}
_DATES = {"YYYY-MM-DD", "YYYY/MM/DD", "a date in words", "time with a zone"}  # under any name
_LEAST_GAIN = 1e-3  # of a label's entropy
_NUMBERED = "numbers of days"


class Guess(NamedTuple):
    """The likely role of a column: "id", "label", "day", "dense", "leak", or "-" for none."""

    name: str
    kind: str
    why: str


def command(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="multiepoch inspect",
        description=f"Guesses from {ROWS:,} rows, spread over the whole log, which columns are "
        "ids, labels and days. Says what the log can decide, and prints a `multiepoch compare` "
        "command to start with.",
    )
    parser.add_argument("file", type=Path, help="CSV or Parquet, or a folder of them")
    output.say(inspect(parser.parse_args(arguments).file))
    return 0


def inspect(path: Path) -> str:
    """Returns the table of guesses, what to expect, and the command, as text."""
    found = files.find(path)
    rows, n, n_columns = sample(found)
    guesses = look(rows)
    read = f" ({len(found)} files)" if len(found) > 1 else ""
    of = f" of {n_columns:,}" if n_columns > len(guesses) else ""
    table = tabulate(guesses, ["column", "looks like", "because"], "plain", disable_numparse=True)
    looked = f"looked at {len(rows):,} of {n:,} rows, {len(guesses):,}{of} columns"
    lines = [f"{path}{read}: {looked}", "", *map(str.rstrip, table.splitlines()), ""]
    lines += files.left_out(path)
    if data := files.like_data(rows.column_names):
        lines += [f"Perhaps {data}.", ""]
    return "\n".join([*lines, *_advice(path, guesses, rows, found, n)])


def sample(found: list[Path]) -> tuple[pa.Table, int, int]:
    """Returns every k-th row of the files, ROWS of them at most, and how many rows and columns."""
    every = files.column_names(found[0])
    names, parts, n, step = every[:MOST_COLUMNS], [], 0, 1
    try:
        for path in found:
            for batch in files.batches(path, names):
                taken = batch.take(pa.array(range(-n % step, len(batch), step), pa.int64()))
                whole = [
                    one.dictionary_decode() if pa.types.is_dictionary(one.type) else one
                    for one in taken.columns
                ]
                parts.append(pa.table(whole, names))
                n += len(batch)
                while sum(map(len, parts)) > ROWS:
                    joined, step = pa.concat_tables(parts), 2 * step
                    parts = [joined.take(pa.array(range(0, len(joined), 2), pa.int64()))]
        joined = pa.concat_tables(parts) if parts else []
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        what = f"its columns are of other types than in {found[0].name}"
        raise DataError(f"{path}: {what}; write all files alike.") from error
    if n == 0:
        raise DataError(f"{found[0]}: no rows; it must hold at least one impression.")
    return joined, n, len(every)


def look(rows: pa.Table) -> list[Guess]:
    """Guesses the role of each column, from its values, its name, and the other columns."""
    guesses = [guess(name, rows[name]) for name in rows.column_names]
    dated = [g.name for g in guesses if g.kind == "day" and _NUMBERED not in g.why]
    labels: dict[str, np.ndarray] = {}
    for k, g in enumerate(guesses):
        if g.kind == "label":
            ones = _ones(rows[g.name])
            same = [name for name, its in labels.items() if (its == ones).all()]
            labels[g.name] = ones
            if same:
                guesses[k] = Guess(g.name, "-", f"the same as {same[0]!r}")
                del labels[g.name]
    fit = np.arange(len(rows)) % 2 == 0
    for k, g in enumerate(guesses):
        if g.kind == "day" and _NUMBERED in g.why and dated:
            guesses[k] = Guess(g.name, "-", f"numbers of days, but {dated[0]!r} has the date")
        if g.kind == "dense" and g.why.startswith("whole numbers"):
            gain, label = _gain_of_codes(rows[g.name], labels)
            if gain >= _LEAST_GAIN:
                share = f"explain {100 * gain:.2g} % more of the entropy of {label!r} as ids"
                guesses[k] = g = Guess(g.name, "id", f"whole numbers that {share} than in bins")
        if g.kind in ("id", "dense") and labels:
            codes = _codes(rows[g.name], g.kind)
            shares = [leak.explained(codes, label, fit) for label in labels.values()]
            if max(shares) >= leak.LEAK:
                words = leak.in_words(g.name, list(labels), shares)
                guesses[k] = Guess(g.name, "leak", words.partition("' ")[2])
    return guesses


def _gain_of_codes(column: pa.ChunkedArray, labels: dict[str, np.ndarray]) -> tuple[float, str]:
    """Returns what more of a label whole numbers explain as ids than in bins, and of which label.

    The gain is the smaller one of two halves, each of which predicts the other.
    """
    fit = np.arange(len(column)) % 2 == 0
    codes, bins = _codes(column, "id"), _codes(column, "dense")

    def gain(label: np.ndarray) -> float:
        return min(
            leak.explained(codes, label, half) - max(0, leak.explained(bins, label, half))
            for half in (fit, ~fit)
        )

    return max(((gain(label), name) for name, label in labels.items()), default=(0.0, ""))


def _codes(column: pa.ChunkedArray, kind: str) -> np.ndarray:
    """Numbers the values of a column, or the bins of numbers; (n,) int."""
    coded = parse.Column.of("", "", column)
    return (
        leak.binned(np.nan_to_num(coded.numbers()[coded.codes])) if kind == "dense" else coded.codes
    )


def _ones(column: pa.ChunkedArray) -> np.ndarray:
    coded = parse.Column.of("", "", column)
    return coded.texts().str.lower().isin(_ONES).to_numpy(float)[coded.codes]


def guess(name: str, column: pa.ChunkedArray) -> Guess:
    """Guesses the role of a column, from its values first and its name second."""
    if pa.types.is_nested(column.type):
        return Guess(name, "-", f"type {column.type}, not one value per row")
    coded = parse.Column.of("", name, column)
    missing = coded.missing
    if missing.all():
        return Guess(name, "-", "every value is missing")
    kind, why = _role(name, coded, len(column))
    if kind == "id" and missing.any():
        why += f", {int(missing[coded.codes].sum()):,} missing (an id of their own)"
    return Guess(name, kind, f"{why}, such as {_example(coded.values[0])!r}")


def _example(value: pa.Scalar) -> str:
    try:
        return str(value.as_py())[:30]
    except (OverflowError, ValueError):  # a time that Python has no name for
        return "a time out of range"


def _role(name: str, column: parse.Column, n: int) -> tuple[str, str]:
    """Returns the kind of a guess and its reason; the values that are not missing decide."""
    gaps, known = bool(column.missing.any()), ~column.missing
    distinct, texts = int(known.sum()), column.texts()[known]
    if distinct <= 3 and {*texts.str.lower()} <= _ONES | _ZEROS:
        if distinct == 1:
            return "-", "one value throughout"
        share = 100 * texts.str.lower().isin(_ONES).reindex(range(len(known)), fill_value=False)
        why = f"zeros and ones, {share.to_numpy(float)[column.codes].mean():.2g} % ones"
        if gaps:
            return "-", why + ", some missing"
        if float(why.split()[3]) <= 60 or _LABEL_NAMES.search(name):
            return "label", why
        return "-", why + ": a label, or a flag known before it?"
    if form := _day_form(name, column, known):
        if gaps:
            return "-", f"times or days, {_GAPS}"
        return "day", f"{distinct:,} {_NUMBERED if form == parse.NUMBERED else 'times or days'}"
    if column.is_text and _named_like_a_day(name) and texts.str.contains("[0-9]").all():
        return "-", "named like a day; write it as YYYY-MM-DD to use it"
    if not column.is_text and not column.is_number:
        return "-", f"type {column.values.type}"
    numbers = column.numbers()[known]
    if column.is_text and texts.str.fullmatch("-?[0-9]+,[0-9]+").all():
        return "-", "numbers with a decimal comma: write a point to use it"
    numeric = bool(np.isfinite(numbers).all())
    whole = numeric and bool((numbers == np.round(numbers)).all())
    if column.is_text and not column.texts().str.fullmatch(r"-?[0-9]+(\.0+)?|").all():
        whole = False
    looks_like_id = _ID_NAMES.search(_plain(name)) is not None
    counted = f"{distinct:,} different values"
    if numeric and not whole:
        if looks_like_id and not column.is_text:
            return "-", "numbers with decimals; an id must be whole"
        return (
            ("-", f"numbers with decimals, {_GAPS}") if gaps else ("dense", "numbers with decimals")
        )
    if not numeric and column.is_number:
        return "-", "numbers that are not finite"
    if distinct == n and n > 1_000:
        return "-", f"{counted}, a new one in each row"
    if distinct == 1:
        return "-", "one value throughout"
    if whole and not looks_like_id and distinct > 100:
        return ("-", f"whole numbers, {_GAPS}") if gaps else ("dense", f"whole numbers, {counted}")
    try:
        parse.ids(column)
    except DataError:
        return "-", "numbers with decimals among other values"
    return "id", counted


def _plain(name: str) -> str:
    """Writes a name with underscores, so that `user id` and `User-ID` read like `user_id`."""
    return re.sub(r"[\s.-]+", "_", name.strip())


def _named_like_a_day(name: str) -> bool:
    return bool(_DAY_NAMES.search(_plain(name))) and not _NO_DAY_NAMES.search(_plain(name))


def _day_form(name: str, column: parse.Column, known: np.ndarray) -> str | None:
    """Returns the format of a column of days; None if it is none."""
    form = parse.day_form(column, int(np.argmax(known)))
    named = _named_like_a_day(name) and (form != parse.NUMBERED or "day" in name)
    if form is None or not (named or form in _DATES):
        return None
    return form if parse.is_day(column, form)[known].all() else None


def _advice(
    path: Path, guesses: list[Guess], rows: pa.Table, found: list[Path], n: int
) -> list[str]:
    kinds = ("id", "label", "day", "dense", "leak")
    ids, labels, days, dense, leaks = ([g.name for g in guesses if g.kind == k] for k in kinds)
    if not ids or not labels:
        missing = " or ".join(name for name, of in (("ids", ids), ("labels", labels)) if not of)
        remedy = "name them yourself, see multiepoch compare --help"
        return [f"No column looks like {missing}: {remedy}."]
    if not days:
        return ["No column looks like a day: add one, since the last days are tested on."]
    ids = _sampled_first(ids, rows)
    lines = []
    try:
        log = read_log(found, Columns(tuple(ids), tuple(labels), days[0]))
        split = plan.split(log, str(path), outlook.rows_needed(log.rates))
        expected = outlook.outlook(log, split, SEEDS)
    except DataError as error:
        return [f"This log cannot be compared as it is: {error}"]
    sizes = {part: len(split.rows(log, part)) for part in plan.PARTS}
    parts = (f"{sizes[k]:,} of {days} ({k})" for k, days in split.in_words(log).items())
    lines += [f"Rows: {', '.join(parts)}.", expected.in_words(), ""]
    words = ["multiepoch", "compare", str(path), "--ids", output.listed(ids)]
    words += ["--labels", output.listed(labels), "--day", days[0]]
    lines += [f"  {shlex.join(words)}", "", "The same in Python:", ""]
    call = f"compare({str(path)!r}, ids={ids!r}, labels={labels!r}, day={days[0]!r})"
    lines += ["  from multiepoch_compare import compare", f"  {call}", ""]
    if n > _LARGE:
        lines.append(f"To start with some of the values of {ids[0]}, add --sample 0.1.")
    if dense:
        lines.append(f"Possible dense features: --dense {shlex.quote(output.listed(dense))}")
    if leaks:
        lines.append(f"Left out, since they almost determine a label: {', '.join(leaks)}.")
    if any(_NUMBERED in g.why for g in guesses if g.name == days[0]):
        lines.append(f"Days of {days[0]} must count on: a day of the month starts over and mixes")
        lines.append("months, so that the test day is not the last.")
    lines.append("Leave out columns that are known only after the impression, such as play time,")
    return [*lines, "and ids that number the rows."]


def _sampled_first(ids: list[str], rows: pa.Table) -> list[str]:
    """Puts the id that compare samples by first: the user's, or the one of the most values.

    A sample by a column such as the month would leave out whole months.
    """
    users = [name for name in ids if _USER_NAMES.search(name)]
    first = max(users or ids, key=lambda name: len(rows[name].unique()))
    return [first, *(name for name in ids if name != first)]

"""`multiepoch inspect FILE`: guesses which columns are ids, labels and days, and the command."""

from __future__ import annotations

import argparse
import re
import shlex
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tabulate import tabulate

from multiepoch_compare import leak, output, plan
from multiepoch_compare.readers import files, parse
from multiepoch_lab.data.log import DataError

ROWS = 200_000
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
_NUMBER = r"^(-?([0-9]+\.?|[0-9]*\.[0-9]+)([eE][-+][0-9]+)?|[nN]a[nN])$"
_GAPS = "some missing: fill them to use it"
_ONES, _ZEROS = ({k for k, v in parse.LABELS.items() if v == one} for one in (1, 0))
_ONES, _ZEROS = _ONES | {"1.0"}, _ZEROS | {"0.0"}
_DATES = {"YYYY-MM-DD", "time with a zone"}  # whatever the name of the column
_LEAST_GAIN = 1e-3  # of a label's entropy
_NUMBERED = "numbers of days"
_DAYS_SHOWN = 4
_MOST_CROSSED = 8  # ids of which every pair is tried


class Guess(NamedTuple):
    """The likely role of a column: "id", "label", "day", "dense", "leak", or "-" for none."""

    name: str
    kind: str
    why: str


def command(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="multiepoch inspect",
        description=f"Guesses from {ROWS:,} rows, spread over the whole log, which columns are "
        "ids, labels and days. Prints a `multiepoch compare` command to start with.",
    )
    parser.add_argument("file", type=Path, help="CSV or Parquet, or a folder of them")
    output.say(inspect(parser.parse_args(arguments).file))
    return 0


def inspect(path: Path) -> str:
    """Returns the table of guesses and the command, as text."""
    found = files.find(path)
    rows, n = sample(found)
    guesses = look(rows)
    files_read = f" ({len(found)} files)" if len(found) > 1 else ""
    table = tabulate(guesses, ["column", "looks like", "because"], "plain", disable_numparse=True)
    looked = f"looked at {len(rows):,} of {n:,} rows, {len(guesses)} columns"
    lines = [f"{path}{files_read}: {looked}", "", *map(str.rstrip, table.splitlines()), ""]
    if data := files.like_data(rows.column_names):
        lines += [f"Perhaps {data}.", ""]
    return "\n".join([*lines, *_advice(path, guesses, rows, len(found), n)])


def sample(found: list[Path]) -> tuple[pa.Table, int]:
    """Returns every k-th row of the files, ROWS of them at most, and the number of all rows."""
    names = files.column_names(found[0])
    parts, n, step = [], 0, 1
    try:
        for path in found:
            for batch in files.chunks(path, names):
                every = batch.take(pa.array(range(-n % step, len(batch), step), pa.int64()))
                parts.append(pa.table([parse.decoded(column) for column in every.columns], names))
                n += len(batch)
                while sum(map(len, parts)) > ROWS:
                    whole, step = pa.concat_tables(parts), 2 * step
                    parts = [whole.take(pa.array(range(0, len(whole), 2), pa.int64()))]
        whole = pa.concat_tables(parts) if parts else []
    except pa.ArrowInvalid as error:
        what = f"its columns are of other types than in {found[0].name}"
        raise DataError(f"{path}: {what}; write all files alike.") from error
    if n == 0:
        raise DataError(f"{found[0]}: no rows; it must hold at least one impression.")
    return whole, n


def look(rows: pa.Table) -> list[Guess]:
    """Guesses the role of each column, from its values, its name, and the other columns."""
    guesses = [guess(name, rows[name], len(rows)) for name in rows.column_names]
    days = [g for g in guesses if g.kind == "day"]
    dated = [g for g in days if _NUMBERED not in g.why]
    labels = {g.name: _labels(rows[g.name]) for g in guesses if g.kind == "label"}
    fit = np.arange(len(rows)) % 2 == 0
    for k, g in enumerate(guesses):
        if g in days and dated and g not in dated:
            guesses[k] = Guess(g.name, "-", f"numbers of days, but {dated[0].name!r} has the date")
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
    if kind == "dense":
        x = column.cast(pa.float64(), safe=False).to_numpy()
        return leak.binned(np.where(np.isfinite(x), x, 0))
    return column.combine_chunks().dictionary_encode("encode").indices.to_numpy()


def _labels(column: pa.ChunkedArray) -> np.ndarray:
    return np.array([str(value).lower() in _ONES for value in column.to_pylist()], float)


def guess(name: str, column: pa.ChunkedArray, n: int) -> Guess:
    """Guesses the role of a column, from its values first and its name second."""
    if pa.types.is_nested(column.type):
        return Guess(name, "-", f"type {column.type}, not one value per row")
    present = column.drop_null()
    if len(present) == 0:
        return Guess(name, "-", "every value is missing")
    if parse.has_far_times(present):
        return Guess(name, "-", "times over 1,900 years from 1970: is their unit right?")
    role, why = _role(name, present, n)
    if role == "id" and len(present) < n:
        why += f", {n - len(present):,} missing (an id of their own)"
    return Guess(name, role, f"{why}, such as {str(present[0].as_py())[:30]!r}")


def _role(name: str, values: pa.ChunkedArray, n: int) -> tuple[str, str]:
    """Returns the kind of a guess and its reason; the values that are not missing decide."""
    kind, unique = values.type, pc.unique(values)
    distinct, missing = len(unique), n - len(values)
    text, may_be_id = parse.is_text(kind), parse.is_text(kind) or pa.types.is_integer(kind)
    looks_like_id = _ID_NAMES.search(_plain(name)) is not None
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
        return "-", why + ": a label, or a flag known before it?"
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return "day", f"type {kind}"
    if may_be_id and (form := _day_form(name, unique)):
        return "day", f"{distinct:,} {_NUMBERED if form == 'day number' else 'times or days'}"
    if text and _named_like_a_day(name) and _all_match(unique, "[0-9]"):
        return "-", "named like a day; write it as YYYY-MM-DD to use it"
    whole = not text or _all_match(unique, r"^-?[0-9]+$")
    if pa.types.is_floating(kind) or (text and not whole and _all_match(unique, _NUMBER)):
        if looks_like_id:
            return "-", "numbers with decimals; an id must not be a float"
        if missing or not pc.all(pc.is_finite(values.cast(pa.float64(), safe=False))).as_py():
            return "-", f"numbers with decimals, {_GAPS}"
        return "dense", "numbers with decimals"
    counted = f"{distinct:,} different values"
    if distinct == n and n > 1_000:
        return "-", f"{counted}, a new one in each row"
    if distinct == 1:
        return "-", "one value throughout"
    if not may_be_id:
        return "-", f"type {kind}"
    if whole and not looks_like_id and distinct > 100:
        return (
            ("-", f"whole numbers, {_GAPS}") if missing else ("dense", f"whole numbers, {counted}")
        )
    return "id", counted


def _plain(name: str) -> str:
    """Writes a name with underscores, so that `user id` and `User-ID` read like `user_id`."""
    return re.sub(r"[\s.-]+", "_", name.strip())


def _named_like_a_day(name: str) -> bool:
    return bool(_DAY_NAMES.search(_plain(name))) and not _NO_DAY_NAMES.search(_plain(name))


def _day_form(name: str, unique: pa.Array) -> str | None:
    forms = {parse.day_format(text) for text in unique[:100].cast(pa.string()).to_pylist()}
    named = _named_like_a_day(name) and (forms != {"day number"} or "day" in name)
    return forms.pop() if len(forms) == 1 and (named or forms <= _DATES) else None


def _all_match(unique: pa.Array, pattern: str) -> bool:
    return bool(pc.all(pc.match_substring_regex(unique.cast(pa.string()), pattern)).as_py())


def _advice(path: Path, guesses: list[Guess], rows: pa.Table, n_files: int, n: int) -> list[str]:
    kinds = ("id", "label", "day", "dense", "leak")
    ids, labels, days, dense, leaks = ([g.name for g in guesses if g.kind == k] for k in kinds)
    if not ids or not labels:
        missing = " or ".join(name for name, of in (("ids", ids), ("labels", labels)) if not of)
        remedy = "name them yourself, see multiepoch compare --help"
        return [f"No column looks like {missing}: {remedy}."]
    if not days and n_files < 3:
        return ["No column looks like a day: add one, or give a folder with one file per day."]
    ids = _sampled_first(ids, rows)
    words = ["multiepoch", "compare", str(path), "--ids", output.listed(ids)]
    words += ["--labels", output.listed(labels), *(["--day", days[0]] if days else []), "--quick"]
    start = "To start with, a look of about a minute (without --quick, all of the log is used):"
    lines = [start, "", f"  {shlex.join(words)}", ""]
    if dense:
        lines.append(f"Possible dense features: --dense {shlex.quote(output.listed(dense))}")
    if leaks:
        lines.append(f"Left out, since they almost determine a label: {', '.join(leaks)}.")
    if days:
        lines += _last_days(rows[days[0]], [_labels(rows[k]).mean() for k in labels], n)
    if days and len(pc.unique(rows[days[0]])) < 3:
        lines.append(
            f"At least 3 days are needed: {days[0]} has fewer, so this look splits the rows"
        )
        lines.append("by position.")
    if days and _NUMBERED in next(g.why for g in guesses if g.name == days[0]):
        lines.append(f"Days of {days[0]} must count on: a day of the month starts over and mixes")
        lines.append("months, so that the test day is not the last.")
    lines.append("Leave out columns that are known only after the impression, such as play time,")
    lines.append("and ids that number the rows.")
    return lines + _crosses(ids, labels, rows)


def _sampled_first(ids: list[str], rows: pa.Table) -> list[str]:
    """Puts the id that compare samples by first: the user's, or the one of the most values.

    A sample by a column such as the month would leave out whole months.
    """
    users = [name for name in ids if _USER_NAMES.search(name)]
    first = max(users or ids, key=lambda name: len(pc.unique(rows[name])))
    return [first, *(name for name in ids if name != first)]


def _last_days(column: pa.ChunkedArray, rates: list[float], n: int) -> list[str]:
    """Says how many rows the last days have, and how many of the days to test on."""
    try:
        hours, form = parse.days(column.combine_chunks(), parse.Place("", "", 0))
    except DataError:  # compare says what is wrong with the day
        return []
    starts, counts = np.unique(hours // 24 * 24, return_counts=True)
    if len(starts) < 3:
        return []
    counts = counts * n // len(column)
    sizes = [f"{parse.day_name(day, form, True)} {size:,}" for day, size in zip(starts, counts)]
    (_, k), needed = plan.days_to_test(counts, rates), plan.rows_needed(rates)
    chosen = f"--test-days {k}, as compare chooses for these labels"
    return [
        f"The last days, with about their rows: {', '.join(sizes[-_DAYS_SHOWN:])}.",
        f"A verdict needs about {needed:,} to test on: {chosen}.",
    ]


def _crosses(ids: list[str], labels: list[str], rows: pa.Table) -> list[str]:
    """Proposes the pair of ids whose cross adds most, if one adds anything."""
    fit = np.arange(len(rows)) % 2 == 0
    codes = {name: _codes(rows[name], "id") for name in ids[:_MOST_CROSSED]}
    ones = {name: _labels(rows[name]) for name in labels}
    gains = {
        (*pair, name): leak.cross_gain(codes[pair[0]], codes[pair[1]], y, fit)
        for pair in combinations(codes, 2)
        for name, y in ones.items()
    }
    best = max(gains, key=gains.get, default=None)
    if best is None or gains[best] < _LEAST_GAIN:
        return []
    share = f"explains {100 * gains[best]:.2g} % more of the entropy of {best[2]} than its two ids"
    cross = shlex.quote(output.listed(best[:2]))
    return [f"The cross that adds most, and may collapse first: --cross {cross}", f"({share})."]

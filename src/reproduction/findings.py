"""Findings: sentences that a person wrote about a committed record, with its numbers in them.

findings.toml of a chapter has the sentence and what it asserts, about values over seeds by name:

    [findings.after-the-boundary]
    text = "A quarter into epoch 2, FAL's loss is {fal/1.25:% 1} against MEDA's."
    holds."FAL is ahead" = "fal/1.25 < 0"

The chapter's `facts(record)` returns the values, and a cell of the notebook shows the finding:

    findings.show(experiment, "after-the-boundary", record)

The sentence does not depend on the live run. If a new record contradicts it, the notebook fails,
and somebody has to write another sentence.
"""

import functools
import math
import operator
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from itertools import product
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd

from multiepoch_lab.stats import interval
from reproduction import tables
from reproduction.records import Record

Facts = Mapping[str, pd.Series | float]  # by seed, or the same for all seeds

_FIELD = re.compile(r"\{([^{}:]+):?([^{}]*)\}")  # {name:format}
_SIGNS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
_SPEC = re.compile(r"(\+|size )?([^\d.,+]*?) ?(\d?)")
_NUMBER = re.compile(r"[-+]?\d+(\.\d+)?(e[-+]?\d+)?")
_TERM = re.compile(r"(?:(mean|every)\()?([^\s()]+)(?: - ([^\s()]+))?(\))?")


class FindingContradicted(AssertionError):
    """The record contradicts the sentence written about it."""


def estimate(values: Iterable[float], unit: str = "", digits: int = 2) -> str:
    """Formats the mean and 95 % interval over seeds, such as "1.23 % [1.05, 1.41]"."""
    mean, low, high = interval(list(values))
    known = f"[{low:.{digits}f}, {high:.{digits}f}]" if math.isfinite(low) else tables.ONE_SEED
    return " ".join(filter(None, [f"{mean:.{digits}f}", unit, known]))


def change(values: Iterable[float], unit: str = "%", digits: int | None = None) -> str:
    """Formats a change as `estimate` does, with its signs; by default without a "-0.0"."""
    mean, low, high = interval(list(values))
    if digits is None:
        digits = 2 if min(map(abs, (mean, low, high))) < 0.05 else 1
    known = f"[{low:+.{digits}f}, {high:+.{digits}f}]" if math.isfinite(low) else tables.ONE_SEED
    return f"{mean:+.{digits}f} {unit} {known}"


def measures(evidence: pd.DataFrame) -> dict[str, pd.Series]:
    """Returns the values over seeds of each measure in evidence rows."""
    return {name: rows.set_index("seed")["value"] for name, rows in evidence.groupby("measure")}


def by_name(**values) -> dict[str, pd.Series | float]:
    """Names each value by the levels that it is indexed by: left=… becomes left/0.01, left/0.1.

    Args:
        **values: Series by seed and any other levels, frames (their columns are a level) or
            mappings of these. An array has one value a seed. Without a level "seed", each value is
            the same for all seeds.
    """
    found: dict[str, pd.Series | float] = {}
    for name, value in values.items():
        if isinstance(value, pd.DataFrame):
            value = dict((value.T if value.columns.name == "seed" else value).items())
        elif isinstance(value, pd.Series) and value.index.names not in (["seed"], [None]):
            others = [k for k, level in enumerate(value.index.names) if level != "seed"]
            if len(others) == value.index.nlevels:
                value = dict(value.items())
            else:
                groups = value.groupby(level=others, sort=False)
                value = {key: group.droplevel(others) for key, group in groups}
        elif isinstance(value, np.ndarray):
            value = pd.Series(value)
        if isinstance(value, Mapping):
            named = {f"{name}/{_level(key)}": one for key, one in value.items()}
            if len(named) < len(value):
                raise ValueError(
                    f"two levels of {name} have the same name: {[*map(_level, value)]}"
                )
            found |= by_name(**named)
        else:
            found[name] = value
    return found


def _level(key: object) -> str:
    if isinstance(key, tuple):
        return "/".join(map(_level, key))
    return f"{key:.3g}" if isinstance(key, float) else re.sub(r"[^\w.]+", "_", str(key))


def finding(text: str, facts: Facts, holds: Mapping[str, str]) -> str:
    """Returns the text with the facts in place of their names in braces.

    The format of values over seeds is the unit and the digits of their `estimate`, as in {left:% 1}
    ({left} has no unit and two digits). A change has its signs, as in {left:+% 1}, and as many
    digits as it needs without a number of them; `size`, as in {left:size % 1}, is the mean alone,
    without a sign. The format of one number is Python's, as in {times:.0f}.

    Raises:
        FindingContradicted: If a condition of `holds`, by what the text asserts, does not hold.
        KeyError: If there is no fact of a name.
    """
    failed = [f"{name} ({c})" for name, c in holds.items() if not is_true(c, facts)]
    if failed:
        raise FindingContradicted(
            f"the record contradicts a finding: {'; '.join(failed)}. The sentence was: {text}"
        )
    return fill(text, facts)


def fill(text: str, facts: Facts, look: Callable[[str], str] = str) -> str:
    """Returns the text with its values; `look` changes how a formatted one is shown."""
    return _FIELD.sub(lambda one: look(_formatted(_named(one[1], facts)[0], one[2])), text)


def _formatted(value: pd.Series | float, spec: str) -> str:
    if not isinstance(value, pd.Series):
        return format(value, spec)
    found = _SPEC.fullmatch(spec)
    if found is None:
        raise ValueError(f"values over seeds have a format such as '% 1' or 'points', not {spec!r}")
    how, unit, digits = found.groups()
    if how == "size ":
        size = abs(value.mean())
        return f"{size:.{int(digits or (1 if size < 50 else 0))}f} {unit}".rstrip()
    if how == "+":
        return change(value, unit, int(digits) if digits else None)
    return estimate(value, unit, int(digits or 2))


def is_true(condition: str, facts: Facts) -> bool:
    """Returns whether a condition holds, such as "left/0.01 < 50 and not left/0.1 < 50".

    Each side of < <= > >= is a number or a name; values over seeds are on a side with their whole
    95 % interval, as are the differences by seed of two names (a - b), mean(a) with their mean and
    every(a) with each seed. A * in a name is for any level; all that match have to hold.
    """
    return all(_is_true(one.strip(), facts) for one in condition.split(" and "))


def _is_true(comparison: str, facts: Facts) -> bool:
    parts = re.split(r" (<=?|>=?) ", comparison.removeprefix("not "))
    negated = comparison.startswith("not ")
    if len(parts) not in (3, 5) or (negated and len(parts) == 5):
        raise ValueError(
            f"{comparison!r} is no condition such as 'a < 1', '0 < a < 1', 'not a < 1'"
        )
    sides = [_ranges(part, facts) for part in parts[::2]]
    return all(
        _SIGNS[sign](*((one[1], two[0]) if sign[0] == "<" else (one[0], two[1]))) != negated
        for left, sign, right in zip(sides, parts[1::2], sides[1:])
        for one, two in product(left, right)
    )


def _ranges(term: str, facts: Facts) -> list[tuple[float, float]]:
    """Returns the lower and the upper end of what a side of a comparison is about."""
    if _NUMBER.fullmatch(term):
        return [(float(term), float(term))]
    found = _TERM.fullmatch(term)
    if found is None or bool(found[1]) != bool(found[4]):
        raise ValueError(f"{term!r} is no number, name, difference of names, mean(…) or every(…)")
    values = _named(found[2], facts)
    if found[3]:
        values = [(a - b).dropna() for a, b in product(values, _named(found[3], facts))]
    return [_range(one, found[1]) for one in values]


def _range(values: pd.Series | float, of: str | None) -> tuple[float, float]:
    if not isinstance(values, pd.Series):
        return values, values
    if of == "every":
        return values.min(), values.max()
    mean, low, high = interval(values)
    return (mean, mean) if of == "mean" else (low, high)


class OfRecords(Mapping):
    """Values by their whole names, RECORD.fact; `read` returns those of a record by its name."""

    def __init__(self, read: Callable[[str], Facts]) -> None:
        self._read = functools.cache(read)

    def of(self, name: str) -> Facts:
        """Returns the values of the record that a name begins with."""
        return self._read(name.partition(".")[0])

    def __getitem__(self, name: str) -> pd.Series | float:
        return self.of(name)[name]

    def __iter__(self):
        raise TypeError("the records that were not asked for are not read")

    __len__ = __iter__


def whole(record: str, facts: Facts) -> Facts:
    """Returns the values of a record by their whole names."""
    return {f"{record}.{name}": value for name, value in facts.items()}


def _named(name: str, facts: Facts) -> list[pd.Series | float]:
    facts = facts.of(name) if isinstance(facts, OfRecords) else facts
    pattern = re.compile(re.escape(name).replace(r"\*", "[^/]*"))
    found = [value for key, value in facts.items() if pattern.fullmatch(key)]
    if not found:
        near = ", ".join(get_close_matches(name, facts, n=4, cutoff=0)) or "none"
        raise KeyError(f"no fact is named {name!r}; the nearest of {len(facts)}: {near}")
    return found


@functools.cache
def texts(module_file: str) -> dict[str, dict]:
    """Returns the content of findings.toml beside a module: `findings` and `figures` by name."""
    path = Path(module_file).with_name("findings.toml")
    return tomllib.loads(path.read_text(encoding="utf-8"))


@functools.cache
def _facts(of: Callable[[Record], Facts], record: Record) -> Facts:
    return of(record)


def sentence(chapter: ModuleType, name: str, facts: Facts) -> str:
    """Returns the finding of that name in the findings.toml beside a module."""
    written = texts(chapter.__file__)["findings"][name]
    return finding(" ".join(written["text"].split()), facts, written.get("holds", {}))


def show(
    chapter: ModuleType,
    name: str,
    record: Record | str | None,
    facts: Facts | Callable[[Record], Facts] | None = None,
) -> None:
    """Displays a finding in a notebook and, below it, the record that it is about.

    Args:
        chapter: The module that has `facts` and, beside it, findings.toml.
        name: Of the finding.
        record: The record. If it is None, as on Colab, a sentence says where the finding is.
        facts: The values, or a function of the record, in place of the chapter's. Those of a live
            run have words for it in place of a record.
    """
    if record is None:
        tables.absent(f"The finding “{name.replace('-', ' ')}”")
        return
    if isinstance(facts, Mapping):
        found = facts
    else:
        found = whole(record.name, _facts(facts or chapter.facts, record))
    tables.text(f"{sentence(chapter, name, found)}\n\n*Record: {record}.*")

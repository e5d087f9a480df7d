"""Findings: sentences that a person wrote about a committed record, with its numbers in them.

    findings.show(
        "A quarter into epoch 2, the test loss of click is {click} above the end of epoch 1.",
        record=long,
        numbers={"click": estimate(jumps["click"], "%")},
        holds={"click jumps": above(jumps["click"], 0.5)},
    )

The sentence does not depend on the live run. If a new record contradicts it, the notebook fails,
and somebody has to write another sentence.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import pandas as pd

from multiepoch.stats import interval
from reproduction import tables


class FindingContradicted(AssertionError):
    """The record contradicts the sentence written about it."""


def estimate(values: Iterable[float], unit: str = "", digits: int = 2) -> str:
    """Formats the mean and 95 % interval over seeds, such as "1.23 % [1.05, 1.41]"."""
    mean, low, high = interval(list(values))
    known = f"[{low:.{digits}f}, {high:.{digits}f}]" if math.isfinite(low) else "(one seed)"
    return " ".join(filter(None, [f"{mean:.{digits}f}", unit, known]))


def cell(values: Iterable[float], unit: str = "", digits: int = 2) -> str:
    """Formats as `estimate` does for a table, without a note in every cell if there is one seed."""
    return estimate(values, unit, digits).removesuffix(" (one seed)")


def above(values: Iterable[float], threshold: float = 0.0) -> bool:
    """Returns whether the whole interval over seeds lies above the threshold."""
    return interval(list(values))[1] > threshold


def below(values: Iterable[float], threshold: float = 0.0) -> bool:
    """Returns whether the whole interval over seeds lies below the threshold."""
    return interval(list(values))[2] < threshold


def measures(evidence: pd.DataFrame) -> dict[str, pd.Series]:
    """Returns the values over seeds of each measure in evidence rows."""
    return {name: rows["value"] for name, rows in evidence.groupby("measure")}


def finding(text: str, numbers: Mapping[str, str], holds: Mapping[str, bool]) -> str:
    """Returns the text with the numbers in place of their names in braces.

    Raises:
        FindingContradicted: If something that the text relies on does not hold.
    """
    failed = [name for name, true in holds.items() if not true]
    if failed:
        raise FindingContradicted(
            f"the record contradicts a finding: {'; '.join(failed)}. The sentence was: {text}"
        )
    return text.format_map(numbers)


def show(text: str, record, numbers: Mapping[str, str], holds: Mapping[str, bool]) -> None:
    """Displays a finding in a notebook and, below it, the record that it is about."""
    tables.text(f"{finding(text, numbers, holds)}\n\n*Record: {record}.*")

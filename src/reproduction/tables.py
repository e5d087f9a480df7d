"""Tables that the notebooks show: estimates with their intervals, in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pandas as pd

from multiepoch.methods import ALL_METHODS
from reproduction.findings import estimate
from reproduction.records import Record
from reproduction.tuning import Tuned


def cell(values: Iterable[float], unit: str = "", digits: int = 2) -> str:
    """Formats a mean with its interval; one seed has no interval, and a table leaves that out."""
    return estimate(values, unit, digits).replace(" (one seed)", "")


def show(rows: Mapping[str, Mapping[str, object]], first: str, note: str = "") -> None:
    """Displays a table.

    Args:
        rows: The cells of each row by the column's header, by the name of the row.
        first: The header of the column of names.
        note: A sentence above the table.
    """
    frame = pd.DataFrame.from_dict(rows, orient="index").rename_axis(first)
    text(f"{note}\n\n{frame.to_markdown(disable_numparse=True)}")


def rates(chosen: Mapping[str, tuple[str, Tuned]]) -> None:
    """Displays tuned learning rates and hyperparameters, the rates also relative to the first's.

    Args:
        chosen: The method and what was tuned for it, by the name shown.
    """
    base = next(iter(chosen.values()))[1]
    rows = {}
    for name, (method, found) in chosen.items():
        hyperparameter = ALL_METHODS[method].hyperparameter
        rows[name] = {
            "dense rate": f"{found.dense_lr:.2g}",
            "tables' rate": f"{found.embedding_lr:.2g}",
            "dense, relative": f"× {found.dense_lr / base.dense_lr:.2g}",
            "tables, relative": f"× {found.embedding_lr / base.embedding_lr:.2g}",
            "hyperparameter": f"{hyperparameter} {found.hyperparameter}"
            if hyperparameter
            else "none",
        }
    show(rows, first="tuned for")


def origins(**records: Record | None) -> None:
    """Displays where the records of a chapter come from, by profile."""
    lines = [f"- `{name}`: {record or 'no record found'}" for name, record in records.items()]
    text("\n".join(lines))


def text(markdown: str) -> None:
    """Displays Markdown in a notebook."""
    from IPython.display import Markdown, display

    display(Markdown(markdown))

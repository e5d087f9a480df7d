"""Tables that the notebooks show: estimates with their intervals, in Markdown."""

from collections.abc import Callable, Mapping

import pandas as pd

from multiepoch_lab.methods import METHODS
from reproduction import judge, records
from reproduction.records import Record
from reproduction.tuning import Tuned

ONE_SEED = "(one seed)"  # in place of an interval


def show(rows: Mapping[str, Mapping[str, object]], first: str, note: str = "") -> None:
    """Displays a table of cells by row and column, with a header for the column of row names.

    If estimates are of one seed, the note says so, and the cells do not.
    """
    frame = pd.DataFrame.from_dict(rows, orient="index").rename_axis(first)
    table = frame.to_markdown(disable_numparse=True)
    if ONE_SEED in table:
        table, note = table.replace(f" {ONE_SEED}", ""), f"One seed. {note}".strip()
    text(f"{note}\n\n{table}")


def rates(chosen: Mapping[str, tuple[str, Tuned]]) -> None:
    """Displays learning rates, also relative to the first's, and hyperparameters by name.

    Each name has its method and what was tuned for it.
    """
    base = next(iter(chosen.values()))[1]
    rows = {}
    for name, (method, found) in chosen.items():
        known = METHODS[method].hyperparameter
        rows[name] = {
            "dense rate": f"{found.dense_lr:.2g}",
            "tables' rate": f"{found.embedding_lr:.2g}",
            "dense, relative": f"× {found.dense_lr / base.dense_lr:.2g}",
            "tables, relative": f"× {found.embedding_lr / base.embedding_lr:.2g}",
            "hyperparameter": f"{known} {found.hyperparameter}" if known else "none",
        }
    show(rows, first="tuned for")


def origins(**records: Record | None) -> None:
    """Displays where those records of a chapter come from that are there, by profile."""
    there = {name: record for name, record in records.items() if record} or records
    lines = [f"- `{name}`: {record or 'no record found'}" for name, record in there.items()]
    text("\n".join(lines))


def verdicts(*ids: str) -> None:
    """Displays the verdicts on claims by the committed records `long` and `gpu`."""
    shown = False
    for profile, evidence in records.ledger().items():
        if profile in ("long", "gpu") and evidence["claim"].isin(ids).any():
            text(f"By the record `{profile}`:\n\n{judge.table(evidence, ids)}")
            shown = True
    if not shown:
        text(f"No record found that decides {' and '.join(ids)}.")


def of(record: Record | None, show: Callable[[pd.DataFrame], pd.DataFrame | None]) -> None:
    """Displays the table that a function makes of a record's rows, or says that it is not there."""
    from IPython.display import display

    if record is None:
        absent("A table")
    elif (made := show(record.rows)) is not None:
        display(made)


def absent(what: str) -> None:
    """Says in a notebook, such as one on Colab, that the record of something is not there."""
    text(
        f"*{what} is not shown here, since its record is only in the repository, under "
        "`results/`; the page of this chapter in the book shows it.*"
    )


def text(markdown: str) -> None:
    """Displays Markdown in a notebook."""
    from IPython.display import Markdown, display

    display(Markdown(markdown))

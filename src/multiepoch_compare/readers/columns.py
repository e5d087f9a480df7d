"""The columns of a log: which of them are ids, labels, dense features and the day."""

from __future__ import annotations

from dataclasses import dataclass

from multiepoch_lab.data.log import DataError


@dataclass(frozen=True)
class Columns:
    """Names the columns of a file by their role.

    Attributes:
        ids: Columns of ids. The first should be the user's. A column of lists is a bag of ids.
        labels: Columns of zeros and ones.
        day: The column with the day; None if each file or subfolder of a folder is a day, in order
            of names.
        dense: Columns of numbers.
        day_format: A key of `parse.DAYS`; None to detect it from the first row.
        parts: Splits a file without a day column into this many equal "days", by position.
        cross: Pairs of id columns, each of which makes one more id.
        split: Id columns whose texts hold several ids, each with what separates them.
        counts: The dense features that are counts and may be missing.
        weight: The column with what each impression counts, such as one over its sampling rate.
        tz: The time zone of the days of Unix times and of times with a zone.
        header: The names of all columns of a CSV file without a header.
    """

    ids: tuple[str, ...]
    labels: tuple[str, ...]
    day: str | None = None
    dense: tuple[str, ...] = ()
    day_format: str | None = None
    parts: int | None = None
    cross: tuple[tuple[str, str], ...] = ()
    split: tuple[tuple[str, str], ...] = ()
    counts: tuple[str, ...] = ()
    header: tuple[str, ...] | None = None
    tz: str = "UTC"
    weight: str | None = None

    @property
    def texts(self) -> list[str]:
        """The columns that are read as text from a CSV file."""
        return [*self.ids, *self.labels, *([self.day] if self.day else [])]

    @property
    def numbers(self) -> list[str]:
        """The columns that are read as numbers from a CSV file."""
        return [*self.dense, *([self.weight] if self.weight else [])]

    def check(self) -> None:
        """Raises DataError if a role is empty, a column has two roles, or a cross is not of ids."""
        if not self.ids:
            raise DataError("ids: no column is named; name at least one column of ids.")
        if not self.labels:
            raise DataError("labels: no column is named; name at least one of zeros and ones.")
        named = [*self.texts, *self.numbers]
        for name in named:
            if named.count(name) > 1:
                roles = "ids, labels, dense, weight and day"
                raise DataError(f"column {name!r} is named twice; name it as one of {roles}.")
        for option, names in (
            ("cross", [name for pair in self.cross for name in pair]),
            ("split", [name for name, _ in self.split]),
        ):
            for name in names:
                if name not in self.ids:
                    what = f"{name!r} is not among the ids {', '.join(self.ids)}"
                    raise DataError(f"{option}: {what}; add it to them.")
        for name, separator in self.split:
            if not separator:
                raise DataError(f"split: {name!r} has no separator; give one, such as '|'.")

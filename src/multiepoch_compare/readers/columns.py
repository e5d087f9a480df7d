"""The columns of a log: which of them are ids, labels, dense features and the day."""

from __future__ import annotations

from dataclasses import dataclass

from multiepoch_lab.data.log import DataError


@dataclass(frozen=True)
class Columns:
    """Names the columns of a file by their role.

    Attributes:
        ids: Columns of ids. The first should be the user's.
        labels: Columns of zeros and ones.
        day: The column with the day; None if each file or subfolder of a folder is a day, in order
            of names.
        dense: Columns of numbers.
        cross: Pairs of id columns, each of which makes one more id.
        tz: The time zone of the days of Unix times and of times with a zone.
    """

    ids: tuple[str, ...]
    labels: tuple[str, ...]
    day: str | None = None
    dense: tuple[str, ...] = ()
    cross: tuple[tuple[str, str], ...] = ()
    tz: str = "UTC"

    @property
    def texts(self) -> list[str]:
        """The columns that are read as text from a CSV file."""
        return [*self.ids, *self.labels, *([self.day] if self.day else [])]

    def check(self) -> None:
        """Raises DataError if a role is empty, a column has two roles, or a cross is not of ids."""
        if not self.ids:
            raise DataError("ids: no column is named; name at least one column of ids.")
        if not self.labels:
            raise DataError("labels: no column is named; name at least one of zeros and ones.")
        named = [*self.texts, *self.dense]
        for name in named:
            if named.count(name) > 1:
                roles = "ids, labels, dense and day"
                raise DataError(f"column {name!r} is named twice; name it as one of {roles}.")
        for name in (name for pair in self.cross for name in pair):
            if name not in self.ids:
                what = f"{name!r} is not among the ids {', '.join(self.ids)}"
                raise DataError(f"cross: {what}; add it to them.")

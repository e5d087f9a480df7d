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
        day: The column with the day.
        dense: Columns of numbers.
        cross: Pairs of id columns, each of which makes one more id.
    """

    ids: tuple[str, ...]
    labels: tuple[str, ...]
    day: str
    dense: tuple[str, ...] = ()
    cross: tuple[tuple[str, str], ...] = ()

    def check(self) -> None:
        """Raises DataError if a role is empty, a column has two roles, or a cross is not of ids."""
        if not self.ids:
            raise DataError("ids: no column is named; name at least one column of ids.")
        if not self.labels:
            raise DataError("labels: no column is named; name at least one of zeros and ones.")
        named = [*self.ids, *self.labels, self.day, *self.dense]
        for name in named:
            if named.count(name) > 1:
                roles = "ids, labels, dense and day"
                raise DataError(f"column {name!r} is named twice; name it as one of {roles}.")
        for pair in self.cross:
            if len(pair) != 2 or len(set(pair)) != 2 or not {*self.ids}.issuperset(pair):
                what = f"a cross needs two different columns of the ids {', '.join(self.ids)}"
                raise DataError(f"cross {','.join(pair)}: {what}.")

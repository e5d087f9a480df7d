"""`Log`: a columnar batch of impressions, the type that every source returns; and its split."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor


class DataError(ValueError):
    """Reports bad input in one sentence: its location, the fault, and what to do instead."""


@dataclass(frozen=True)
class Schema:
    """Describes the columns of a log, for building a model before any impression is read.

    Attributes:
        cardinality: For each id column, in order, its table's rows; ids are in [0, cardinality).
        dense: Names of the dense features, in order.
        objectives: Names of the labels, in order; by convention, each is sparser than the last.
    """

    cardinality: dict[str, int]
    dense: tuple[str, ...]
    objectives: tuple[str, ...]


@dataclass(frozen=True)
class Log:
    """Holds impressions as columns; row k of each tensor is impression k.

    Attributes:
        schema: Describes the columns.
        ids: One int64 tensor per id column, of shape (n,).
        dense: float32, (n, n_dense).
        labels: float32 zeros and ones, (n, n_objectives).
        day: int32, (n,), counted from the first day of the source.
        p_true: float32, (n, n_objectives), the probability that each label was drawn with; None if
            it is unknown, as in real logs.

    Raises:
        DataError: If a column does not fit the schema.
    """

    schema: Schema
    ids: dict[str, Tensor]
    dense: Tensor
    labels: Tensor
    day: Tensor
    p_true: Tensor | None = None

    def __post_init__(self) -> None:
        n, objectives, ids = len(self.day), len(self.schema.objectives), self.schema.cardinality
        expected: dict[str, tuple[Tensor | None, torch.dtype, tuple[int, ...]]]
        expected = {f"ids[{k!r}]": (self.ids.get(k), torch.int64, (n,)) for k in ids}
        expected["dense"] = (self.dense, torch.float32, (n, len(self.schema.dense)))
        expected["labels"] = (self.labels, torch.float32, (n, objectives))
        expected["day"] = (self.day, torch.int32, (n,))
        if self.p_true is not None:
            expected["p_true"] = (self.p_true, torch.float32, (n, objectives))
        for name, (column, dtype, shape) in expected.items():
            if column is None:
                raise DataError(f"Log: column {name} is in the schema but was not given.")
            if column.dtype != dtype or tuple(column.shape) != shape:
                found = f"{column.dtype} of shape {tuple(column.shape)}"
                raise DataError(f"Log: {name} is {found}; it must be {dtype} of shape {shape}.")

    @classmethod
    def from_numpy(cls, schema: Schema, ids: dict[str, np.ndarray], **columns: np.ndarray) -> Self:
        """Makes a log of arrays, cast to the dtypes above; one that needs no cast is shared."""
        types = {name: np.int32 if name == "day" else np.float32 for name in columns}
        return cls(
            schema,
            {name: torch.from_numpy(np.asarray(column, np.int64)) for name, column in ids.items()},
            **{k: torch.from_numpy(np.asarray(v, types[k])) for k, v in columns.items()},
        )

    @property
    def objectives(self) -> tuple[str, ...]:
        return self.schema.objectives

    @property
    def device(self) -> torch.device:
        return self.day.device

    def __len__(self) -> int:
        return len(self.day)

    def __getitem__(self, rows: slice | Tensor) -> Self:
        """Selects impressions by a slice, a boolean mask or an index tensor, in that order."""
        if isinstance(rows, int):
            raise TypeError("Log: index with a slice, a mask or an index tensor, not an integer.")
        return replace(self, **_columns(lambda column: column[rows], self))

    def days(self, first: int, last: int | None = None) -> Self:
        """Selects the impressions of days first to last, both included; by default of one day."""
        last = first if last is None else last
        return self[(self.day >= first) & (self.day <= last)]

    def to(self, device: torch.device | str) -> Self:
        return replace(self, **_columns(lambda column: column.to(device), self))

    def with_labels(self, labels: Tensor) -> Self:
        """Returns the same impressions with other labels, (n, n_objectives) float32."""
        return replace(self, labels=labels)

    def with_ids(self, ids: dict[str, Tensor], cardinality: dict[str, int]) -> Self:
        """Returns the same impressions with other ids, int64 (n,) by column, and cardinalities."""
        return replace(self, ids=ids, schema=replace(self.schema, cardinality=cardinality))

    def without(self, column: str) -> Self:
        """Returns the same impressions without an id column."""
        ids = {name: values for name, values in self.ids.items() if name != column}
        return self.with_ids(ids, {name: self.schema.cardinality[name] for name in ids})

    @classmethod
    def concat(cls, logs: Sequence[Self]) -> Self:
        """Concatenates logs of one source; each cardinality is the largest of all.

        Raises:
            DataError: If the columns differ.
        """

        def names(log: Self) -> tuple:
            return tuple(log.ids), log.schema.dense, log.objectives, log.p_true is None

        first = logs[0]
        for log in logs:
            if names(log) != names(first):
                both = f"{log.schema} and {first.schema}"
                raise DataError(f"Log.concat: columns differ ({both}); give logs of one source.")
        most = {k: max(log.schema.cardinality[k] for log in logs) for k in first.ids}
        schema = replace(first.schema, cardinality=most)
        return replace(first, schema=schema, **_columns(lambda *parts: torch.cat(parts), *logs))


def _columns(function: Callable[..., Tensor], *logs: Log) -> dict[str, Any]:
    """Applies a function to the tensors of each column, one from each log."""
    ids = {name: function(*(log.ids[name] for log in logs)) for name in logs[0].ids}
    names = ["dense", "labels", "day"] + ["p_true"] * (logs[0].p_true is not None)
    return {"ids": ids} | {k: function(*(getattr(log, k) for log in logs)) for k in names}


def split_by_day(log: Log, train: int, validation: int, test: int) -> tuple[Log, Log, Log]:
    """Splits a log by time into three parts, each given by its last day, from day 0 on.

    No model is then fitted on impressions later than those that it is judged on.

    Raises:
        ValueError: If the days are not in ascending order.
        DataError: If a part has no impression.
    """
    if not 0 <= train < validation < test:
        days = f"train={train}, validation={validation}, test={test}"
        must = "they must be in ascending order, from day 0 on"
        raise ValueError(f"split_by_day: the last days are {days}; {must}.")
    parts = log.days(0, train), log.days(train + 1, validation), log.days(validation + 1, test)
    for k, part in zip(("train", "validation", "test"), parts):
        if len(part) == 0:
            last = f"the last day of this log is {int(log.day.max()) if len(log) else None}"
            raise DataError(f"split_by_day: no impression in {k}; {last}.")
    return parts

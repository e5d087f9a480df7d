"""`Log`: a columnar batch of impressions, the one thing that every source returns."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor


class DataError(ValueError):
    """Bad input, in one sentence: where it is, what is wrong, what would do."""


@dataclass(frozen=True)
class Schema:
    """What a model has to know of a log before it sees one impression.

    cardinality: for each id column, in order, the number of rows its table needs;
        ids lie in [0, cardinality).
    dense: names of the dense features, in order.
    objectives: names of the labels, in order, each later one the sparser by convention.
    """

    cardinality: dict[str, int]
    dense: tuple[str, ...]
    objectives: tuple[str, ...]


@dataclass(frozen=True)
class Log:
    """Impressions as columns; row k of each tensor is impression k.

    ids: one int64 tensor of shape (n,) for each id column.
    dense: float32, (n, n_dense).
    labels: float32 of zeros and ones, (n, n_objectives).
    day: int32, (n,), counted from the first day of the source.
    p_true: float32, (n, n_objectives), the probability that each label was drawn with;
        None where nobody knows it.
    """

    schema: Schema
    ids: dict[str, Tensor]
    dense: Tensor
    labels: Tensor
    day: Tensor
    p_true: Tensor | None = None

    def __post_init__(self) -> None:
        n, objectives = len(self.day), len(self.schema.objectives)
        expected = {f"ids[{name!r}]": (self.ids.get(name), torch.int64, (n,))
                    for name in self.schema.cardinality}  # fmt: skip
        expected["dense"] = (self.dense, torch.float32, (n, len(self.schema.dense)))
        expected["labels"] = (self.labels, torch.float32, (n, objectives))
        expected["day"] = (self.day, torch.int32, (n,))
        if self.p_true is not None:
            expected["p_true"] = (self.p_true, torch.float32, (n, objectives))
        for name, (column, dtype, shape) in expected.items():
            if column is None:
                raise DataError(f"Log: column {name} is in the schema but was not given.")
            if column.dtype != dtype or tuple(column.shape) != shape:
                raise DataError(
                    f"Log: {name} is {column.dtype} of shape {tuple(column.shape)}; "
                    f"it must be {dtype} of shape {shape}."
                )

    @property
    def objectives(self) -> tuple[str, ...]:
        return self.schema.objectives

    @property
    def device(self) -> torch.device:
        return self.day.device

    def __len__(self) -> int:
        return len(self.day)

    def __getitem__(self, rows: slice | Tensor) -> Log:
        """The impressions that a slice, a boolean mask or an index tensor names, in that order."""
        if isinstance(rows, int):
            raise TypeError("Log: index with a slice, a mask or an index tensor, not one integer.")
        return self._map(lambda column: column[rows])

    def days(self, first: int, last: int | None = None) -> Log:
        """The impressions of days first to last, both included; of day `first` alone by default."""
        last = first if last is None else last
        return self[(self.day >= first) & (self.day <= last)]

    def to(self, device: torch.device | str) -> Log:
        return self._map(lambda column: column.to(device))

    def with_labels(self, labels: Tensor) -> Log:
        """The same impressions with other labels, (n, n_objectives) float32."""
        return replace(self, labels=labels)

    def _map(self, f) -> Log:
        return replace(
            self,
            ids={name: f(column) for name, column in self.ids.items()},
            dense=f(self.dense),
            labels=f(self.labels),
            day=f(self.day),
            p_true=None if self.p_true is None else f(self.p_true),
        )

    @classmethod
    def concat(cls, logs: Sequence[Log]) -> Log:
        """One log after the other. The cardinalities of the result are the largest of each."""
        first = logs[0]
        for log in logs:
            same = (tuple(log.ids) == tuple(first.ids) and log.schema.dense == first.schema.dense
                    and log.objectives == first.objectives
                    and (log.p_true is None) == (first.p_true is None))  # fmt: skip
            if not same:
                raise DataError(
                    f"Log.concat: columns differ ({log.schema} and {first.schema}); "
                    "only logs of one source can be joined."
                )
        cardinality = {
            name: max(log.schema.cardinality[name] for log in logs) for name in first.ids
        }
        return cls(
            schema=replace(first.schema, cardinality=cardinality),
            ids={name: torch.cat([log.ids[name] for log in logs]) for name in first.ids},
            dense=torch.cat([log.dense for log in logs]),
            labels=torch.cat([log.labels for log in logs]),
            day=torch.cat([log.day for log in logs]),
            p_true=None if first.p_true is None else torch.cat([log.p_true for log in logs]),
        )

    def save(self, path: str | Path) -> None:
        """Writes one zstd Parquet file. The file appears whole or not at all."""
        path = Path(path)
        columns = {f"id:{name}": column for name, column in self.ids.items()}
        columns |= {f"dense:{name}": c for name, c in zip(self.schema.dense, self.dense.T)}
        columns |= {f"label:{name}": c for name, c in zip(self.objectives, self.labels.T)}
        columns["day"] = self.day
        if self.p_true is not None:
            columns |= {f"p_true:{name}": c for name, c in zip(self.objectives, self.p_true.T)}
        table = pa.table(
            {name: column.cpu().contiguous().numpy() for name, column in columns.items()}
        )
        cardinality = json.dumps(self.schema.cardinality)
        table = table.replace_schema_metadata({"multiepoch.cardinality": cardinality})
        partial = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            pq.write_table(table, partial, compression="zstd")
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)

    @classmethod
    def read(cls, path: str | Path) -> Log:
        """Reads what `save` wrote. DataError where it is missing, cut off or of another kind."""
        path = Path(path)
        if not path.exists():
            raise DataError(
                f"{path}: no such file; give the path of a Parquet file made by Log.save."
            )
        try:
            table = pq.read_table(path)
        except (pa.ArrowInvalid, OSError) as error:
            raise DataError(
                f"{path}: not a whole Parquet file ({str(error).splitlines()[0]}); write it again."
            ) from error
        metadata = (table.schema.metadata or {}).get(b"multiepoch.cardinality")
        if metadata is None:
            raise DataError(
                f"{path}: not written by Log.save; read it with a source of multiepoch.data."
            )

        def names(kind: str) -> tuple[str, ...]:
            return tuple(c.removeprefix(kind) for c in table.column_names if c.startswith(kind))

        def column(name: str) -> Tensor:
            return torch.from_numpy(np.array(table[name].to_numpy()))

        def matrix(kind: str) -> Tensor:
            columns = [column(kind + name) for name in names(kind)]
            return torch.stack(columns, dim=1) if columns else torch.zeros(len(table), 0)

        return cls(
            schema=Schema(json.loads(metadata), names("dense:"), names("label:")),
            ids={name: column(f"id:{name}") for name in names("id:")},
            dense=matrix("dense:"),
            labels=matrix("label:"),
            day=column("day"),
            p_true=matrix("p_true:") if names("p_true:") else None,
        )

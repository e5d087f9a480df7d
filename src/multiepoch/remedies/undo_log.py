"""Records of the rows an epoch touches: their number of lookups and their earlier values."""

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from multiepoch.optim.eager import at_least_float32
from multiepoch.remedies.row_counts import row_counts
from multiepoch.remedies.tables import as_bytes, check_fits, grown

Keep = Literal["table", "bfloat16", "cpu"] | Path
Columns = dict[str, Tensor]  # of k rows: their numbers, "rows", int64 (k,), and values, (k, ...)
_PIECE = 2**18  # rows read from a file at once


class Counts:
    """Counts the lookups of each row of a table, without waiting for the device."""

    def __init__(self, table: Tensor) -> None:
        self.table = table
        self.counts = torch.zeros(len(table), dtype=torch.int32, device=table.device)

    def add(self, rows: Tensor, occurrences: Tensor, values: Callable) -> None:
        self.counts = grown(self.counts, self.table)
        self.counts.index_add_(0, rows, occurrences.int())

    def forget(self, rows: Tensor, occurrences: Tensor) -> None:
        """Takes a batch out of the counts again."""
        self.counts.index_add_(0, rows, -occurrences.int())

    def few(self, below: float) -> tuple[Tensor, Tensor]:
        """Returns the rows touched fewer than `below` times, ascending, and their lookups, (k,)."""
        rows = ((self.counts > 0) & (self.counts < below)).nonzero().squeeze(1)
        return rows, self.counts.index_select(0, rows)

    @property
    def n_bytes(self) -> int:
        return self.counts.nbytes

    def state_dict(self) -> dict[str, Tensor]:
        self.counts = grown(self.counts, self.table)
        return {"counts": self.counts.clone()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        if (n := len(state["counts"])) != len(self.counts):
            found = f"the state counts {n} rows, the table has {len(self.counts)}"
            raise ValueError(f"{found}: load the state of a table of the same shape")
        self.counts.copy_(state["counts"])


class UndoLog:
    """Counts the lookups of touched rows and keeps their values from before the first one.

    They are in a chunk for each step that touched new rows, or in a file; `keep` is as `undo_log`
    for `Rewind`.
    """

    def __init__(self, table: Tensor, keep: Keep = "table") -> None:
        self.table, self.keep = table, keep
        self._clear()

    def _clear(self) -> None:
        self.lookups = row_counts(self.table)
        self.chunks: list[Columns] = []
        self.file = RowFile(self.keep) if isinstance(self.keep, Path) else None

    def add(self, rows: Tensor, occurrences: Tensor, values: Callable) -> None:
        """Counts a batch, and keeps the rows that are new; neither if an error is raised."""
        new = self.lookups.add(rows, occurrences.int())
        try:
            if len(new):
                old = {name: value.index_select(0, new) for name, value in values().items()}
                self._keep({"rows": new, **old})
        except BaseException:  # such as a full disk, after which the step may be tried again
            self._uncount(rows, occurrences)
            raise

    def forget(self, rows: Tensor, occurrences: Tensor) -> None:
        """Forgets the batch that was added last."""
        n_new = self._uncount(rows, occurrences)
        if self.file is not None:
            self.file.n -= n_new
        elif n_new:
            self.chunks.pop()

    def _uncount(self, rows: Tensor, occurrences: Tensor) -> int:
        """Takes a batch out of the counts again; returns how many rows were new with it."""
        ids, counts = self.lookups.all()
        counts.index_add_(0, torch.searchsorted(ids, rows), -occurrences.int())
        left = counts > 0
        self.lookups = row_counts(self.table)
        self.lookups.add(ids[left], counts[left])
        return int((~left).sum())

    def _keep(self, columns: Columns) -> None:
        if self.keep == "bfloat16":
            columns = {k: v.bfloat16() if v.is_floating_point() else v for k, v in columns.items()}
        if self.file is not None:
            self.file.append(columns)
            return
        device = torch.device("cpu") if self.keep == "cpu" else self.table.device
        # New rows are the first of a longer tensor, which a copy sets free.
        self.chunks.append({k: v.to(device, copy=k == "rows") for k, v in columns.items()})

    def put_back(self, below: float) -> Iterator[Columns]:
        """Yields rows touched fewer than `below` times, in pieces; drops others, save in a file."""
        pieces = self.chunks if self.file is None else _pieces(self.file.columns())
        for k, columns in enumerate(pieces):
            few = self.lookups.of(columns["rows"].to(self.table.device)) < below
            if not few.all():
                at = few.nonzero().squeeze(1).to(columns["rows"].device)
                columns = {name: column.index_select(0, at) for name, column in columns.items()}
            if self.file is None:
                self.chunks[k] = columns
            yield columns

    def few(self, below: float) -> tuple[Tensor, Tensor]:
        """Returns the rows touched fewer than `below` times, ascending, and their lookups, (k,)."""
        rows, counts = self.lookups.all()
        few = counts < below
        return rows[few], counts[few]

    @property
    def n_bytes(self) -> int:
        """The memory in bytes, without that of files."""
        kept = sum(column.nbytes for chunk in self.chunks for column in chunk.values())
        return self.lookups.n_bytes + kept

    def state_dict(self) -> dict[str, Any]:
        """Returns the state as copies; values in a file are mapped, not read into memory."""
        ids, counts = (part.clone() for part in self.lookups.all())
        values = {} if self.file is None else self.file.columns()
        if self.chunks:
            values = {k: torch.cat([one[k] for one in self.chunks]) for k in self.chunks[0]}
        rows = values.pop("rows", ids[:0])
        return {"ids": ids, "counts": counts, "rows": rows, "values": values}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores a saved state, whatever the `keep` of the log that saved it."""
        device = self.table.device
        ids, counts = (state[name].to(device) for name in ("ids", "counts"))
        values = state["values"]
        check_fits("the rows of the undo log", ids, values.get("weight"), self.table)
        self._clear()
        self.lookups.add(ids, counts)
        for piece in _pieces({"rows": state["rows"], **values}):
            self._keep({name: self._exact(name, column) for name, column in piece.items()})

    def _exact(self, name: str, value: Tensor) -> Tensor:
        """Copies a saved value in the dtype of the table or its state; it may be in bfloat16."""
        dtype = self.table.dtype if name == "weight" else at_least_float32(self.table.dtype)
        return value.to(dtype if value.is_floating_point() else value.dtype, copy=True)

    def __getstate__(self) -> dict[str, Any]:
        return {"table": self.table, "keep": self.keep, "state": self.state_dict()}

    def __setstate__(self, state: dict[str, Any]) -> None:  # a copy has files of its own
        self.table, self.keep = state["table"], state["keep"]
        self.load_state_dict(state["state"])


class RowFile:
    """Columns of rows that only grow, each in a file without a name that ends with this object."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.n, self.process = folder, 0, os.getpid()
        self.files: dict[str, Any] = {}
        self.kinds: dict[str, tuple[torch.dtype, torch.Size]] = {}  # dtype, shape of a row

    def append(self, columns: Columns) -> None:
        """Appends k rows, with the same columns every time."""
        if os.getpid() != self.process:
            fork = f"belongs to process {self.process}, and this is a fork of it"
            remedy = "train in that process, or build the Rewind in this one"
            raise RuntimeError(f"the undo log in {self.folder} {fork}: {remedy}")
        for name, column in columns.items():
            self._write(name, column)
        self.n += len(column)

    def _write(self, name: str, column: Tensor) -> None:
        if name not in self.files:
            self.kinds[name] = column.dtype, column.shape[1:]
            self.files[name] = tempfile.TemporaryFile(dir=self.folder, buffering=0)  # noqa: SIM115
        self.files[name].seek(self.n * column[:1].nbytes)  # over what a failed write has left
        left = as_bytes(column.cpu()).flatten().numpy().data
        while left:  # `tofile` does not hear of a disk that is full when it closes its own file
            left = left[self.files[name].write(left) :]

    def columns(self) -> Columns:
        """Maps the files into memory; no column if there is no row."""
        if self.n == 0:
            return {}
        found = {}
        for name, (dtype, shape) in self.kinds.items():
            size = self.n * shape.numel() * dtype.itemsize
            mapped = np.memmap(self.files[name], np.uint8, "c", shape=size)
            found[name] = torch.from_numpy(mapped).view(dtype).view(self.n, *shape)
        return found


def _pieces(columns: Columns) -> Iterator[Columns]:
    for k in range(0, len(columns.get("rows", ())), _PIECE):
        yield {name: column[k : k + _PIECE] for name, column in columns.items()}

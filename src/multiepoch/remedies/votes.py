"""The votes of `LeaveOneOutRows`: how they are kept, left out of what is read, and replaced.

A vote is the last change that a lookup made to its row. It is kept in dim + 2 bytes: dim multiples
of a scale, int8, and the scale, a bfloat16; or, whole, in 4 dim + 2 bytes. A scale of 0 says that
there is no vote. The votes of an impression lie side by side in its record, uint8 (width,).

`_kernels_votes.cpp` repeats `leave_out` and `vote` for tables on a CPU, operation by operation, so
that both round alike.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from multiepoch.optim import compiled

# What a row of no votes counts already: the first few votes move it less than Adagrad's would.
EARLIER = 4.0


class VoteStore:
    """The record of every impression that voted, in memory or in a file that ends with this object.

    Args:
        width: Bytes of a record, a multiple of 4.
        folder: Of the file; None for memory.
    """

    def __init__(self, width: int, folder: Path | None) -> None:
        self.width, self.folder = width, folder
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        self.clear()

    def clear(self) -> None:
        """Forgets all votes."""
        # As words of 4 bytes, which are copied four times as fast.
        self.n, self._all = 0, torch.zeros(0, self.width // 4, dtype=torch.int32)
        self._file = None
        if self.folder is not None:  # it has no name, so that it ends with whatever has it open
            self._file = tempfile.TemporaryFile(dir=self.folder)  # noqa: SIM115

    def of(self, impressions: Tensor) -> Tensor:
        """Copies the records of impressions, int64 (n,), to their device: uint8 (n, width)."""
        at = impressions.cpu()
        n = max(self.n, int(at.max()) + 1 if len(at) else 0)
        if n > len(self._all):
            try:
                self._lengthen(max(n, 2 * len(self._all)))
            except (MemoryError, OSError, OverflowError, ValueError) as error:
                raise ValueError(
                    f"there is no room for the votes of impressions up to number {n - 1:,}, at "
                    f"{self.width} bytes each: number them from 0 on, without gaps"
                ) from error
        self.n = n
        return self._all.index_select(0, at).view(torch.uint8).to(impressions.device)

    def replace(self, impressions: Tensor, records: Tensor) -> None:
        """Keeps the records, (n, width), of impressions that `of` was asked for."""
        self._all.index_copy_(0, impressions.cpu(), records.cpu().view(torch.int32))

    def _lengthen(self, n: int) -> None:
        """Makes room for n records. Room that is not used takes no memory: it is never written."""
        shape = n, self.width // 4
        if self._file is not None:
            self._file.truncate(n * self.width)
            mapped = np.memmap(self._file, np.int32, "r+", shape=shape)
            self._all = torch.from_numpy(mapped)
            return
        longer = torch.from_numpy(np.zeros(shape, np.int32))
        longer[: len(self._all)] = self._all
        self._all = longer

    @property
    def n_bytes(self) -> int:
        """The memory in bytes, without that of a file."""
        return self.n * self.width if self.folder is None else 0

    def state(self) -> Tensor:
        """Returns the records, (n, width): a copy or, of a file, the mapped file itself."""
        kept = self._all[: self.n]
        return (kept.clone() if self.folder is None else kept).view(torch.uint8)

    def load(self, records: Tensor) -> None:
        """Restores the records of a state; raises a ValueError if they are of another width."""
        if records.shape[1:] != (self.width,):
            what = f"the votes in the state are of shape {tuple(records.shape)}"
            raise ValueError(f"{what}, and those here have {self.width} bytes an impression")
        self.clear()
        self.of(torch.arange(len(records)))
        self._all[: len(records)] = records.view(torch.int32)


def vote_bytes(dim: int, bits: int) -> int:
    """Returns the size of a vote of a row of `dim` weights."""
    return dim * bits // 8 + 2


def read_votes(records: Tensor, at: Tensor, dim: int, bits: int) -> tuple[Tensor, Tensor]:
    """Returns m votes, float32 (m, dim), zeros where there is none, and where one is, bool (m,).

    Args:
        records: Of the impressions of a batch, uint8 (n, width).
        at: The first byte of each vote in the flat records, int64 (m,).
        dim: Weights of a row.
        bits: 8, or 32 for whole votes.
    """
    span = _span(at, dim, bits)
    scale = records.view(-1)[span[:, -2:]].view(torch.bfloat16).float()
    parts = records.view(-1)[span[:, :-2]].view(torch.int8 if bits == 8 else torch.float32)
    return scale * parts.float(), scale[:, 0] != 0


def write_votes(records: Tensor, at: Tensor, change: Tensor, bits: int) -> Tensor:
    """Keeps changes, (m, dim), as votes; returns them as kept."""
    if bits == 8:
        scale = (change.abs().amax(dim=1, keepdim=True).clamp(min=1e-30) / 127).bfloat16()
        whole = (change / scale.float()).round()
        parts, change = whole.to(torch.int8), scale.float() * whole
    else:
        parts, scale = change, torch.ones_like(change[:, :1], dtype=torch.bfloat16)
    found = torch.cat([_as_bytes(parts), _as_bytes(scale)], dim=1)
    records.view(-1)[_span(at, change.shape[1], bits)] = found
    return change


def _as_bytes(values: Tensor) -> Tensor:
    # A clone, since a single row may have a stride of 0, which has no view as bytes.
    return values.clone(memory_format=torch.contiguous_format).view(torch.uint8)


def _span(at: Tensor, dim: int, bits: int) -> Tensor:
    return at[:, None] + torch.arange(vote_bytes(dim, bits), device=at.device)


def copy_votes(records: Tensor, origin: Tensor, at: Tensor, dim: int, bits: int) -> None:
    """Copies votes within the flat records, from the places `origin` to `at`, int64 (m,)."""
    flat = records.view(-1)
    flat[_span(at, dim, bits)] = flat[_span(origin, dim, bits)]


def leave_out(
    records: Tensor,
    at: Tensor,
    place: Tensor | None,
    share: Tensor | None,
    read: Tensor,
    bits: int,
    fused: bool,
) -> None:
    """Takes m votes out of what is read, (n, dim): vote i, times share[i], out of row place[i].

    Without `place` and `share`, int64 and float32 (m,), whole and out of row i. `fused` takes the
    compiled kernel.
    """
    if fused:
        sizes = len(at), read.shape[1], bits // 8
        compiled.call("leave_out", records, at, place, share, *sizes, read)
        return
    own, _ = read_votes(records, at, read.shape[1], bits)
    own = own if share is None else own * share[:, None]
    if place is None:
        read.sub_(own)
    else:
        read.index_add_(0, place, own, alpha=-1)


def vote(
    ids: Tensor,
    at: Tensor,
    gradient: Tensor,
    records: Tensor,
    bits: int,
    weight: Tensor,
    count: Tensor,
    below: int,
    mean_square: Tensor,
    newest: float,
    lr: float,
    fused: bool,
    rows: Tensor,
    together: Callable[[Tensor], Tensor],
) -> None:
    """Lets the lookups of a batch replace their votes, in the records and in their rows.

    Args:
        ids, at, gradient: Of each lookup: its row, int64 (m,); the place of its vote; and the
            gradient of its impression's loss, float32 (m, dim).
        records, bits: As in `read_votes`. The records change, as do the next three.
        weight, count: The table, (n_rows, dim), and the votes of each row, int32 (n_rows,).
        below: A row with fewer votes keeps them.
        mean_square, newest: Of the gradients of the table, float64 (dim,), and the share of this
            batch in it.
        fused: Takes the compiled kernel, in one sweep over the lookups, for one process.
        rows, together: The ids of all processes, and what concatenates their entries, (m, ...).
    """
    if fused:
        sizes = len(ids), weight.shape[1], bits // 8
        of_table = weight, count, below, mean_square, newest, lr, EARLIER
        compiled.call("vote", ids.contiguous(), at, gradient, *sizes, records, *of_table)
        torch.autograd.graph.increment_version(weight)
        return
    few = count[ids] < below
    own, had = read_votes(records, at, weight.shape[1], bits)
    again = few & had
    count.index_add_(0, rows, together(~again).int())
    square = together(gradient.double().square().sum(dim=0, keepdim=True)).sum(dim=0)
    mean_square += newest * (square / len(rows) - mean_square)
    rate = (lr / mean_square.clamp(min=1e-60).sqrt()).float()
    n = count[ids].float()
    root = (n + EARLIER).sqrt()
    step = torch.where(again, 2 * (root - EARLIER**0.5) / n, 1 / root)
    change = -step[:, None] * (rate * gradient)
    change[few] = write_votes(records, at[few], change[few], bits)
    change[again] -= own[again]
    # Of a row that has become frequent a vote stays, and is no longer known.
    gone = _span(at[had & ~few], weight.shape[1], bits)
    records.view(-1)[gone[:, -2:]] = 0  # the scale
    weight.index_add_(0, rows, together(change))

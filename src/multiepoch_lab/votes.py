"""The votes of `LeaveOneOutRows`: how they are kept, left out of what is read, and replaced.

A vote is the last change that a lookup made to its row. It is kept in dim + 2 bytes: dim multiples
of a scale, int8, and the scale, a bfloat16; or, whole, in 4 dim + 2 bytes. A scale of 0 says that
there is no vote. The votes of an impression lie side by side in its record, uint8 (width,).

`_kernels_votes.cpp` repeats `leave_out` and `vote` of a table on a CPU, operation by operation, so
that both round alike.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from multiepoch.optim import compiled
from multiepoch.remedies.tables import as_bytes, grown
from multiepoch_lab.passes import Call

_SLOWEST = 1000  # steps over which the mean square of a table is taken
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
                votes = (
                    f"the votes of impressions up to number {n - 1:,}, at {self.width} bytes each"
                )
                remedy = "number them from 0 on, without gaps"
                raise ValueError(f"there is no room for {votes}: {remedy}") from error
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


class Lookups(NamedTuple):
    """The m lookups of a table in a batch."""

    ids: Tensor  # int64 (m,), the row of each
    at: Tensor  # int64 (m,), the first byte of its vote in the flat records
    gradient: Tensor  # float32 (m, dim), of the loss of its impression


class VotedTable:
    """A table, the votes of its rows, and the mean square of its gradients, float64 (dim,).

    Args:
        weight: The table, float32 (n_rows, dim).
        below: A row with fewer votes keeps them.
        bits: Of each weight in a vote; 8, or 32 for whole votes.
        together: Concatenates the entries, (m, ...), of all processes.
    """

    def __init__(
        self, weight: Tensor, below: float, bits: int, together: Callable[[Tensor], Tensor]
    ) -> None:
        self.weight, self.bits, self.together = weight, bits, together
        self.below = int(min(below, 2**31 - 1))
        self.slots = self.steps = 0  # votes of the table in a record, and steps that it has taken
        # By pass since `zero_grad`: rows, places of votes, and the size of the batch for each.
        self.found: list[tuple[Tensor, Tensor, Tensor]] = []
        self.size = weight.shape[1] * bits // 8 + 2  # of a vote, in bytes
        self.count = torch.zeros(len(weight), dtype=torch.int32, device=weight.device)
        self.mean_square = torch.zeros(weight.shape[1], dtype=torch.float64, device=weight.device)

    def state(self) -> dict[str, Any]:
        self.count = grown(self.count, self.weight)
        kept = {"count": self.count.clone(), "mean_square": self.mean_square.clone()}
        return kept | {"steps": self.steps}

    def load(self, state: dict[str, Any]) -> None:
        self.steps, self.found = state["steps"], []
        for name in ("count", "mean_square"):
            setattr(self, name, state[name].to(self.weight.device, copy=True))

    def read(self, records: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
        """Returns m votes, (m, dim), zeros where there is none, and where one is, bool (m,).

        `at` is the first byte of each, int64 (m,), in the flat records, uint8 (n, width).
        """
        flat, span = records.view(-1), self._span(at)
        scale = flat[span[:, -2:]].view(torch.bfloat16).float()
        parts = flat[span[:, :-2]].view(torch.int8 if self.bits == 8 else torch.float32)
        return scale * parts.float(), scale[:, 0] != 0

    def _write(self, records: Tensor, at: Tensor, change: Tensor) -> Tensor:
        """Keeps changes, (m, dim), as votes; returns them as kept."""
        if self.bits == 8:
            scale = (change.abs().amax(dim=1, keepdim=True).clamp(min=1e-30) / 127).bfloat16()
            whole = (change / scale.float()).round()
            parts, change = whole.to(torch.int8), scale.float() * whole
        else:
            parts, scale = change, torch.ones_like(change[:, :1], dtype=torch.bfloat16)
        found = torch.cat([as_bytes(parts), as_bytes(scale)], dim=1)
        records.view(-1)[self._span(at)] = found
        return change

    def _span(self, at: Tensor) -> Tensor:
        return at[:, None] + torch.arange(self.size, device=at.device)

    def leave_out(self, records: Tensor, call: Call, fused: bool) -> None:
        """Takes the votes of a call out of what it read; `fused` takes the compiled kernel."""
        at, place, share = call.at, call.place, call.share
        read = call.read.view(-1, call.read.shape[-1])
        if fused:
            sizes = len(at), read.shape[1], self.bits // 8
            compiled.call("leave_out", records, at, place, share, *sizes, read)
            return
        own, _ = self.read(records, at)
        own = own if share is None else own * share[:, None]
        if place is None:
            read.sub_(own)
        else:
            read.index_add_(0, place, own, alpha=-1)

    def vote(self, lookups: Lookups, records: Tensor, lr: float, fused: bool) -> None:
        """Lets lookups replace their votes, in their records, uint8 (n, width), and in their rows.

        `fused` takes the compiled kernel, in one sweep over the lookups, for one process.
        """
        (ids, at, gradient), weight = lookups, self.weight.detach()
        if self.slots > 1:  # the lookups of one row by one impression have one vote together
            key = at // records.shape[1] * len(weight) + ids
            key, which = key.unique(return_inverse=True)
            gradient = gradient.new_zeros(len(key), weight.shape[1]).index_add_(0, which, gradient)
            last = torch.empty_like(key).index_copy_(0, which, torch.arange(len(at)).to(at))
            every, ids, at = at, ids[last], at[last]
        self.count = grown(self.count, weight)
        rows = self.together(ids)  # of all processes
        if len(rows) == 0:
            return
        self.steps += 1
        newest = 1 / min(self.steps, _SLOWEST)
        if fused:
            sizes = len(ids), weight.shape[1], self.bits // 8
            of_table = weight, self.count, self.below, self.mean_square, newest, lr, EARLIER
            arrays = ids.contiguous(), at, gradient.contiguous()
            compiled.call("vote", *arrays, *sizes, records, *of_table)
            torch.autograd.graph.increment_version(weight)
        else:
            self._vote(ids, at, gradient, records, rows, newest, lr)
        if self.slots > 1:
            flat = records.view(-1)
            flat[self._span(every)] = flat[self._span(at[which])]

    def _vote(self, ids, at, gradient, records, rows, newest: float, lr: float) -> None:
        """Does what the kernel does; `newest` is the share of this batch in the mean square."""
        few = self.count[ids] < self.below
        own, had = self.read(records, at)
        again = few & had
        self.count.index_add_(0, rows, self.together(~again).int())
        square = self.together(gradient.double().square().sum(dim=0, keepdim=True)).sum(dim=0)
        self.mean_square += newest * (square / len(rows) - self.mean_square)
        rate = (lr / self.mean_square.clamp(min=1e-60).sqrt()).float()
        n = self.count[ids].float()
        root = (n + EARLIER).sqrt()
        step = torch.where(again, 2 * (root - EARLIER**0.5) / n, 1 / root)
        change = -step[:, None] * (rate * gradient)
        change[few] = self._write(records, at[few], change[few])
        change[again] -= own[again]
        # Of a row that has become frequent a vote stays, and is no longer known.
        gone = self._span(at[had & ~few])
        records.view(-1)[gone[:, -2:]] = 0  # the scale
        self.weight.detach().index_add_(0, rows, self.together(change))

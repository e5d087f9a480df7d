"""Every method that a `Run` can name: the library's, the board's and the baselines."""

from __future__ import annotations

from multiepoch.methods import ALL_METHODS, TAU
from reproduction.remedies.baselines import BASELINES
from reproduction.remedies.board import BOARD
from reproduction.remedies.remedy import Remedy, hook, of
from reproduction.remedies.sum_rows import SumRows

# As the record of C18 has it. Its rows are sums, so its rates are 30 times as high.
_SUMS = Remedy("leave-one-out rows, sums", remedy=hook(SumRows), **TAU, scale=lambda _: 30.0)
# Of two entries of a name, the board's: its label and its search may differ.
METHODS: dict[str, Remedy] = (
    {name: of(name) for name in ALL_METHODS} | BASELINES | BOARD | {"leave_one_out": _SUMS}
)

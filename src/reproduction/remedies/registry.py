"""Every method that a `Run` can name: the library's, the board's and the baselines."""

from __future__ import annotations

from multiepoch.methods import ALL_METHODS
from reproduction.remedies.baselines import BASELINES
from reproduction.remedies.board import BOARD
from reproduction.remedies.remedy import Remedy, of

# Of two entries of a name, the board's: its label and its search may differ.
METHODS: dict[str, Remedy] = {name: of(name) for name in ALL_METHODS} | BASELINES | BOARD

"""Every method that a `Run` can name: the library's, the board's, and chapter 10's controls."""

from __future__ import annotations

from multiepoch.methods import ALL_METHODS
from reproduction.ch10_own_label.controls import CONTROLS
from reproduction.remedies.board import BOARD
from reproduction.remedies.remedy import Remedy, of

# Of two entries of a name, the library's: the board's differs in its label and its search alone.
METHODS: dict[str, Remedy] = BOARD | CONTROLS | {name: of(name) for name in ALL_METHODS}

"""Chapter 10's controls, which no one should train by: what each shows is in the chapter."""

from __future__ import annotations

from functools import partial

import torch

from multiepoch.methods import TAU, leave_one_out
from multiepoch.remedies import TwoFoldTables
from reproduction.remedies.remedy import Remedy, hook

CONTROLS: dict[str, Remedy] = {
    "leave_one_out_bf16": Remedy(
        "leave-one-out rows, bfloat16 votes",
        remedy=partial(leave_one_out, votes=torch.bfloat16),
        **TAU,
    ),
    "leave_one_out_int8": Remedy(
        "leave-one-out rows, 8-bit votes",
        remedy=partial(leave_one_out, votes=torch.int8),
        **TAU,
    ),
    "sum_rule": Remedy(
        "tail rewind, sum rule",
        remedy=partial(leave_one_out, exclude=False, reset=True),
        **TAU,
    ),
    # The rule of "leave_one_out" with the leak.
    "in_sample": Remedy("in-sample rows", remedy=partial(leave_one_out, exclude=False), **TAU),
    "two_fold_tail": Remedy("two-fold tables, two passes", remedy=hook(TwoFoldTables), **TAU),
}

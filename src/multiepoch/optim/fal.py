"""A learning rate for each row of an embedding table, from how often the row was seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

Scale = Literal["log", "linear", "power", "threshold"]
Count = Literal["occurrences", "steps"]
SCALES, COUNTS = get_args(Scale), get_args(Count)


@dataclass(frozen=True)
class FrequencyAdaptiveLR:
    """FAL: full rate for the table's most frequent rows, less for infrequent ones.

    Row i of a table is trained at lr * s_i, where s_i in (0, 1] depends on F_i, how often the
    row was seen up to and including the batch at hand, and on M, the largest count in the table:

        scale="log"        s_i = log(F_i + 1) / log(M + 1)      (Qiu et al. 2025, arXiv 2505.05605)
        scale="linear"     s_i = F_i / M
        scale="power"      s_i = (F_i / M) ** exponent
        scale="threshold"  s_i = 1 where F_i >= threshold, otherwise `reduced`

    count: "occurrences" counts every lookup of a row, "steps" each batch it appears in once.
        Both are read from the gradient as torch hands it over. Where it was coalesced on the way
        (by DistributedDataParallel, say) a row counts once; and where a CPU adds the gradients of
        two backward passes, or of two features that share a table, torch merges some of the
        lookups of equal ids. "steps" is the same in every case.
    gap_decay: g in [0, 1]. In epoch e, counted from 0 and told by `optimizer.set_epoch(e)`, the
        rate is lr * (1 - (1 - s_i) g^e): the gap to the frequent rows closes as epochs go by.
        At 1, the default, it stays.

    ValueError where an argument is out of range.
    """

    scale: Scale = "log"
    count: Count = "occurrences"
    gap_decay: float = 1.0
    exponent: float = 0.5
    threshold: int = 10
    reduced: float = 0.1

    def __post_init__(self) -> None:
        for name, allowed in (("scale", SCALES), ("count", COUNTS)):
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"FrequencyAdaptiveLR: {name}={getattr(self, name)!r} is not known; "
                    f"use one of {', '.join(map(repr, allowed))}."
                )
        for name, low, high in (("gap_decay", 0, 1), ("reduced", 0, 1), ("exponent", 0, 10)):
            if not low <= getattr(self, name) <= high:
                raise ValueError(
                    f"FrequencyAdaptiveLR: {name}={getattr(self, name)} must lie "
                    f"between {low} and {high}."
                )
        if self.threshold < 1:
            raise ValueError(
                f"FrequencyAdaptiveLR: threshold={self.threshold} must be a count of at least 1."
            )

    def factor(self, count: Tensor, max_count: Tensor, epoch: int) -> Tensor:
        """What the table's rate is multiplied by, float32 (k,).

        count: int32 (k,), the counts of k rows, the batch at hand included.
        max_count: 0-dim, the largest count of the table.
        """
        if self.scale == "log":
            factor = count.float().log1p_() / max_count.float().log1p()
        elif self.scale == "linear":
            factor = count / max_count.float()
        elif self.scale == "power":
            factor = (count / max_count.float()).pow_(self.exponent)
        else:
            factor = torch.where(count >= self.threshold, 1.0, self.reduced)
        gap = self.gap_decay**epoch
        return factor if gap == 1.0 else factor.mul_(gap).add_(1.0 - gap)

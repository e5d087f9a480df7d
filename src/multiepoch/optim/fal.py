"""FAL: a learning rate for each row of an embedding table, from the row's frequency."""

from dataclasses import dataclass
from numbers import Integral
from typing import Literal, get_args

import torch
from torch import Tensor

Scale = Literal["log", "linear", "power", "threshold"]
Count = Literal["occurrences", "steps"]
SCALES, COUNTS = get_args(Scale), get_args(Count)


@dataclass(frozen=True)
class FrequencyAdaptiveLR:
    """Lowers the learning rate of infrequent embedding rows: FAL (arXiv 2505.05605).

    Row i of a table is trained at lr * s_i. The factor s_i in (0, 1] depends on F_i, the number of
    times the row has been seen so far, the current batch included, and on M, the largest such
    count in the table::

        scale="log"        s_i = log(F_i + 1) / log(M + 1)      (the paper's)
        scale="linear"     s_i = F_i / M
        scale="power"      s_i = (F_i / M) ** exponent
        scale="threshold"  s_i = 1 if F_i >= threshold, else `reduced`

    Args:
        scale: One of the four above.
        count: "occurrences" counts every lookup of a row in the gradient as torch delivers it; for
            several backward passes or processes, see `multiepoch.optim.lookups`. "steps" counts a
            row once per batch.
        gap_decay: g in [0, 1]. In epoch e, counted from 0 and set by `optimizer.set_epoch(e)`, the
            factor is 1 - (1 - s_i) g^e, so the gap to frequent rows closes over the epochs. At 1,
            the default, it is constant.
        exponent: For scale="power", between 0 and 10.
        threshold: For scale="threshold", a count of at least 1.
        reduced: For scale="threshold", the factor of rows below the threshold, in [0, 1].

    Raises:
        ValueError: If an argument is out of range.
    """

    scale: Scale = "log"
    count: Count = "occurrences"
    gap_decay: float = 1.0
    exponent: float = 0.5
    threshold: int = 10
    reduced: float = 0.1

    def __post_init__(self) -> None:
        for name, allowed in (("scale", SCALES), ("count", COUNTS)):
            if (value := getattr(self, name)) not in allowed:
                known = ", ".join(map(repr, allowed))
                raise ValueError(f"FrequencyAdaptiveLR: {name}={value!r} must be one of {known}.")
        bounds = {"gap_decay": 1, "reduced": 1, "exponent": 10}
        for name, high in bounds.items():
            if not 0 <= (value := getattr(self, name)) <= high:
                raise ValueError(f"FrequencyAdaptiveLR: {name}={value} must be in [0, {high}].")
            object.__setattr__(self, name, float(value))  # it may be NumPy's
        if not isinstance(self.threshold, Integral) or not 1 <= self.threshold < 2**31:
            must = "must be a whole number from 1 to 2,147,483,647, where counts end"
            raise ValueError(f"FrequencyAdaptiveLR: threshold={self.threshold!r} {must}.")
        object.__setattr__(self, "threshold", int(self.threshold))

    def factor(
        self, count: Tensor, max_count: Tensor, epoch: int, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """Returns the factors of k rows, (k,), computed in `dtype`.

        `_kernels.cpp` repeats this formula for tables on a CPU; the tests hold the two together.

        Args:
            count: F_i of the rows, int32 (k,).
            max_count: M, int32 ().
            epoch: Counted from 0.
            dtype: float32 or float64.
        """
        if self.scale == "threshold":
            factor = torch.full_like(count, self.reduced, dtype=dtype)
            factor.masked_fill_(count >= self.threshold, 1.0)
        elif self.scale == "log":
            factor = count.to(dtype).log1p_().div_(max_count.to(dtype).log1p())
        else:
            factor = count.to(dtype).div_(max_count.to(dtype))
            if self.scale == "power":
                factor.pow_(self.exponent)
        gap = self.gap_decay**epoch
        return factor if gap == 1.0 else factor.mul_(gap).add_(1.0 - gap)

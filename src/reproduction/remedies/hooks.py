"""What acts within the steps of a remedy, around an unchanged trainer.

It is kept out of `multiepoch`, since nobody should have to maintain what is here to be compared.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from multiepoch.optim.lookups import gradient_of
from multiepoch_lab.methods import Around


class TouchedL2(Around):
    """Adds `coefficient` times the weight to the gradient of each touched row, once a batch.

    By visit, as DiFacto does (Li et al., WSDM 2016), frequent rows shrink more in an epoch. With
    `even`, the coefficient is divided by the row's lookups so far: the mini-batch aware L2 of DIN
    (arXiv 1706.06978, 5.2), which is even over an epoch.
    """

    def __init__(self, model: nn.Module, coefficient: float, even: bool = False) -> None:
        super().__init__()
        self.coefficient, self.even = coefficient, even
        self.tables = list(model.table_parameters().values())
        self.counts = [torch.zeros(len(t), dtype=torch.int32, device=t.device) for t in self.tables]

    @property
    def n_bytes(self) -> int:
        return sum(count.nbytes for count in self.counts)

    def backward(self, impressions: Tensor, closure: Callable[[], Any]) -> Any:
        result = super().backward(impressions, closure)
        with torch.no_grad():
            for table, count in zip(self.tables, self.counts):
                ids, values = table.grad._indices(), table.grad._values()
                rows, slot, n = ids[0].unique(return_inverse=True, return_counts=True)
                count[rows] += n.int()
                spread = n * count[rows] if self.even else n  # over the lookups of the batch
                more = self.coefficient * table[rows] / spread[:, None]
                table.grad = gradient_of(ids, values + more[slot], table.shape)
        return result


class WholeTables(Around):
    """Trains tables by dense Adam, which moves every row in every step, and decays all of them.

    Args:
        model: The model; its tables get dense gradients from now on.
        dense_lr, embedding_lr: The learning rates.
        decay: An L2 penalty's coefficient (of |w|^2 / 2, added to the gradient) or, if decoupled,
            the weight decay of AdamW.
        decoupled: Decays as AdamW does, by the rate times `decay` in each step.
        dense_factor: Multiplies the dense rate from the second epoch on.
    """

    def __init__(
        self,
        model: nn.Module,
        dense_lr: float,
        embedding_lr: float,
        decay: float,
        decoupled: bool,
        dense_factor: float = 1.0,
    ) -> None:
        super().__init__()
        for module in model.modules():
            if isinstance(module, nn.Embedding):
                module.sparse = False
        tables = list(model.table_parameters().values())
        rule = torch.optim.AdamW if decoupled else torch.optim.Adam
        self.dense = torch.optim.Adam(model.dense_parameters(), lr=dense_lr)
        of_tables = rule(tables, lr=embedding_lr, weight_decay=decay, fused=True)
        self.optimizers = [self.dense, of_tables]
        self.dense_lr, self.dense_factor = dense_lr, dense_factor

    def before_epoch(self, index: int) -> None:
        """Sets the dense rate of the epoch."""
        for group in self.dense.param_groups:
            group["lr"] = self.dense_lr * (self.dense_factor if index else 1.0)

"""Models by which the interplay of ids is measured: the additive one has none of it."""

import torch
from torch import Tensor, nn

from multiepoch_lab.data import Schema
from multiepoch_lab.model import AdditiveModel, TableModel

WIDTH = 16  # of the vectors that meet, as in the full model


class FactorizationMachine(TableModel):
    """The additive model, and a weighted product of each pair of an impression's id vectors.

    Each objective has its own bias of an id and its own weights of the products' components: the
    model of Rendle (ICDM 2010), with the weights of He and Chua (SIGIR 2017) and no layers above.
    """

    def __init__(self, schema: Schema, n_buckets: int = 64) -> None:
        n = len(schema.objectives)
        super().__init__(schema, WIDTH + n, n_buckets, embedding_std=0.01)
        self.weight = nn.Parameter(torch.zeros(len(schema.dense), n))
        self.mix = nn.Parameter(torch.ones(WIDTH, n))
        self.bias = nn.Parameter(torch.zeros(n))

    start_at_ = AdditiveModel.start_at_

    def forward(self, ids: dict[str, Tensor], dense: Tensor) -> Tensor:
        """Returns logits, (n, n_objectives). ids: as in `Log`; dense: (n, n_dense)."""
        rows = torch.stack(self.vectors(ids))
        meet, biases = rows[..., :WIDTH], rows[..., WIDTH:]
        pairs = (meet.sum(dim=0).square() - meet.square().sum(dim=0)) / 2
        return dense @ self.weight + self.bias + biases.sum(dim=0) + pairs @ self.mix

"""The multi-task conversion model, and an additive one, which one with interplay of ids must beat.

The cross layer is that of DCN-v2 (Wang et al., 2021, arXiv 2008.13535, equation 1). The tables have
sparse gradients, so that the cost of a step depends on its batch, not on the size of the tables.
"""

from collections.abc import Iterable, Sequence
from itertools import chain, pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from multiepoch.optim.memory import use_huge_pages
from multiepoch_lab.data.log import Schema

# 2^64 over the golden ratio, made odd: multiplying by it spreads neighbouring ids over all bits.
_HASH_MULTIPLIER = 0x9E3779B97F4A7C15 - (1 << 64)


class TableModel(nn.Module):
    """Holds an embedding table for each id column of a log.

    `tables` has one `nn.Embedding(sparse=True)` per id column. All ids beyond `schema.cardinality`
    are hashed into the `n_buckets` rows after it. Parameters are drawn with torch's global
    generator, so `torch.manual_seed` makes the model reproducible.
    """

    def __init__(
        self, schema: Schema, embedding_dim: int, n_buckets: int, embedding_std: float
    ) -> None:
        super().__init__()
        if n_buckets < 1:
            raise ValueError(f"n_buckets is {n_buckets}; unknown ids need at least 1.")
        self.schema, self.n_buckets, self.embedding_std = schema, n_buckets, embedding_std
        self.tables = nn.ModuleDict()
        modules = zip(_module_names(schema.cardinality), schema.cardinality.values())
        for module, cardinality in modules:
            self.tables[module] = nn.Embedding(cardinality + n_buckets, embedding_dim, sparse=True)
        for weight in self.table_parameters().values():
            weight.data = use_huge_pages(torch.empty_like(weight))
            self.init_table_(weight)

    def vectors(self, ids: dict[str, Tensor]) -> list[Tensor]:
        """Looks up the vector of each id column, (n, embedding_dim) each."""
        return [table(rows) for table, rows in zip(self.tables.values(), self.rows(ids).values())]

    def rows(self, ids: dict[str, Tensor]) -> dict[str, Tensor]:
        """Returns the table row of each id: the id itself or, for an unknown id, its bucket."""
        rows = {}
        for name, cardinality in self.schema.cardinality.items():
            column = ids[name]
            if column.device.type == "cpu" and column.numel():  # a GPU would have to wait
                low, high = torch.stack(column.aminmax()).tolist()
                if low >= 0 and high < cardinality:
                    rows[name] = column
                    continue
            beyond = (column < 0) | (column >= cardinality)
            bucket = cardinality + ((column * _HASH_MULTIPLIER) >> 32) % self.n_buckets
            rows[name] = torch.where(beyond, bucket, column)
        return rows

    def losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Returns the mean logloss of each objective, in nats, (n_objectives,)."""
        return F.binary_cross_entropy_with_logits(logits, labels, reduction="none").mean(dim=0)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Returns the sum of the losses."""
        return self.losses(logits, labels).sum()

    @torch.no_grad()
    def init_table_(self, weight: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Redraws a table in place: normal, mean 0, standard deviation `embedding_std`."""
        return weight.normal_(0.0, self.embedding_std, generator=generator)

    def table_parameters(self) -> dict[str, nn.Parameter]:
        """Returns the weight of each table, by id column."""
        tables = zip(self.schema.cardinality, self.tables.values())
        return {name: table.get_parameter("weight") for name, table in tables}

    def dense_parameters(self) -> list[nn.Parameter]:
        """Returns every parameter that is not a table."""
        return [p for name, p in self.named_parameters() if not name.startswith("tables.")]


class ConversionModel(TableModel):
    """Predicts every objective of a log for each impression.

    Args:
        schema: The columns of the log.
        embedding_dim: Width of every table.
        hidden: Widths of the layers that all objectives share.
        tower: Widths of the layers that each objective has to itself.
        cross_layers: Number of cross layers.
        n_buckets: Rows for unknown ids, in each table.
        embedding_std: Standard deviation of the tables' initial values.

    Raises:
        ValueError: If there is no bucket.
    """

    def __init__(
        self,
        schema: Schema,
        embedding_dim: int = 16,
        hidden: Sequence[int] = (128, 64),
        tower: Sequence[int] = (32,),
        cross_layers: int = 1,
        n_buckets: int = 64,
        embedding_std: float = 0.01,
    ) -> None:
        super().__init__(schema, embedding_dim, n_buckets, embedding_std)
        width = embedding_dim * len(self.tables) + len(schema.dense)
        self.cross = nn.ModuleList(nn.Linear(width, width) for _ in range(cross_layers))
        self.bottom = _layers(width, *hidden)
        shared = hidden[-1] if hidden else width
        self.towers = nn.ModuleDict()
        for module in _module_names(schema.objectives):
            layers = _layers(shared, *tower)
            self.towers[module] = layers.append(nn.Linear([shared, *tower][-1], 1))

    def forward(self, ids: dict[str, Tensor], dense: Tensor) -> Tensor:
        """Returns logits, (n, n_objectives). ids: as in `Log`; dense: (n, n_dense)."""
        x = x0 = torch.cat([*self.vectors(ids), dense], dim=1)  # (n, width)
        for cross in self.cross:
            x = x0 * cross(x) + x
        x = self.bottom(x)  # (n, hidden[-1])
        return torch.cat([tower(x) for tower in self.towers.values()], dim=1)


class AdditiveModel(TableModel):
    """Adds a bias for each id and a linear term of the dense features: logistic regression.

    Each table has one column per objective, and begins at zero. A rule with one rate per row, such
    as row-wise Adagrad, would let the densest objective set the pace of the others: train it by
    Adagrad, and from `start_at_`, or the rows of rare ids learn what is every row's. Arguments and
    errors are those of `ConversionModel`.
    """

    def __init__(self, schema: Schema, n_buckets: int = 64) -> None:
        super().__init__(schema, len(schema.objectives), n_buckets, embedding_std=0.0)
        self.weight = nn.Parameter(torch.zeros(len(schema.dense), len(schema.objectives)))
        self.bias = nn.Parameter(torch.zeros(len(schema.objectives)))

    @torch.no_grad()
    def start_at_(self, rates: Tensor) -> None:
        """Lets an impression without known ids have these positive rates, (n_objectives,)."""
        self.bias.copy_(rates.clamp(1e-6, 1 - 1e-6).logit())

    def forward(self, ids: dict[str, Tensor], dense: Tensor) -> Tensor:
        """Returns logits, (n, n_objectives). ids: as in `Log`; dense: (n, n_dense)."""
        return dense @ self.weight + self.bias + torch.stack(self.vectors(ids)).sum(dim=0)


def _module_names(names: Iterable[str]) -> list[str]:
    """Changes names that nn.ModuleDict refuses, such as "a.b" or "type"; all stay distinct."""
    taken: list[str] = []
    for name in names:
        safe = name.replace(".", "_dot_")
        while hasattr(nn.ModuleDict(), safe) or safe in taken:
            safe += "_"
        taken.append(safe)
    return taken


def _layers(*widths: int) -> nn.Sequential:
    """Stacks linear layers from each width to the next, each followed by a ReLU."""
    layers = ((nn.Linear(n_in, n_out), nn.ReLU()) for n_in, n_out in pairwise(widths))
    return nn.Sequential(*chain.from_iterable(layers))

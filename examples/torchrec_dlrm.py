"""DLRM on TorchRec, four epochs over a day, with MEDA and the mean of the ends; --plain: one epoch.

python -m torch.distributed.run --standalone --nproc-per-node 2 examples/torchrec_dlrm.py
"""

import gc
import sys
from functools import partial

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import torchrec
from torch.distributed.optim import _apply_optimizer_in_backward as apply_optimizer_in_backward
from torchrec.datasets.utils import Batch
from torchrec.models.dlrm import DLRM, DLRMTrain

from multiepoch import meda
from multiepoch.torchrec import ShardedOptimizer, ShardedState, sharding_plan
from multiepoch_lab.data import AdsWorld

dist.init_process_group("gloo")
torch.manual_seed(0)
rank, n_processes, n_epochs = (
    dist.get_rank(),
    dist.get_world_size(),
    4 - 3 * ("--plain" in sys.argv),
)
world = AdsWorld(seed=0, n_users=20_000, n_products=10_000)
train, test = world.day(0, n=200_000), world.day(1, n=50_000)
n_rows, size = train.schema.cardinality, 1024
configs = [
    torchrec.EmbeddingBagConfig(num_embeddings=n, embedding_dim=16, name=k, feature_names=[k])
    for k, n in n_rows.items()
]
tables = torchrec.EmbeddingBagCollection(configs)
model = DLRMTrain(DLRM(tables, train.dense.shape[1], [32, 16], [128, 64, 1]))
apply_optimizer_in_backward(torchrec.optim.RowWiseAdagrad, tables.parameters(), {"lr": 0.1})
model = torchrec.distributed.DistributedModelParallel(
    model, plan=sharding_plan(model, dict.fromkeys(n_rows, "row_wise")), device=torch.device("cpu")
)
optimizer = ShardedOptimizer(model, partial(torch.optim.Adam, lr=1e-3))
repeat = meda(model, optimizer, dense_factor=0.1, average=True)
state = {"run": ShardedState(model, optimizer, repeat)}


def loss_of(log, start: int, end: int) -> torch.Tensor:
    n = (end - start) // n_processes
    log = log[start + rank * n : start + (rank + 1) * n]
    ids = torch.cat([log.ids[k] % n for k, n in n_rows.items()])  # new ids share rows
    kjt = torchrec.KeyedJaggedTensor(list(n_rows), ids, lengths=torch.ones_like(ids))
    return model(Batch(log.dense, kjt, log.labels[:, 0]))[0]


for epoch in repeat.epochs(n_epochs):
    for k in range(len(train) // size):
        optimizer.zero_grad()
        loss_of(train, k * size, (k + 1) * size).backward()
        optimizer.step()
    repeat.end_epoch()
    with torch.no_grad(), repeat.serving():
        dist.all_reduce(loss := loss_of(test, 0, len(test)))
    if rank == 0:
        print(f"after epoch {epoch + 1}: {loss / n_processes:.4f}")
    dcp.save(state, checkpoint_id=f"checkpoints/{epoch + 1}")

# Let go of the model while the process group is there: Python's end may abort Gloo's threads.
model = tables = optimizer = repeat = state = None
gc.collect()
dist.destroy_process_group()

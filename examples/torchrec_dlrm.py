"""DLRM on TorchRec, two epochs over a day, with FAL and tail rewind; --plain: without them.

python -m torch.distributed.run --standalone --nproc-per-node 2 examples/torchrec_dlrm.py
"""

import gc
import sys
from functools import partial

import torch
import torch.distributed as dist
import torchrec
from torch.distributed.optim import _apply_optimizer_in_backward as apply_optimizer_in_backward
from torchrec.datasets.utils import Batch
from torchrec.models.dlrm import DLRM, DLRMTrain

from multiepoch import FrequencyAdaptiveLR, tail_rewind
from multiepoch.torchrec import ShardedOptimizer, save, sharding_plan
from multiepoch_lab.data import AdsWorld

dist.init_process_group("gloo")
torch.manual_seed(0)
rank, n_processes, remedy = dist.get_rank(), dist.get_world_size(), "--plain" not in sys.argv
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
row_lr, adam = FrequencyAdaptiveLR() if remedy else None, partial(torch.optim.Adam, lr=1e-3)
optimizer = ShardedOptimizer(model, adam, row_lr)
rewind = tail_rewind(model, optimizer, below=100 if remedy else 0, serve="blend")


def loss_of(log, start: int, end: int) -> torch.Tensor:
    n = (end - start) // n_processes
    log = log[start + rank * n : start + (rank + 1) * n]
    ids = torch.cat([log.ids[k] % n for k, n in n_rows.items()])  # new ids share rows
    kjt = torchrec.KeyedJaggedTensor(list(n_rows), ids, lengths=torch.ones_like(ids))
    return model(Batch(log.dense, kjt, log.labels[:, 0]))[0]


for epoch in range(2):
    rewind.before_epoch(epoch)
    for k in range(n_steps := len(train) // size):
        optimizer.zero_grad()
        loss_of(train, k * size, (k + 1) * size).backward()
        optimizer.step()
        if k + 1 in (n_steps // 2, n_steps):
            with torch.no_grad(), rewind.serving():
                dist.all_reduce(loss := loss_of(test, 0, len(test)))
            if rank == 0:
                print(f"epoch {epoch + (k + 1) / n_steps:.1f}: {loss / n_processes:.4f}")
    save("checkpoints", model, optimizer, rewind, extra={"epoch": epoch})

# Let go of the model while the process group is there: Python's end may abort Gloo's threads.
model = tables = optimizer = rewind = None
gc.collect()
dist.destroy_process_group()

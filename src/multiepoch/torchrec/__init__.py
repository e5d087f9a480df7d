"""The remedies on sharded tables: TorchRec's `DistributedModelParallel` over FBGEMM.

    optimizer = ShardedOptimizer(model, dense, row_lr=FrequencyAdaptiveLR())
    rewind = tail_rewind(model, optimizer, below=100)   # the call for one process
    torch.distributed.checkpoint.save({"run": ShardedState(model, optimizer, rewind)}, ...)

Needs TorchRec and FBGEMM, which `multiepoch` itself does not.
"""

try:
    import torchrec as _  # noqa: F401
except ImportError as error:
    raise ImportError(
        "multiepoch.torchrec needs TorchRec: pip install 'multiepoch[torchrec]', or on a machine "
        "without a GPU fbgemm-gpu-cpu first and then torchrec with --no-deps."
    ) from error

from multiepoch.torchrec.optimizer import ShardedOptimizer
from multiepoch.torchrec.plan import sharding_plan
from multiepoch.torchrec.state import ShardedState

__all__ = ["ShardedOptimizer", "ShardedState", "sharding_plan"]

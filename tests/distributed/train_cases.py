"""Trains every case with every sharding; one of the processes saves what they found.

    python -m torch.distributed.run --standalone --nproc-per-node 2 -m \
        tests.distributed.train_cases FILE
"""

import gc
import sys

import torch
import torch.distributed as dist

from tests.distributed.cases import CASES, HOWS, sharded


def main(path: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    found = {(how, name): sharded(case, how) for how in HOWS for name, case in CASES.items()}
    if dist.get_rank() == 0:
        torch.save(found, path)
    gc.collect()  # sharded models are cycles that hold the process group
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])

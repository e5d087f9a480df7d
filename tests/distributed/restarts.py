"""Stops and kills sharded runs, and resumes them with the same or with other processes.

    python -m tests.distributed.restarts FOLDER

Processes are forked, so that a restart need not import TorchRec again; this one never trains.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import torch.multiprocessing as mp

from multiepoch.torchrec import ShardedState
from tests.distributed.cases import BATCH, CASES, STEPS, Case, batches, build, one_step
from tests.distributed.cases import whole_tables as read

EVERYTHING = replace(CASES["FAL, AdamAR"], rewind=CASES["tail rewind"].rewind)
EVERYTHING = replace(EVERYTHING, dense=torch.optim.Adam, dense_lr=1e-3, epochs=3)
RESUMED = {
    "undo log": replace(EVERYTHING, dense=torch.optim.SGD),
    "counts": replace(CASES["FAL, tail rewind"], epochs=3),
    "no remedy": CASES["adagrad"],
    "mean of the ends": CASES["MEDA, mean of the ends"],
}
MOVES = [  # from and to
    ((2, "row_wise"), (4, "row_wise")),
    ((2, "row_wise"), (4, "table_wise")),
    ((2, "row_wise"), (1, "table_wise")),
    ((4, "mixed"), (2, "row_wise")),
    ((1, "table_wise"), (4, "row_wise")),
    ((2, "table_wise"), (2, "mixed")),
]
STOP = [1, STEPS // 2]  # in the middle of epoch 2, when rows are served that wait in the log
N_KILLS, LONG = 20, 40  # batches in an epoch of the run that is killed


def newest(folder: Path) -> Path | None:
    """Returns the newest complete checkpoint: its metadata are written last."""
    return max((file.parent for file in folder.glob("*/.metadata")), default=None)


def resumed(case: Case, how: str, folder: Path, stop=None, n: int = STEPS, told=None) -> dict:
    """Trains from the newest checkpoint to the end, or to an epoch and a batch."""
    model, optimizer, rewind = build(case, how)
    size = BATCH // dist.get_world_size()
    mine = slice(dist.get_rank() * size, (dist.get_rank() + 1) * size)
    state = {"run": ShardedState(model, optimizer, rewind), "place": [0, 0], "losses": []}
    if (found := newest(folder)) is not None:
        dcp.load(state, checkpoint_id=found)
    (first, done), losses = state["place"], state["losses"]
    for epoch in range(first, case.epochs):
        if rewind.epoch != epoch:
            rewind.before_epoch(epoch)
        optimizer.set_epoch(epoch)
        for k, batch in enumerate(batches(n)):
            if epoch == first and k < done:
                continue
            if told is not None:
                told.send(len(losses))
            loss = one_step(model, optimizer, batch, mine)
            dist.all_reduce(loss)
            losses.append(loss.item() / dist.get_world_size())
            state["place"] = place = [epoch, k + 1]
            path = folder / f"{optimizer.n_steps:06d}"
            dcp.save(state, checkpoint_id=path)
            if dist.get_rank() == 0:  # all have finished the one before
                for other in set(folder.iterdir()) - {path}:
                    shutil.rmtree(other)
            if place == stop:
                return {}
    rewind.end_epoch()
    with rewind.serving():
        return {**read(optimizer), "losses": torch.tensor(losses, dtype=torch.float64)}


def _process(rank: int, world: int, store: str, out: Path | None, told: Any, work: Callable):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{store}", rank=rank, world_size=world)
    found = work(told=told)
    if rank == 0 and out is not None:
        torch.save(found, out)
    dist.destroy_process_group()


class Processes:
    """Forked processes that do the same work together; `told` hears from process 0."""

    n_started = 0

    def __init__(self, world: int, folder: Path, work: Callable, out: Path | None = None) -> None:
        Processes.n_started += 1
        self.told, end = mp.Pipe(duplex=False)
        store = folder / f"store-{Processes.n_started}"
        fork = mp.get_context("fork")
        self.all = [
            fork.Process(
                target=_process,
                args=(rank, world, str(store), out, end if rank == 0 else None, work),
            )
            for rank in range(world)
        ]
        for process in self.all:
            process.start()
        end.close()

    def join(self) -> None:
        for process in self.all:
            process.join(300)
        codes = [process.exitcode for process in self.all]
        if any(codes):
            self.kill()
            raise RuntimeError(f"the processes ended with {codes}")

    def kill(self) -> None:
        for process in self.all:
            process.kill()
            process.join()


def run(world: int, folder: Path, work: Callable) -> dict:
    out = folder / "found.pt"
    Processes(world, folder, work, out).join()
    return torch.load(out, weights_only=True)


class Resumed:
    """`resumed` with its arguments, to be called in a forked process."""

    def __init__(self, *args: Any, listen: bool = False, **options: Any) -> None:
        self.args, self.options, self.listen = args, options, listen

    def __call__(self, told: Any) -> dict:
        return resumed(*self.args, **self.options, told=told if self.listen else None)


def moved(folder: Path) -> dict:
    found = {}
    for name, case in RESUMED.items():
        for start, end in MOVES:
            here = folder / f"{name}-{start}-{end}".replace(" ", "")
            here.mkdir()
            run(start[0], here, Resumed(case, start[1], here / "saved", STOP))
            found[name, start, end] = run(end[0], here, Resumed(case, end[1], here / "saved"))
    return found


def killed(folder: Path) -> dict:
    """Kills one of two processes in the middle of a step, 20 times; returns also the run's steps.

    Each kill is a random time after a random step has begun, so that it may hit the lookup, the
    backward pass, the optimizer, or the writing of a checkpoint.
    """
    folder.mkdir()
    work = {"n": LONG, "listen": True}
    whole = run(2, folder, Resumed(EVERYTHING, "row_wise", folder / "whole", n=LONG))
    draw, kills = random.Random(0), []
    while len(kills) < N_KILLS:
        processes = Processes(2, folder, Resumed(EVERYTHING, "row_wise", folder / "saved", **work))
        first = last = processes.told.recv()
        wanted = first + draw.randint(1, 5)
        while last < wanted:
            last = processes.told.recv()
        time.sleep(draw.uniform(0, 0.08))
        os.kill(processes.all[draw.randrange(2)].pid, signal.SIGKILL)
        wait([process.sentinel for process in processes.all])
        processes.kill()
        kills.append((first, last))
    work = Resumed(EVERYTHING, "row_wise", folder / "saved", n=LONG)
    return {"whole": whole, "killed": run(2, folder, work), "kills": kills}


if __name__ == "__main__":
    torch.set_num_threads(1)
    place = Path(sys.argv[1])
    torch.save({"moved": moved(place), "killed": killed(place / "killed")}, place / "restarts.pt")

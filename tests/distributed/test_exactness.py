"""Sharded training on 1, 2 and 4 processes against one process with this package."""

import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import torch

from tests.distributed.cases import CASES, HOWS, one_process

ROOT = Path(__file__).parents[2]


def launch(n_processes: int, *command: object, **options) -> subprocess.CompletedProcess:
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    run += ["--nproc-per-node", str(n_processes), "-m", *map(str, command)]
    return subprocess.run(run, cwd=ROOT, capture_output=True, text=True, timeout=900, **options)


@pytest.fixture(scope="module", params=[1, 2, 4], ids="{}-processes".format)
def found(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("found") / "found.pt"
    done = launch(request.param, "tests.distributed.train_cases", path)
    assert done.returncode == 0, done.stderr[-5000:]
    return torch.load(path, weights_only=True)


expected = cache(lambda name: one_process(CASES[name]))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("how", HOWS)
def test_sharded_training_is_that_of_one_process(found, how, name):
    for what, here in expected(name).items():
        there = found[how, name][what]
        apart = (there - here).norm() / here.norm()
        assert apart <= 1e-6, f"{what} is {apart:.1e} apart"

"""Sharded runs that are stopped or killed, and resumed."""

import subprocess
import sys
from functools import cache

import pytest
import torch

from tests.distributed.cases import one_process
from tests.distributed.restarts import MOVES, N_KILLS, RESUMED
from tests.distributed.test_exactness import ROOT

LIMIT = 3_000  # seconds: on a busy machine, the runs of `found` take far longer than any other test
pytestmark = pytest.mark.timeout(LIMIT)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("restarts")
    run = [sys.executable, "-m", "tests.distributed.restarts", folder]
    done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 0, done.stderr[-5000:]
    return torch.load(folder / "restarts.pt", weights_only=True)


expected = cache(lambda name: one_process(RESUMED[name]))


@pytest.mark.parametrize("name", RESUMED)
@pytest.mark.parametrize(("start", "end"), MOVES)
def test_a_run_continues_with_other_processes_and_another_plan(found, name, start, end):
    for what, there in found["moved"][name, start, end].items():
        here = expected(name)[what]
        assert (there.float() - here).norm() <= 1e-6 * here.norm(), what


def test_nothing_is_lost_when_a_process_is_killed(found):
    assert len(found["killed"]["kills"]) == N_KILLS
    for what, whole in found["killed"]["whole"].items():
        assert torch.equal(found["killed"]["killed"][what], whole), what

"""Skipped batches, closures, and what is refused with a sentence."""

import subprocess
import sys

import pytest
import torch

from tests.distributed.test_exactness import ROOT

SAID = {
    "rule": "rowwise_adagrad|Size mismatch",
    "rule without state": "rowwise_adagrad|Missing key",
    "row_lr": "row_lr=",
    "row_decay": "row_decay=",
    "weight_decay": "weight_decay=0.1, this one has 0.0",
    "start": "initial_accumulator_value",
    "dense": "dense='Adam', this one has 'SGD'",
    "remedy": "below=8, this one has 0",
    "twice": "a second backward pass of a table before step",
    "data-parallel": "'user' is data-parallel and has no fused optimizer: shard it by rows or",
    "names": "give one value, or one for each of",
    "no accumulators": "table 'user': its rule 'sgd' has no accumulators",
    "state_dict": "save a ShardedState with torch.distributed.checkpoint",
}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    path = tmp_path_factory.mktemp("refusals") / "found.pt"
    run = [sys.executable, "-m", "tests.distributed.refusals", path]
    done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-5000:]
    return torch.load(path, weights_only=True)


@pytest.mark.parametrize(
    "way", ["before zero_grad", "after zero_grad", "late zero_grad", "closure"]
)
def test_a_batch_without_a_backward_pass_leaves_no_trace(found, way):
    for what, plain in found["trained"][""].items():
        assert torch.equal(found["trained"][way][what], plain), what


def test_rows_that_a_backward_pass_has_moved_are_corrected_without_a_step(found):
    assert torch.equal(found["after"]["zero_grad"], found["after"]["step"])


@pytest.mark.parametrize("what", SAID)
def test_it_is_refused_with_a_sentence(found, what):
    said = found["said"][what]
    assert any(part in said for part in SAID[what].split("|")), said

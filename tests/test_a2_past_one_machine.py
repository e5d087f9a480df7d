"""Appendix A2 without TorchRec: the one-process runs, the sizes on paper, the record."""

import json
import math

import pytest
import torch

from multiepoch import tail_rewind
from multiepoch.optim import EmbeddingOptimizer, FrequencyAdaptiveLR
from reproduction.a2_past_one_machine import experiment, paper
from reproduction.a2_past_one_machine.training import logs, train
from reproduction.runs import profile
from tools import distributed


def test_sizes_on_paper_are_those_of_the_package():
    n_rows, dim = 1000, 8
    table = torch.nn.Embedding(n_rows, dim, sparse=True)
    optimizer = EmbeddingOptimizer(
        table.parameters(), lr=0.1, rule="rowwise_adagrad", row_lr=FrequencyAdaptiveLR()
    )
    rewind = tail_rewind(table, optimizer, below=10, serve="blend")
    rewind.before_epoch(0)
    table(torch.arange(0, n_rows, 2)).sum().backward()
    optimizer.step()
    job = paper.Job(hosts=1, rows=n_rows, dim=dim, touched=0.5, rewound=1.0)
    memory = paper.added(job)["memory"]
    assert memory["tail rewind, undo log"] == rewind.n_bytes
    assert memory["FAL"] == optimizer.state[table.weight]["count"].nbytes
    rewind.before_epoch(1)
    log = sum(record.n_bytes for record in rewind._records)
    assert memory["blended serving, besides"] == rewind.n_bytes - log


def test_each_host_has_its_part():
    one, many = (paper.Job(hosts=n, rows=1e10) for n in (1, 128))
    assert paper.plain(one)["memory"] == 128 * paper.plain(many)["memory"]
    assert paper.plain(one)["moved"] == 0
    shared = ["FAL", "AdamAR", "tail rewind, undo log"]
    memory = [paper.added(job)["memory"][shared] for job in (one, many)]
    assert (memory[0] == 128 * memory[1]).all()


def test_constants_come_from_the_record(tmp_path):
    run = {
        "n_rows": 100,
        "lookups": 10,
        "cpu_seconds": {"plain": [1.0, 2.0], "FAL": [1.5, 2.5], "undo log": [1.1, 2.1]},
        "rewind": 3.0,
        "rewound_rows": 6,
        "redraw_seconds_a_weight": 0.25,
    }
    path = tmp_path / "distributed.json"
    path.write_text(json.dumps({"runs": [run, run | {"n_rows": 1}]}))
    found = paper.measured(path)
    assert found.fal == pytest.approx(0.05)
    assert found.undo_log == pytest.approx(0.01)
    assert (found.restore, found.draw) == (0.5, 0.25)
    assert paper.measured(tmp_path / "none.json") is None


def test_more_rows_fit_without_a_remedy_than_with_one():
    found = paper.largest(paper.Job(hosts=128, rows=1e10), 64e9)
    assert found["no remedy"] == found["MEDA"] == found.max()
    undo_log = found["tail rewind, undo log"]
    assert found["FAL"] > undo_log > found["tail rewind, undo log, blended"] > 0
    assert found["leave-one-out rows (chapter 9)"] == 0


def test_reversed_batches_change_rounding_and_no_more():
    settings = experiment.settings(profile("quick"), [0]) | {"epochs": 1, "batch_size": 2000}
    (run,) = (
        run | {"seed": 0}
        for run in experiment.runs()
        if (run["method"], run["rule"]) == ("fal", experiment.ADAGRAD)
    )
    window, test = logs(settings, 0)
    window, test = window[:8000], test[:500]
    plain, reverse = (train(run, settings, window, test, way) for way in (False, True))
    for one, other in zip(plain, reverse):
        assert math.isclose(one["value"], other["value"], rel_tol=1e-5)
    assert [row["epoch"] for row in plain[::3]] == [0.25, 0.5, 0.75, 1.0]


def test_the_page_compares_the_steps_of_a_round():
    names = ["table", "state", "count", "undo_log", "rss", "checkpoint"]
    run = {
        "seed": 0,
        "lookups": 10,
        "rewind": 0.5,
        "checkpoint_seconds": 2.0,
        "cpu_seconds": {"plain": [1.0] * 80, "FAL": [1.25] * 80, "undo log": [1.0] * 80},
        **{f"{name}_bytes": 10**6 for name in names},
    }
    log = [2.0] * distributed.SHORT[0] + [1.0] * 20
    seconds = {"plain": [1.0] * 80, "FAL": [2.0] * 80, "undo log": log}
    slower = {"plain": [3.0] * 80, "FAL": [3.0] * 80, "undo log": [3.0] * 80}
    runs = [run | {"n_rows": 10, "seconds": seconds}, run | {"n_rows": 1000, "seconds": slower}]
    assert [distributed.added(runs[0], n) for n in (distributed.SHORT[0], 80)] == [100, 75]
    assert [distributed.growth(runs, kind) for kind in ("plain", "FAL")] == [3, 1.5]
    text = distributed.times(runs)
    assert "0.500 [0.500, 0.500]" in text and "0.800 [0.800, 0.800]" in text
    assert "| 10" in text and "1,000" in text

"""Every experiment runs whole as a toy: at two seeds and four epochs, judge included."""

import numpy as np
import pytest

from reproduction import judge, records, tuning
from reproduction.command import EXPERIMENTS, command
from reproduction.runs import profile


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    """A folder for kept runs, which some experiments share, and for records."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MULTIEPOCH_LOGS", raising=False)  # no log that does not travel is read
        patch.setenv("MULTIEPOCH_RUNS", str(folder := tmp_path_factory.mktemp("runs")))
        patch.setenv("MULTIEPOCH_RESULTS", str(folder / "results"))
        yield


def test_the_names_are_listed(capsys):
    assert command(["--list"]) == 0
    assert capsys.readouterr().out.splitlines() == list(EXPERIMENTS)
    with pytest.raises(SystemExit):
        command([])
    assert "--list" in capsys.readouterr().err


def test_the_record_of_a_toy_stays_away_from_those_that_say_something(tmp_path, monkeypatch):
    monkeypatch.setenv("MULTIEPOCH_RUNS", str(tmp_path))
    monkeypatch.setenv("MULTIEPOCH_RESULTS", "")  # so that it is unset again after the test
    monkeypatch.delenv("MULTIEPOCH_RESULTS")
    assert command(["constants", "--profile", "toy"]) == 0
    assert (tmp_path / "results" / "toy" / "constants.parquet").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_runs_whole(name, toys):
    toy, experiment, rates = profile("toy"), EXPERIMENTS[name], tuning._TUNED.read_bytes()
    assert len(toy.seeds) == 2 and toy.epochs == 4
    assert command([name, "--profile", "toy", "--device", "cpu"]) == 0
    record = records.read(experiment.name, "toy")
    assert len(record.rows) and np.isfinite(record.evidence["value"].astype(float)).all()
    decides = [one for one in judge.CLAIMS if experiment.judge and experiment.name in one.records]
    predicted = {(one.id, measure.name) for one in decides for measure in one.measures}
    found = set(zip(record.evidence["claim"], record.evidence["measure"]))
    assert found <= predicted  # some need more than a toy shows
    assert {claim for claim, _ in found} == {one.id for one in decides}
    assert tuning._TUNED.read_bytes() == rates  # every profile reads it

"""Findings fail if their record contradicts them; records and verdicts keep what they are given."""

import pandas as pd
import pytest

from reproduction import claims, command, findings, records


def test_numbers_are_interpolated_and_a_contradiction_fails():
    shown = findings.finding("It rises by {rise}.", {"rise": "2 %"}, {"it rises": True})
    assert shown == "It rises by 2 %."
    with pytest.raises(findings.FindingContradicted, match="it rises"):
        findings.finding("It rises by {rise}.", {"rise": "2 %"}, {"it rises": False})


def test_an_estimate_has_an_interval_from_two_seeds_on():
    assert findings.estimate([1.0, 2.0, 3.0], "%", 1) == "2.0 % [-0.5, 4.5]"
    assert findings.estimate([1.0], "%", 1) == "1.0 % (one seed)"
    assert findings.cell([1.0], "%", 1) == "1.0 %"


def test_the_whole_interval_lies_on_one_side():
    values = [1.0, 1.1, 0.9]
    assert findings.above(values, 0.5) and not findings.above(values, 0.95)
    assert findings.below(values, 1.5) and not findings.below(values, 1.05)
    assert not findings.above([1.0]) and not findings.below([-1.0])


def test_a_record_comes_back_as_it_was_written(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "folder", lambda: tmp_path)
    rows = pd.DataFrame({"epoch": [1.0, 1.25], "value": [0.5, 0.25]})
    evidence = pd.DataFrame([{"claim": "C6", "measure": "log_linear", "seed": 0, "value": -1.0}])
    records.write("ch00", "quick", rows, evidence, seeds=(0,))
    found = records.read("ch00", "quick")
    pd.testing.assert_frame_equal(found.rows.astype("float64"), rows)
    assert findings.measures(found.evidence)["log_linear"].tolist() == [-1.0]
    assert "profile quick, seeds 0" in str(found)
    assert records.read("ch00", "long") is None


def test_verdicts_name_runs_without_a_record():
    evidence = pd.DataFrame([{"claim": "C6", "measure": "log_linear", "seed": 0, "value": -1.0}])
    table = claims.verdicts(["C6"], evidence, "quick", {"gpu": None}).splitlines()
    assert "this run" in table[0] and "gpu" in table[0]
    assert "not settled" in table[2] and "no record" in table[2]
    assert table[-1] == "- `gpu`: no record found"


def test_the_command_finds_every_experiment():
    assert {"02", "03", "04", "05", "06", "07", "08", "09", "tuning"} <= set(
        command.EXPERIMENTS.keys()
    )

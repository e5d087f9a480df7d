"""What a notebook records, and that a direction that does not hold fails it."""

import pandas as pd
import pytest

from reproduction import judge
from reproduction.command import EXPERIMENTS
from reproduction.notebook import METADATA, Checks


def shown(checks, monkeypatch):
    seen = {}
    monkeypatch.setattr("IPython.display.display", lambda what, metadata: seen.update(metadata))
    checks.show()
    return seen[METADATA]


def test_records_numbers_directions_and_evidence(monkeypatch):
    checks = Checks()
    checks.number("loss", 0.3)
    checks.exact("rows", 7)
    checks.direction("a below b", 1 < 2)
    checks.evidence(judge.evidence([("C9", "time", "", pd.Series([1.0]))]))
    content = shown(checks, monkeypatch)
    assert content["numbers"] == {
        "loss": {"value": 0.3, "exact": False},
        "rows": {"value": 7.0, "exact": True},
    }
    assert content["directions"] == {"a below b": True}
    assert content["evidence"][0]["claim"] == "C9"


def test_a_claim_is_judged_again_from_the_rows_of_its_records(monkeypatch):
    checks = Checks()
    checks.verdicts("C8", "C9")
    content = shown(checks, monkeypatch)
    said = content["verdicts"]["C8 by the record long"]
    held = "fal_tuned holds, meda_tuned holds, tail_tuned holds, plain_recovers open, fresh holds"
    assert said == f"partly as predicted: {held}"
    assert list(content["verdicts"])[1:] == ["C9 by the record cpu"]

    def judged(rows):
        return experiment.judge(rows).assign(value=0.0)

    ((key, experiment),) = ((k, e) for k, e in EXPERIMENTS.items() if e.name == "days")
    monkeypatch.setitem(EXPERIMENTS, key, experiment._replace(judge=judged))
    checks.verdicts("C8")
    content = shown(checks, monkeypatch)
    assert "tail_tuned holds, plain_recovers fails" in content["verdicts"]["C8 by the record long"]


def test_without_a_record_nothing_is_judged_again(monkeypatch, tmp_path):
    monkeypatch.setenv("MULTIEPOCH_RESULTS", str(tmp_path))
    checks = Checks()
    checks.verdicts("C8", "C9")
    assert checks.content()["verdicts"] == {}


def test_a_direction_that_does_not_hold_fails_after_it_is_shown(monkeypatch):
    checks = Checks()
    checks.direction("pigs fly", False)
    with pytest.raises(AssertionError, match="does not hold: pigs fly"):
        shown(checks, monkeypatch)


def test_refuses_what_cannot_be_compared():
    checks = Checks()
    with pytest.raises(ValueError, match="finite"):
        checks.number("loss", float("nan"))
    checks.number("loss", 1.0)
    with pytest.raises(ValueError, match="twice"):
        checks.exact("loss", 1.0)

"""What a notebook records, and that a direction that does not hold fails it."""

import pandas as pd
import pytest

from reproduction import judge
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
    points = {"": pd.Series([1.0, 2.0]), "small": pd.Series([3.0])}
    checks.evidence(judge.evidence(("C9", "time", name, one) for name, one in points.items()))
    content = shown(checks, monkeypatch)
    assert content["numbers"] == {
        "loss": {"value": 0.3, "exact": False},
        "rows": {"value": 7.0, "exact": True},
        "C9: time": {"value": 1.5, "exact": False},
        "C9: time, small": {"value": 3.0, "exact": False},
    }
    assert content["directions"] == {"a below b": True}


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

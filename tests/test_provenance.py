"""A record says from its start of which code it is, and by which predictions it is judged."""

import json
import re
import shutil
from functools import partial
from pathlib import Path

import pandas as pd
import pytest

from reproduction import judge, records
from reproduction.command import command
from tools import about

ROOT = Path(__file__).parents[1]
ROWS = pd.DataFrame({"value": [1.0]})
# The end of C15's prediction and how it is decided.
RULE = 'two epochs with tail rewind at each size."""\ndecide = "holm"'


@pytest.fixture
def git(git, tmp_path, monkeypatch):
    """Commits a repository with the ledger alone, and returns git in it."""
    folder = tmp_path / "src" / "reproduction"
    folder.mkdir(parents=True)
    ledger = folder / "claims.toml"
    ledger.write_text(judge.LEDGER.read_text())
    monkeypatch.setattr(judge, "LEDGER", ledger)
    monkeypatch.setenv("MULTIEPOCH_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("MULTIEPOCH_RESULTS", str(tmp_path / "results"))

    git = partial(git, tmp_path)
    git("init", "-q")
    git("add", "src")
    git("commit", "-qm", "first")
    return git


STAMPED = [
    path
    for path in sorted((ROOT / "results").glob("*/*.json"))
    if "predictions" in json.loads(path.read_text())
]


@pytest.mark.parametrize("path", STAMPED, ids=lambda path: path.stem)
def test_what_judges_a_committed_record_was_predicted_before_its_run(path):
    found = json.loads(path.read_text())["predictions"]
    now = judge.fingerprints(judge.LEDGER.read_text())
    wanted = {one.id: now[one.id] for one in judge.CLAIMS if path.stem in one.records}
    assert {id: found.get(id) for id in wanted} == wanted  # claims may have been let go since


def test_a_record_is_judged_again_without_training(tmp_path, monkeypatch, capsys):
    for end in ("parquet", "json"):
        kept = ROOT / "results" / "long" / f"delay.{end}"
        (tmp_path / "long").mkdir(exist_ok=True)
        shutil.copy(kept, tmp_path / "long")
    monkeypatch.setenv("MULTIEPOCH_RESULTS", str(tmp_path))
    assert command(["delay", "--profile", "long", "--judge-again"]) == 0
    assert "C20" in capsys.readouterr().out
    name = "long/delay.evidence.csv"  # rows are kept in single precision
    again, kept = (pd.read_csv(of / name) for of in (tmp_path, ROOT / "results"))
    pd.testing.assert_frame_equal(again, kept, rtol=1e-3)
    assert command(["delay", "--profile", "quick", "--judge-again"]) == 2
    assert "delay in quick is not there" in capsys.readouterr().err


def change(old, new):
    text = judge.LEDGER.read_text()
    assert old in text
    judge.LEDGER.write_text(text.replace(old, new))


def test_a_run_of_committed_code_has_nothing_to_add(git):
    stamp = records.start("worth", "long")
    assert stamp["clean"] and stamp["predictions_committed"] and stamp["commit"] != "unknown"
    assert list(stamp["predictions"]) == ["C15"]
    assert records.reservations(stamp) == ""
    assert records.start("tuning", "long")["predictions"] == {}


def test_uncommitted_code_is_said_and_results_are_no_code(git, tmp_path):
    records.write("a", "long", ROWS, records.start("a", "long"))
    assert records.start("worth", "long")["clean"]
    (tmp_path / "src" / "new.py").write_text("")
    stamp = records.start("tuning", "long")
    assert stamp["clean"] is False and stamp["predictions_committed"]
    assert records.reservations(stamp) == ", with uncommitted changes"


def test_a_prediction_that_is_not_committed_is_said(git):
    change('own_label", sign = ">", threshold = 0.6', 'own_label", sign = ">", threshold = 0.4')
    worth, board = (records.start(name, "long") for name in ("worth", "ch10_board"))
    assert not worth["predictions_committed"] and board["predictions_committed"]
    assert "its prediction not committed" in records.reservations(worth)


def test_words_beside_a_prediction_do_not_change_it_and_its_rule_does(git):
    def fingerprint():
        return judge.fingerprints(judge.LEDGER.read_text())["C15"]

    before = fingerprint()
    change("A repeated epoch is worth a part of fresh data", "Another title")
    assert fingerprint() == before
    change(RULE, RULE.replace("holm", "interval"))
    assert fingerprint() != before


def test_a_run_that_is_resumed_has_the_stamp_of_its_start(git, tmp_path):
    first = records.start("worth", "long")
    assert records.start("worth", "long") == first, "the same code"
    (tmp_path / "src" / "new.py").write_text("")
    git("add", "src")
    git("commit", "-qm", "second")
    resumed = records.start("worth", "long")
    (later,) = resumed.pop("resumed")
    assert resumed == first and later["commit"] != first["commit"]
    again = records.start("worth", "long")
    assert again["resumed"] == [later]
    assert records.reservations(again) == ", resumed at another commit"
    path = records.write("worth", "long", ROWS, again, seeds=(20,))
    kept = json.loads(path.with_suffix(".json").read_text())
    assert kept["started"] == first["started"] and kept["resumed"] == [later]
    assert "resumed at another commit" in str(records.read("worth", "long"))
    new = records.start("worth", "long")
    assert new["commit"] == later["commit"] and "resumed" not in new, "the record was written"


def test_the_page_of_runs_says_what_a_stamp_does_and_which_records_have_none(git, tmp_path):
    records.write("worth", "long", ROWS, records.start("worth", "long"), seeds=(20,))
    old = {"commit": "abc", "seeds": [1], "date": "2026-01-01", "machine": "m", "torch": "2.4"}
    (tmp_path / "results" / "long" / "old.json").write_text(json.dumps(old))
    change(RULE, RULE.replace("holm", "interval"))
    page = about._records_table(about._records(tmp_path / "results"))
    lines = {line.split("|")[1].strip(): re.sub(" +", " ", line) for line in page.splitlines()}
    assert "| abc, not stamped | not stamped | 1 |" in lines["old"]
    assert ", clean | C15 (changed since) | 20 |" in lines["worth"]


def test_outside_a_repository_nothing_is_known(tmp_path, monkeypatch):
    ledger = tmp_path / "claims.toml"
    ledger.write_text(judge.LEDGER.read_text())
    monkeypatch.setattr(judge, "LEDGER", ledger)
    monkeypatch.setenv("MULTIEPOCH_RUNS", str(tmp_path))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    stamp = records.start("tuning", "cpu")
    assert stamp["commit"] == "unknown" and stamp["clean"] is None

"""The pieces that need a GPU resume after a call that ended in time."""

import sys

import pytest

from tools import gpu


@pytest.fixture
def three(tmp_path, monkeypatch):
    """Three pieces that note their start, of which the second waits for a file."""
    notes, go = tmp_path / "notes", tmp_path / "go"
    note = f"open({str(notes)!r}, 'a').write('%s')"
    wait = f"; import pathlib, time\nwhile not pathlib.Path({str(go)!r}).exists(): time.sleep(.01)"
    commands = {
        "a": [sys.executable, "-c", note % "a"],
        "b": [sys.executable, "-c", note % "b" + wait],
        "c": [sys.executable, "-c", note % "c"],
    }
    monkeypatch.setattr(gpu, "ROOT", tmp_path)
    monkeypatch.setattr(gpu, "pieces", lambda profile, device: commands)
    return notes, go, commands


def test_a_call_ends_in_time_and_the_next_goes_on_where_it_was(three, capfd):
    notes, go, _ = three
    assert gpu.main(["--minutes", "0.03"]) == gpu.AGAIN
    assert notes.read_text() == "ab"
    go.touch()
    assert gpu.main([]) == 0
    assert notes.read_text() == "abbc", "the finished piece is not repeated"


def test_a_piece_that_fails_stops_the_call_and_is_repeated(three, capfd):
    notes, go, commands = three
    go.touch()
    good, commands["b"] = commands["b"], [sys.executable, "-c", "raise SystemExit(3)"]
    assert gpu.main([]) == 1
    assert "b: failed with exit status 3" in capfd.readouterr().err
    commands["b"] = good
    assert gpu.main([]) == 0
    assert notes.read_text() == "abc"


def test_the_pieces_of_every_profile_name_experiments_that_exist():
    from reproduction import command

    assert set(gpu.CHAPTERS) <= set(command.EXPERIMENTS.keys())
    for profile in ("quick", "gpu"):
        made = gpu.pieces(profile, "cuda")
        named = [call[3] for call in made.values() if call[2] == "reproduction"]
        assert set(named) == {*gpu.CHAPTERS, "scale"}
        assert made["tests"][-3:] == ["-m", "gpu", "tests"]

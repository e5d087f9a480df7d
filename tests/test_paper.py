"""The paper: its sentences against the records, and its pages where LaTeX is installed."""

import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from reproduction import judge, records, sentences
from reproduction.interplay import experiment as interplay
from tools import paper

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results"


def test_a_record_that_contradicts_a_sentence_stops_the_paper(tmp_path, monkeypatch):
    (tmp_path / "asserted.toml").write_text('[holds]\n"FAL gains" = "board.one/world/4/fal < 0"\n')
    monkeypatch.setattr(paper, "ASSERTED", tmp_path / "asserted.toml")
    with pytest.raises(paper.PaperFailed, match="FAL gains"):
        paper.write(RESULTS, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_numbers_are_those_of_the_records():
    text, known = paper.source(RESULTS), sentences.values(RESULTS)
    assert "<<" not in text and "nan" not in text.lower().split()
    mean = known["dose_response.dose/AdsWorld/0.0562"].mean()
    assert f"{mean:.1f}" in text
    loo = known["board.one/kuairand/4/leave_one_out_votes"].mean()
    assert rf"\ensuremath{{-}}{abs(loo):.1f}" in text


def test_an_estimate_has_its_signs_where_it_is_a_change():
    values = pd.Series([-1.0, 1.0, 3.0])
    assert paper.estimate(values, 1) == r"\est{1.0\,\%}{\ensuremath{-}4.0}{6.0}"
    assert paper.estimate(values, 0, sign=True, unit="") == (
        r"\est{\ensuremath{+}1}{\ensuremath{-}4}{\ensuremath{+}6}"
    )
    assert paper.number(-0.04, 1, True) == "0.0", "no signed zero"


def test_words_of_ours_become_latex():
    assert paper.latex("below -0.5 %, ¼ of C-3 & more") == (
        r"below \ensuremath{-}0.5 \%, a quarter of C-3 \& more"
    )


def test_the_interplay_of_ids_is_open_until_its_record_is_there(monkeypatch):
    claim, read, all_evidence = judge.claim("C18"), records.read, records.ledger
    there = []
    monkeypatch.setattr(
        records,
        "read",
        lambda name, *more: there or None if name == interplay.NAME else read(name, *more),
    )
    assert "so the claim is open" in paper.source(RESULTS)
    there.append("a record")
    values = pd.Series([1.0, 1.1, 1.2], index=[30, 31, 32])
    found = judge.evidence((claim.id, one.name, "a point", values) for one in claim.measures)

    def with_evidence(results):
        ledger = all_evidence(results)
        rest = ledger["long"][ledger["long"]["claim"] != claim.id]
        return ledger | {"long": pd.concat([rest, found])}

    monkeypatch.setattr(records, "ledger", with_evidence)
    text = paper.source(RESULTS)
    assert "so the claim is open" not in text
    for one in claim.measures:
        assert paper.latex(one.text) in text


@pytest.mark.slow
def test_it_has_at_most_ten_pages_and_no_line_that_is_too_wide(tmp_path):
    if shutil.which("pdflatex") is None:
        pytest.skip("pdflatex is not installed")
    paper.write(RESULTS, tmp_path)
    assert paper.typeset(tmp_path).stat().st_size > 50_000
    log = (tmp_path / "paper.log").read_text(encoding="latin-1")
    pages = re.search(r"Output written on \S+ \((\d+) page", log.replace("\n", ""))[1]
    assert int(pages) <= 10
    too_wide = re.findall(r"Overfull \\hbox \(([\d.]+)pt too wide", log)
    assert max(map(float, too_wide), default=0) <= 5
    assert not re.search(r"(Citation|Reference) .* undefined", log)
    assert "Rerun to get" not in log

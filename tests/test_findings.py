"""Findings fail if their record contradicts them; records and verdicts keep what they are given."""

import tomllib
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

from reproduction import command, findings, judge, records, tables

FACTS = findings.by_name(
    rise=pd.DataFrame({0.01: [1.0, 1.2, 1.1], 0.1: [5.0, 4.0, 6.0]}).rename_axis("seed"),
    left={"FAL, log": pd.Series([0.2, -0.1, 0.1]), "MEDA": np.array([1.0, 2.0, 3.0])},
    share=pd.Series({("a", "b"): 0.5}).rename_axis(["source", "table"]),
    times=12.34,
    one_seed=np.array([1.0]),
)


def test_facts_are_named_by_the_levels_of_their_index():
    by_seed = pd.Series([1.0, 2.0], pd.MultiIndex.from_tuples([(0, "x"), (1, "x")]))
    by_seed = by_seed.rename_axis(["seed", "kind"])
    assert list(FACTS) == [
        "rise/0.01",
        "rise/0.1",
        "left/FAL_log",
        "left/MEDA",
        "share/a/b",
        "times",
        "one_seed",
    ]
    assert FACTS["share/a/b"] == 0.5
    assert findings.by_name(v=by_seed)["v/x"].to_dict() == {0: 1.0, 1: 2.0}
    seeds_across = pd.DataFrame({0: [1.0], 1: [2.0]}, index=[3]).rename_axis(columns="seed")
    assert findings.by_name(day=seeds_across)["day/3"].tolist() == [1.0, 2.0]


def test_numbers_are_interpolated_and_a_contradiction_fails():
    text = "It rises by {rise/0.01:% 1}, {left/MEDA}, {times:.1f} times."
    shown = findings.finding(text, FACTS, {"it rises": "rise/* > 0"})
    assert shown == "It rises by 1.1 % [0.9, 1.3], 2.00 [-0.48, 4.48], 12.3 times."
    with pytest.raises(findings.FindingContradicted, match=r"it falls \(rise/0.01 < 0\)"):
        findings.finding(text, FACTS, {"it rises": "rise/* > 0", "it falls": "rise/0.01 < 0"})


@pytest.mark.parametrize(
    ("condition", "true"),
    [
        ("rise/0.01 > 0.5", True),
        ("rise/0.01 > 1", False),  # the interval is 0.85 to 1.35
        ("not rise/0.01 > 1", True),
        ("mean(rise/0.01) > 1.05", True),
        ("every(rise/0.01) >= 1", True),
        ("every(rise/0.01) > 1.1", False),
        ("every(rise/0.01) < every(rise/0.1)", True),
        ("rise/0.1 - rise/0.01 > 1", True),
        ("rise/0.01 - rise/0.1 > 0", False),
        ("mean(rise/0.1 - rise/0.01) < 4", True),
        ("rise/* < 10", True),
        ("rise/* > 1", False),
        ("mean(rise/0.01) <= mean(rise/*)", True),
        ("not left/FAL_log < 0 and not left/FAL_log > 0", True),
        ("-1 < left/FAL_log < 1", True),
        ("0 < left/FAL_log < 1", False),
        ("times > 1e1", True),
        ("one_seed > 0", False),  # nothing is known of its interval
        ("not one_seed > 0", True),
    ],
)
def test_a_condition_is_about_the_whole_interval(condition, true):
    assert findings.is_true(condition, FACTS) is true


@pytest.mark.parametrize(
    "condition",
    [
        "times",
        "times = 1",
        "not 0 < times < 1",
        "sum(times) < 1",
        "mean(times < 1",
        "2 * times < 3",
    ],
)
def test_what_is_no_condition_is_refused(condition):
    with pytest.raises(ValueError, match="is no "):
        findings.is_true(condition, FACTS)


def test_a_format_that_is_not_that_of_the_value_is_refused():
    assert findings.finding("{rise/0.01:points 0}, {times:.0f}", FACTS, {}).endswith(", 12")
    for text in ("{rise/0.01:.1f}", "{rise/0.01:% 1 x}", "{times:% 1}"):
        with pytest.raises(ValueError):
            findings.finding(text, FACTS, {})


def test_levels_that_would_have_one_name_are_refused():
    with pytest.raises(ValueError, match="two levels of left"):
        findings.by_name(left={"a b": 1.0, "a_b": 2.0})


def test_an_unknown_fact_is_named_with_the_nearest():
    with pytest.raises(KeyError, match=r"no fact is named 'rise/1'; .* rise/0.1"):
        findings.finding("{rise/1}", FACTS, {})


def test_a_finding_is_shown_from_its_record_and_never_left_out_in_silence(tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(findings.tables, "text", shown.append)
    text = '[findings.it-rises]\ntext = """\nIt rises\nby {a.rise:% 0}."""\n'
    text += 'holds."up" = "a.rise > 0"\n'
    (tmp_path / "findings.toml").write_text(text)
    chapter = ModuleType("chapter")
    chapter.__file__ = str(tmp_path / "experiment.py")
    chapter.facts = lambda record: findings.by_name(rise=record.rows["value"])
    about = {"profile": "long", "seeds": [0, 1], "machine": "a machine", "torch": "2"}
    about |= {"date": "today", "commit": "abc"}

    def record(*values: float) -> records.Record:
        return records.Record(pd.DataFrame({"value": values}), pd.DataFrame(), about, "a")

    findings.show(chapter, "it-rises", record(2.0, 2.2))
    assert shown.pop().startswith("It rises by 2 % [1, 3].\n\n*Record: profile long, seeds 0, 1")
    with pytest.raises(findings.FindingContradicted, match="up"):
        findings.show(chapter, "it-rises", record(-2.0, -2.2))
    findings.show(chapter, "it-rises", None)
    assert "“it rises”" in shown.pop()


ROOT = Path(__file__).parents[1]


def test_every_finding_is_shown_by_a_notebook_or_page_and_every_figure_is_drawn():
    notebooks = [path.read_text() for path in sorted((ROOT / "notebooks").glob("*.ipynb"))]
    shows = "".join([path.read_text() for path in (ROOT / "tools").glob("*.py")])
    shows += "".join(notebooks).replace('\\"', '"')
    for path in sorted((ROOT / "src/reproduction").rglob("findings.toml")):
        code = "".join(module.read_text() for module in path.parent.glob("*.py"))
        written = tomllib.loads(path.read_text())
        said = written.get("findings", {})
        unused = [name for name in said if f'"{name}"' not in shows]
        unused += [name for name in written.get("figures", {}) if f'"{name}"' not in code + shows]
        assert not unused, f"{path}: nothing shows {unused}"


def test_an_estimate_has_an_interval_from_two_seeds_on():
    assert findings.estimate([1.0, 2.0, 3.0], "%", 1) == "2.0 % [-0.5, 4.5]"
    assert findings.estimate([1.0], "%", 1) == "1.0 % (one seed)"


def test_a_table_of_one_seed_says_so_once(monkeypatch):
    shown = []
    monkeypatch.setattr(tables, "text", shown.append)
    tables.show({"FAL": {"a": findings.estimate([1.0]), "b": findings.estimate([2.0])}}, "method")
    tables.show({"FAL": {"a": findings.estimate([1.0, 2.0])}}, "method", "Means:")
    one, several = shown
    assert one.startswith("One seed.\n") and one.count("seed") == 1 and "2.00" in one
    assert several.startswith("Means:\n") and "seed" not in several


def test_a_record_comes_back_as_it_was_written(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "folder", lambda: tmp_path)
    rows = pd.DataFrame({"epoch": [1.0, 1.25], "value": [0.5, 0.25]})
    evidence = judge.evidence([("C9", "time", "", pd.Series([-1.0]))])
    stamp = {"commit": "abc"}
    records.write("ch00", "quick", rows, stamp, evidence, seeds=(0,))
    found = records.read("ch00", "quick")
    pd.testing.assert_frame_equal(found.rows.astype("float64"), rows)
    assert findings.measures(found.evidence)["time"].tolist() == [-1.0]
    assert "profile quick, seeds 0" in str(found)
    assert records.read("ch00", "long") is None


def test_verdicts_are_shown_by_profile_and_name_claims_without_a_record(monkeypatch):
    shown = []
    monkeypatch.setattr(tables, "text", shown.append)
    kept = {
        profile: judge.evidence(
            ("C3", "jump", point, pd.Series([1.0, 1.1, 1.2])) for point in points
        )
        for profile, points in {"cpu": "a", "long": "ab", "gpu": "a"}.items()
    }
    monkeypatch.setattr(records, "ledger", lambda: kept)
    tables.verdicts("C3", "C4")
    (long, gpu), name = shown, judge.claim("C3").title
    assert f"C3 · {name}: **as predicted**" in long and "**1.1 %**, holds at 2 of 2" in long
    assert "**1.1 % [0.85, 1.35]**, holds" in gpu and "**not yet run**" in gpu
    tables.verdicts("C5", "C6")
    assert shown[-1] == "No record found that decides C5 and C6."


def test_the_command_finds_every_experiment():
    assert {"02", "03", "04", "05", "07", "09", "10", "11", "12", "tuning"} <= set(
        command.EXPERIMENTS.keys()
    )

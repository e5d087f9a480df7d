"""Every number and verdict that pages take from the records is as references/pages.json has it.

    python -m tests.test_numbers

records that file again; git diff shows what changed. A record holds float32, so what a `judge`
makes of its rows differs from the evidence beside it by rounding.
"""

import json
import re
import shutil
import tempfile
from pathlib import Path

import pandas as pd
import pytest

from reproduction import command, judge, records
from tools import cost, distributed, numbers, recipes

ROOT = Path(__file__).parents[1]
KEPT = ROOT / "references" / "pages.json"
RESULTS = ROOT / "results"
EXPERIMENTS = {
    (one.name, path.parent.name): one
    for one in command.EXPERIMENTS.values()
    for path in sorted(RESULTS.glob(f"*/{one.name}.parquet"))
    if one.judge
}
NUMBER = re.compile(r"[-−+]?\d[\d,]*(?:\.\d+)?")


def verdicts() -> dict[str, dict]:
    """Returns the verdict on each claim in each profile, and [estimate, low, high, status]."""
    found = {}
    for profile, rows in records.ledger(RESULTS).items():
        for one in judge.CLAIMS:
            if evidence := judge.weigh(one, rows):
                found[f"{one.id}, {profile}"] = {"verdict": judge.verdict(one, evidence)} | {
                    ", ".join(filter(None, [e.measure.name, e.point])): [
                        e.estimate,
                        e.low,
                        e.high,
                        e.status,
                    ]
                    for e in evidence
                }
    return dict(sorted(found.items()))


def generated() -> dict[str, list[str]]:
    """Returns the numbers in the tables and figures that pages include, by file, as they read."""
    with tempfile.TemporaryDirectory() as folder:
        static = Path(shutil.copytree(ROOT / "book" / "_static", Path(folder) / "static"))
        cost.generate(RESULTS, Path(folder), static)
        recipes.generate(RESULTS, Path(folder))
        distributed.generate(RESULTS, Path(folder))
        texts = {path.name: path.read_text() for path in sorted(Path(folder).glob("*.md"))}
    found = {name: NUMBER.findall(re.sub("<[^>]*>", "", text)) for name, text in texts.items()}
    return {name: seen for name, seen in found.items() if seen}


def pages() -> dict:
    """Returns what references/pages.json holds."""
    interpolated = cost.numbers(RESULTS) | numbers.front(RESULTS)
    return {"verdicts": verdicts(), "interpolated": interpolated, "generated": generated()}


def write() -> None:
    """Records references/pages.json, one claim and one number a line."""
    parts = []
    for part, content in pages().items():
        lines = (f"  {json.dumps(name)}: {json.dumps(one)}" for name, one in content.items())
        parts.append(f' "{part}": {{\n' + ",\n".join(lines) + "\n }")
    KEPT.write_text("{\n" + ",\n".join(parts) + "\n}\n")


@pytest.fixture(scope="module")
def now() -> dict:
    return pages()


@pytest.mark.parametrize("part", ["verdicts", "interpolated", "generated"])
def test_numbers_of_the_pages_are_those_recorded(now, part):
    kept = json.loads(KEPT.read_text())[part]
    assert now[part].keys() == kept.keys()
    for name, one in kept.items():
        if part == "verdicts":
            assert now[part][name].keys() == one.keys(), name
            for measure, value in one.items():
                if measure == "verdict":
                    assert now[part][name][measure] == value, name
                else:
                    *values, status = now[part][name][measure]
                    assert status == value.pop(), (name, measure)
                    assert values == pytest.approx(value, rel=1e-9), (name, measure)
        else:
            assert now[part][name] == one, name


@pytest.mark.parametrize(("name", "profile"), EXPERIMENTS)
def test_a_record_judged_again_gives_its_evidence(name, profile):
    record = records.read(name, profile, RESULTS)
    judged = EXPERIMENTS[name, profile].judge(record.rows)
    key = record.evidence.columns.drop("value").to_list()
    kept, judged = (one.set_index(key)["value"] for one in (record.evidence, judged))
    assert judged.index.is_unique and set(judged.index) == set(kept.index)
    largest = kept.abs().groupby("measure").transform("max")
    # Rounding of float32: of a loss, in percent, and of the quotient of two such differences.
    far = (judged[kept.index] - kept).abs() > 2e-5 + 5e-6 * largest
    assert not far.any(), kept[far]


def test_the_timed_steps_judged_again_give_their_evidence():
    judged = cost.evidence(cost.load(RESULTS / "bench"))
    kept = records.evidence(RESULTS / "cpu" / "cost.evidence.csv")
    key = ["measure", "seed"]
    kept, judged = (one.set_index(key)["value"].sort_index() for one in (kept, judged))
    pd.testing.assert_series_equal(judged, kept)


def test_every_claim_has_the_records_that_the_ledger_names_with_its_seeds():
    judging = {one.name for one in command.EXPERIMENTS.values() if one.judge}
    not_yet_run = judging - {name for name, _ in EXPERIMENTS}
    found: dict[str, set[str]] = {one.id: set() for one in judge.CLAIMS}
    for path in RESULTS.glob("*/*.evidence.csv"):
        for claim, rows in records.evidence(path).groupby("claim"):
            found[claim].add(path.name.partition(".")[0])
            seeds = judge.claim(claim).seeds
            assert not seeds or set(rows["seed"]) <= set(seeds), (claim, path.name)
    assert found == {one.id: set(one.records) - not_yet_run for one in judge.CLAIMS}


if __name__ == "__main__":
    write()

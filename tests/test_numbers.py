"""Every number that pages take from the records is as references/pages.json has it.

    python -m tests.test_numbers

records that file again; git diff shows what changed. A record holds float32, so what a `judge`
makes of its rows differs from the evidence beside it by rounding.
"""

import json
import math
import re
from itertools import product
from pathlib import Path

import pandas as pd
import pytest

from multiepoch_lab.stats import interval
from reproduction import command, judge, records, sentences
from tests import test_sentences
from tools import cost

ROOT = Path(__file__).parents[1]
KEPT = ROOT / "references" / "pages.json"
RESULTS = ROOT / "results"
EXPERIMENTS = {
    (one.name, path.parent.name): one
    for one in command.EXPERIMENTS.values()
    for path in sorted(RESULTS.glob(f"*/{one.name}.parquet"))
    if one.judge
}


def shown() -> dict[str, float | list[float] | str]:
    """Returns each value that a sentence or a page names, and those of every claim's evidence.

    Values over seeds are the mean and the ends of the interval.
    """
    texts = [text for path in test_sentences.FILES for text in test_sentences.texts(path)]
    names = re.findall(r"\{(\w+\.[^{}:\s]+)", "".join(texts))
    for page in test_sentences.PAGES:
        names += [one.partition(":")[0] for one in sentences.ON_A_PAGE.findall(page.read_text())]
    names += re.findall(r"\"(\w+\.[^\"\s]+)\"", (ROOT / "paper" / "paper.tex.j2").read_text())
    values = test_sentences.VALUES
    found = {name: values[name] for name in names if name in values.of(name)}
    for one in judge.CLAIMS:
        found |= values.of(one.id)
    plain = {name: _rounded(value) for name, value in sorted(found.items())}
    return plain | cost.numbers(RESULTS) | verdicts()


def verdicts() -> dict[str, str]:
    """Returns the verdict on each claim by the records of a profile, and how its measures stand."""
    said = {}
    for one, (profile, rows) in product(judge.CLAIMS, records.ledger(RESULTS).items()):
        if evidence := judge.weigh(one, rows):
            by_measure = judge.grouped(evidence, lambda e: e.measure.name)
            stand = [f"{some[0].measure.name} {judge.status(some)}" for some in by_measure]
            verdict = judge.verdict(one, evidence)
            said[f"{one.id} by the record {profile}"] = f"{verdict}: {', '.join(stand)}"
    return said


def _rounded(value: pd.Series | float) -> float | list[float]:
    if isinstance(value, pd.Series):
        return [float(f"{x:.6g}") for x in interval(value) if math.isfinite(x)]
    return float(f"{value:.6g}")


def write() -> None:
    """Records references/pages.json, one number a line."""
    lines = (f" {json.dumps(name)}: {json.dumps(one)}" for name, one in shown().items())
    KEPT.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def test_numbers_of_the_pages_are_those_recorded():
    kept, now = json.loads(KEPT.read_text()), shown()
    assert now.keys() == kept.keys(), "run python -m tests.test_numbers"
    for name, one in kept.items():
        same = one if isinstance(one, str) else pytest.approx(one, rel=1e-5, abs=1e-9)
        assert now[name] == same, name


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

"""No two pages say two things: a quantity has one name, and advice is in advice.toml alone."""

import json
import re
import tomllib
from pathlib import Path

import pytest

from reproduction import sentences
from tools import settings, summary

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results"
PAGES = [ROOT / "README.md", *sorted((ROOT / "book").glob("*.md"))]
GENERATED = re.compile(r"```\{include\} _generated/advice|<!-- advice -->")
# How a sentence that advises begins; a caption may say where to look.
ADVISES = re.compile(
    r"(?:^|[.:;]\s+|\*\*)(?:Do not|Don't|Never|Always|Use|Try|Train|Reset|Prefer|Keep|Give|Serve|"
    r"Hold|Lower|Choose|Search|Sort|Let|Measure|Test your|Drop|Expect|Freeze|Raise|Rewind|Redraw|"
    r"Repeat|Tune)\b|\b(?:[Ww]e (?:advise|recommend)|[Yy]ou should|[Pp]refer (?:it|them|this)\b)"
)


def test_the_table_of_both_settings_and_the_values_agree():
    values = sentences.values(RESULTS)
    default, _ = settings.settings(RESULTS)
    lines = {quantity: found for _, quantity, _, _, found in settings.LINES}
    for quantity, name in {
        "one epoch, the tables' own rate against a shared one": "rules.gain/{}/row_wise_Adagrad",
        "one epoch, row-wise Adagrad against Adam": "rules.rule/{}",
        "plain's jump, ¼ into epoch 2": "dose_production.at_best/{}",
        "part of the jump that FAL leaves": "dose_production.left/{}/0.316",
        "tail rewind, three epochs against one": "dose_production.change/{}/tail_rewind/3",
    }.items():
        for source in ("AdsWorld", "KuaiRand"):
            in_table, in_file = lines[quantity](default, source), values[name.format(source)]
            assert in_table.tolist() == pytest.approx(in_file.tolist(), rel=1e-5), (
                quantity,
                source,
            )


def test_a_page_that_says_what_to_do_prints_it_from_the_file_of_advice():
    for page in PAGES:
        for section in re.split(r"^#+ ", page.read_text(), flags=re.M)[1:]:
            title, _, text = section.partition("\n")
            if re.search(r"what to do|advice|advise|recommend", title, re.I):
                assert GENERATED.match(text.lstrip()), f"{page.name}: {title}"


def said_of_the_records() -> dict[str, str]:
    """Returns what is said of the records, by where: findings, consequences, answers, summaries."""
    said = {}
    for path in sorted((ROOT / "src/reproduction").rglob("findings.toml")):
        for name, one in tomllib.loads(path.read_text()).get("findings", {}).items():
            said[f"{path.parent.name}, {name}"] = one["text"]
    for one in tomllib.loads((ROOT / "src/reproduction/claims.toml").read_text())["claim"]:
        said[f"what follows from {one['id']}"] = one.get("consequence", "")
    for one in tomllib.loads(summary.FRONT.read_text())["summary"]:
        said[f"the summary on {one['question']}"] = one["answer"]
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = ["".join(cell["source"]) for cell in json.loads(path.read_text())["cells"]]
        end = next(cell for cell in cells if cell.startswith("## Summary"))
        said[f"{path.stem}, summary"] = end.replace("\n- ", ". ")
    return said


def test_what_is_said_of_the_records_describes_and_advises_nothing():
    for where, text in said_of_the_records().items():
        found = ADVISES.search(" ".join(text.split()))
        assert not found, f"{where} advises, which is for advice.toml: {text[found.start() :][:80]}"

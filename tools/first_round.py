"""Writes the appendix on the first round: what its records say, in the sentences written then."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from reproduction import findings, records
from reproduction.ch07_frequency_adaptive_rate import experiment as frequency
from reproduction.ch08_fal_versus_meda import experiment as fal_versus_meda
from reproduction.ch11_new_data_every_day import experiment as continual
from reproduction.ch12_real_logs import experiment as real_logs


class Part(NamedTuple):
    """A chapter's part of the appendix."""

    title: str
    page: str
    experiment: ModuleType
    findings: tuple[str, ...]


PARTS = (
    Part("FAL", "07_frequency_adaptive_rate", frequency, ("claim-6",)),
    Part(
        "FAL, MEDA and tail rewind on one window",
        "08_fal_versus_meda",
        fal_versus_meda,
        ("fal-and-meda-on-the-map", "tail-rewind-tuned"),
    ),
    Part(
        "New data every day",
        "11_new_data_every_day",
        continual,
        ("do-the-gains-fade", "tail-rewind-against-the-rest"),
    ),
    Part("KuaiRand", "12_real_logs_and_yours", real_logs, ("claim-10", "tuned-on-kuairand")),
)


def generate(results: Path, target: Path) -> None:
    """Writes first_round.md, a section for each chapter that has a record."""
    sections = []
    for part in PARTS:
        record = records.read(part.experiment.NAME, "long", results)
        if record is None:
            continue
        facts = part.experiment.facts(record)
        said = [findings.sentence(part.experiment, name, facts) for name in part.findings]
        now = f"[The chapter](../notebooks/{part.page}.ipynb) has what replaced it."
        sections += [f"## {part.title}", *said, f"*Record: {record}.* {now}"]
    (target / "first_round.md").write_text("\n\n".join(sections or ["No record found."]) + "\n")

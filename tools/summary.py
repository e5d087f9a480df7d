"""Writes the summary: each question of the claims with its answer and a number from two sources."""

from __future__ import annotations

import tomllib
from pathlib import Path

from reproduction import sentences
from reproduction.judge import QUESTIONS

FRONT = Path(__file__).with_name("front.toml")
HEAD = "| question and answer | AdsWorld | real logs |\n|---|---|---|"


def generate(results: Path, generated: Path) -> None:
    """Writes summary.md, a table."""
    values, lines = sentences.values(results), [HEAD]
    for one in tomllib.loads(FRONT.read_text(encoding="utf-8"))["summary"]:
        question = f"[**{QUESTIONS[one['question']]}**]({one['page']})"
        cells = [f"{question} {one['answer']} *{one['number']}:*", one["world"], one["real"]]
        lines.append(sentences.shown("| " + " | ".join(cells) + " |", values))
    (generated / "summary.md").write_text("\n".join(lines) + "\n", encoding="utf-8")

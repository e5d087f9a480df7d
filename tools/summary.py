"""Writes the summary: each question of the claims with its answer and a number from two sources."""

from __future__ import annotations

import tomllib
from pathlib import Path

from reproduction.judge import QUESTIONS
from tools import numbers

HEAD = "| question and answer | AdsWorld | real logs |\n|---|---|---|"


def generate(results: Path, generated: Path) -> None:
    """Writes summary.md, a table; its numbers are missing if there are no records."""
    known = numbers.front(results)
    lines = [HEAD]
    for one in tomllib.loads(numbers.ASSERTED.read_text(encoding="utf-8"))["summary"]:
        question = f"[**{QUESTIONS[one['question']]}**]({one['page']})"
        cells = [f"{question} {one['answer']} *{one['number']}:*", one["world"], one["real"]]
        lines.append("| " + " | ".join(cells).format_map(known) + " |" if known else "")
    (generated / "summary.md").write_text("\n".join(lines) + "\n")

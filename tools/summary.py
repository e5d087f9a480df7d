"""Writes the summary, an answer to each question of the claims, and what was found of the paper."""

from __future__ import annotations

import tomllib
from pathlib import Path

from reproduction import sentences
from reproduction.judge import QUESTIONS

FRONT = Path(__file__).with_name("front.toml")
HEAD = "| question and answer | AdsWorld | real logs |\n|---|---|---|"
PAPER = "| verdict | the paper's claim, in our words | ours | found |\n|---|---|---|---|"


def generate(results: Path, generated: Path) -> None:
    """Writes summary.md and paper.md, a table each."""
    values, lines = sentences.values(results), [HEAD]
    front = tomllib.loads(FRONT.read_text(encoding="utf-8"))
    rows = [
        f"| **{one['verdict']}** | {one['claim']} | [{one['id']}](#{one['id']}) | {one['found']} |"
        for one in front["paper"]
    ]
    table = sentences.shown("\n".join([PAPER, *rows, ""]), values)
    (generated / "paper.md").write_text(table, encoding="utf-8")
    for one in front["summary"]:
        question = f"[**{QUESTIONS[one['question']]}**]({one['page']})"
        cells = [f"{question} {one['answer']} *{one['number']}:*", one["world"], one["real"]]
        lines.append(sentences.shown("| " + " | ".join(cells) + " |", values))
    (generated / "summary.md").write_text("\n".join(lines) + "\n", encoding="utf-8")

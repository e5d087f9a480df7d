"""Prints the advice of advice.toml wherever a page advises.

    python -m tools.advice

writes it into the README, which has the findings of the front page, too.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from textwrap import indent

from tabulate import tabulate

from multiepoch_lab.files import write_text
from reproduction import judge, sentences

ADVICE = judge.LEDGER.with_name("advice.toml")
FINDINGS = re.compile(r"(?<=:::\{div\} findings\n).*?(?=:::)", re.S)  # of the front page
# In a link to a page of the book, as seen from book/.
PAGE = re.compile(r"\]\((?!http)(?=[\w-]+\.md)")


@dataclass(frozen=True)
class Step:
    """A step of the path of decisions; advice.toml explains the fields."""

    ask: str
    do: str
    text: str
    worth: str
    skip: str

    def short(self) -> str:
        return f"**{self.ask}** {self.do}"

    def long(self) -> str:
        return f"{self.short()} {self.text}"


def steps(results: Path) -> list[Step]:
    """Returns the steps with their numbers, or without steps if there are no records."""
    if not sentences.are_there(results):
        return []
    values = sentences.values(results)
    written = tomllib.loads(ADVICE.read_text(encoding="utf-8"))["step"]
    return [
        Step(
            one["ask"],
            one["do"],
            sentences.shown(one["text"].strip(), values),
            sentences.shown(one["worth"], values),
            one["skip"],
        )
        for one in written
    ]


def numbered(lines: list[str]) -> str:
    """Returns a numbered list; what follows a first paragraph is indented, as a part of it."""
    indented = (indent(line, "   ").lstrip() for line in lines)
    return "\n".join(f"{k}. {line}" for k, line in enumerate(indented, start=1)) + "\n"


def table(path: list[Step]) -> str:
    """Returns what to do, what it is worth and when to skip it, a line for each step."""
    lines = [(f"{k}. {one.short()}", one.worth, one.skip) for k, one in enumerate(path, start=1)]
    return tabulate(lines, ["do", "what it is worth", "skip it if"], "pipe") + "\n"


def generate(results: Path, generated: Path) -> None:
    """Writes advice.md, the table of steps, and advice_long.md, with what each rests on."""
    path = steps(results)
    (generated / "advice.md").write_text(table(path))
    (generated / "advice_long.md").write_text(numbered([step.long() for step in path]))


def write(root: Path) -> list[Path]:
    """Writes the advice and the findings into the README; returns it if it changed."""
    path = steps(root / "results")
    front = FINDINGS.search((root / "book" / "index.md").read_text())
    assert front is not None
    readme = root / "README.md"
    said = {
        "advice": PAGE.sub("](book/", numbered([step.short() for step in path])),
        "findings": PAGE.sub(
            "](book/", sentences.on_a_page(front[0], sentences.values(root / "results"))
        ),
    }
    text = now = readme.read_text()
    for name, lines in said.items():
        between = rf"(?<=<!-- {name} -->\n).*?(?=<!-- end of {name} -->)"
        now = re.sub(between, lambda _, lines=lines: f"\n{lines}\n", now, flags=re.S)
    if now == text:
        return []
    write_text(readme, now)
    return [readme]


if __name__ == "__main__":
    for path in write(Path(".")):
        print(f"{path}: advice written")

"""Prints the advice of advice.toml wherever a page advises.

    python -m tools.advice

writes it into the stored notebooks, under "What to do on Monday", and into the README, which has
the findings of the front page, too.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from textwrap import indent

import nbformat

from multiepoch_lab.files import write_text
from reproduction import judge, sentences

ADVICE = judge.LEDGER.with_name("advice.toml")
MONDAY = "## What to do on Monday"
PATH = "book/use-it.md"  # has all steps
FINDINGS = re.compile(r"(?<=:::\{div\} findings\n).*?(?=:::)", re.S)  # of the front page
# In a link to a page of the book, as seen from book/.
PAGE = re.compile(r"\]\((?!http)(?=[\w-]+\.md)")


@dataclass(frozen=True)
class Step:
    """A step of the path of decisions; advice.toml explains the fields."""

    ask: str
    do: str
    text: str
    chapters: tuple[str, ...]

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
            tuple(one["chapters"]),
        )
        for one in written
    ]


def numbered(lines: list[str]) -> str:
    """Returns a numbered list; what follows a first paragraph is indented, as a part of it."""
    indented = (indent(line, "   ").lstrip() for line in lines)
    return "\n".join(f"{k}. {line}" for k, line in enumerate(indented, start=1)) + "\n"


def monday(stem: str, path: list[Step]) -> str:
    """Returns the cell of a notebook: the steps of its chapter, by their numbers on the path."""
    mine = [(k, step) for k, step in enumerate(path, start=1) if stem in step.chapters]
    said = "\n\n".join(f"**{k}.** {step.short()}" for k, step in mine)
    where = f"[The whole path](../{PATH}) has {len(path)} steps, with what each is worth."
    return f"{MONDAY}\n\n{PAGE.sub('](../book/', said)}\n\n{where}"


def generate(results: Path, generated: Path) -> None:
    """Writes advice.md, with all steps, and advice_short.md, for the pages that include them."""
    path = steps(results)
    (generated / "advice.md").write_text(numbered([step.long() for step in path]))
    (generated / "advice_short.md").write_text(numbered([step.short() for step in path]))


def write(root: Path) -> list[Path]:
    """Writes the advice into the notebooks and the README; returns the files that changed."""
    path, changed = steps(root / "results"), []
    for notebook in sorted((root / "notebooks").glob("*.ipynb")):
        document = nbformat.read(notebook, as_version=4)
        cells = [cell for cell in document.cells if cell.source.startswith(MONDAY)]
        for cell in cells:
            if cell.source != (now := monday(notebook.stem, path)):
                cell.source = now
                changed.append(notebook)
        if notebook in changed:
            nbformat.write(document, notebook)
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
    if now != text:
        write_text(readme, now)
        changed.append(readme)
    return changed


if __name__ == "__main__":
    for path in write(Path(".")):
        print(f"{path}: advice written")

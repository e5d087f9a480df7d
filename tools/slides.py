"""Prints three slides: the findings of the front page, each with its picture of the lead figure."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from jinja2 import Environment, FileSystemLoader

from tools import pdf
from tools.colab import Repository

NAME = "slides.pdf"
PICTURES = (0, 4, 5)  # the step of the lead figure that shows each finding, counted from 0


def slides(html: Path) -> list[dict[str, str]]:
    """Returns heading, sentence, picture and its text of each slide, as HTML."""
    from bs4 import BeautifulSoup

    front = BeautifulSoup((html / "book" / "index.html").read_text(), "html.parser")
    found = front.select(".findings li p")
    steps = front.select(".story-step")
    shown = []
    for finding, place in zip(found, PICTURES, strict=True):
        heading = finding.strong.extract().get_text()
        sentence = finding.get_text().strip()
        about = {"heading": heading, "sentence": sentence[0].upper() + sentence[1:]}
        text = steps[place].find("p").get_text()
        shown.append(about | {"picture": str(steps[place].find("svg")), "text": text})
    return shown


def write(browser, root: Path, html: Path, target: Path) -> int:
    """Prints the slides of the book in `html` into `target`, and returns how many there are.

    Raises PdfFailed if there is no book.
    """
    if not (html / "index.html").exists():
        raise pdf.PdfFailed(pdf.NO_BOOK.format(html=html))
    shown = slides(html)
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True)
    page = environment.get_template("slides.html.j2").render(
        slides=shown,
        style=(html / "_static" / "lead.css").read_text(),
        address=Repository.of(root).url,
    )
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "slides.html"
        source.write_text(page, encoding="utf-8")
        target.parent.mkdir(parents=True, exist_ok=True)
        pdf.print_page(browser, source, target)
    return len(shown)


if __name__ == "__main__":
    sys.exit(pdf.command("The slides", NAME, write))

"""Prints the book as one PDF: joins the pages in _build/html and prints them in Chromium.

Links between pages stay links within the file. The book is printed twice, since only the first
print shows on which sheet a page begins, which the table of contents needs.
"""

from __future__ import annotations

import logging
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import yaml
from jinja2 import Environment, FileSystemLoader

from tools.toc import pages

ROOT = Path(__file__).parents[1]
NAME = "the-second-epoch.pdf"
BROWSERS = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)
NO_BROWSER = "No Chromium found; install chromium or Google Chrome."
NO_BOOK = "There are no pages in {html}; run `make book` first."
# Resolves when formulas, fonts and images are loaded, and unfolds everything.
SETTLE = """async () => {
  await window.MathJax?.startup?.promise;
  document.querySelectorAll("details").forEach(details => details.open = true);
  await document.fonts.ready;
  await Promise.all([...document.images].map(image => image.decode().catch(() => {})));
}"""


class PdfFailed(RuntimeError):
    """The PDF could not be printed; the message says what to do."""


class Heading(NamedTuple):
    """An entry of the contents and the outline; level 1 is a page, level 2 a section of it."""

    level: int
    anchor: str
    title: str
    part: str


def browser() -> str | None:
    """Returns the path of a Chromium, or None."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


@contextmanager
def chromium() -> Iterator:
    """Starts a headless Chromium; raises PdfFailed if there is none."""
    from playwright.sync_api import sync_playwright

    executable = browser()
    if executable is None:
        raise PdfFailed(NO_BROWSER)
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield started
        started.close()


def joined(html: Path, pages: dict[str, str]) -> tuple[str, str, list[Heading]]:
    """Joins pages, given with their part of the book, that all lie one folder below `html`.

    Returns the style sheets and scripts, the articles, and the headings in order.
    """
    from bs4 import BeautifulSoup

    head: dict[str, None] = {}  # an ordered set
    articles, headings = [], []
    for name, part in pages.items():
        soup = BeautifulSoup((html / f"{name}.html").read_text(), "html.parser")
        mathjax = [one for one in soup.select("script") if "mathjax" in str(one).lower()]
        head |= dict.fromkeys(map(str, soup.select('head link[rel="stylesheet"]') + mathjax))
        article = soup.select_one("article.bd-article")
        for element in article.select("a.headerlink, button, script"):
            element.decompose()
        article["id"] = ""
        for element in (article, *article.select("[id]")):
            element["id"] = _anchor(name, element["id"])
        for link in article.select("a[href]"):
            _point_into_the_book(link, html / f"{name}.html", html, pages)
        for heading in article.select("h1, section[id] > h2"):
            level = int(heading.name[1])
            anchor = article["id"] if level == 1 else heading.parent["id"]
            title = " ".join(heading.get_text().split())
            headings.append(Heading(level, anchor, title, part))
        articles.append(str(article))
    return "".join(head), "".join(articles), headings


def _anchor(name: str, fragment: str = "") -> str:
    """Returns an id that no two pages share."""
    return f"{name}--{fragment}".replace("/", "-").removesuffix("--")


def _point_into_the_book(link, page: Path, html: Path, pages: dict[str, str]) -> None:
    target = urlsplit(link["href"])
    if target.scheme:
        return
    file = (page.parent / (unquote(target.path) or page.name)).resolve()
    there = file.relative_to(html.resolve()).with_suffix("").as_posix()
    if there in pages:
        link["href"] = f"#{_anchor(there, unquote(target.fragment))}"
    else:
        del link["href"]  # a file beside the pages, which the PDF does not contain


def write(browser, root: Path, html: Path, target: Path) -> int:
    """Prints the book in `html` into `target`, and returns the number of sheets.

    Raises PdfFailed if there is no book.
    """
    from pypdf import PdfReader, PdfWriter

    if not (html / "index.html").exists():
        raise PdfFailed(NO_BOOK.format(html=html))
    head, body, headings = joined(html, pages(root))
    config = yaml.safe_load((root / "_config.yml").read_text())
    about = {name: config[name] for name in ("title", "author")}
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True)
    template = environment.get_template("print.html.j2")
    numbers: dict[str, int] = {}
    # Beside the pages, so that their addresses of images and style sheets remain valid.
    with tempfile.TemporaryDirectory(dir=html) as folder:
        source, printed = Path(folder) / "book.html", Path(folder) / "book.pdf"
        for _ in range(2):
            content = {"head": head, "body": body, "headings": headings, "numbers": numbers}
            source.write_text(template.render(about, **content))
            print_page(browser, source, printed)
            reader = PdfReader(printed)
            places = [reader.named_destinations[f"/{one.anchor}"] for one in headings]
            sheets = [reader.get_destination_page_number(place) for place in places]
            numbers = {one.anchor: 1 + sheet for one, sheet in zip(headings, sheets)}
        logging.getLogger("pypdf").setLevel(logging.ERROR)  # Chromium miscounts its objects
        writer = PdfWriter(clone_from=printed)
    # Chromium's own outline drops the space at a line break within a heading.
    parents = {1: None}
    for one, sheet in zip(headings, sheets):
        above = parents[one.level]
        item = writer.add_outline_item(title=one.title, page_number=sheet, parent=above)
        parents[one.level + 1] = item
    writer.add_metadata({f"/{name.title()}": value for name, value in about.items()})
    target.parent.mkdir(parents=True, exist_ok=True)
    writer.write(target)
    return len(writer.pages)


def print_page(browser, source: Path, printed: Path) -> None:
    """Prints an HTML file as a PDF, once everything in it is loaded."""
    sheet = browser.new_page()
    sheet.set_default_timeout(0)  # laying out every formula of the book takes long
    sheet.emulate_media(media="print", color_scheme="light")
    sheet.goto(source.as_uri())
    sheet.evaluate(SETTLE)
    sheet.pdf(path=printed, prefer_css_page_size=True, tagged=True)
    sheet.close()


def command(what: str, name: str, write: Callable) -> int:
    """Prints the built pages into _build/NAME by write(browser, root, html, target)."""
    build = ROOT / "_build"
    try:
        with chromium() as started:
            n = write(started, ROOT, build / "html", build / name)
    except PdfFailed as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{what}: {build / name}, {n} pages")
    return 0


if __name__ == "__main__":
    sys.exit(command("The book", NAME, write))

"""The book as one PDF: joins the pages in _build/html and prints them through headless Chromium.

Links between pages stay links within the file, folded solutions are unfolded, and the contents
say the page: the book is printed twice, since only the first print tells where a page begins.
"""

from __future__ import annotations

import argparse
import logging
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import yaml

if TYPE_CHECKING:
    from playwright.sync_api import Browser

BROWSERS = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)
NO_BROWSER = "There is no Chromium on this machine; install chromium or Google Chrome."
NO_BOOK = "There are no pages in {html}; run `make book` first."
# Resolves once formulas, fonts and images are there, with everything that folds unfolded.
SETTLE = """async () => {
  await window.MathJax?.startup?.promise;
  document.querySelectorAll("details").forEach(details => details.open = true);
  await document.fonts.ready;
  await Promise.all([...document.images].map(image => image.decode().catch(() => {})));
}"""
PAPER = """
@page { size: A4; margin: 16mm 17mm; @bottom-center { content: counter(page); font-size: 9pt } }
html { font-size: 9pt; }
body { background: #fff; }
.bd-main .bd-content { margin: 0; }
.bd-main .bd-content .bd-article-container { max-width: none; padding: 0; }
.bd-main .bd-content .bd-article { break-before: page; padding: 0; }
.bd-main .bd-content .bd-article h1:first-of-type { display: block; margin-top: 0; }
.contents p { display: flex; justify-content: space-between; margin: 0 0 0.2rem; }
.contents .caption { margin-top: 1rem; }
.contents .level-1 { font-weight: bold; }
.contents .level-2 { padding-left: 1.5rem; }
"""


class PdfFailed(RuntimeError):
    """The PDF could not be made, and what would do."""


@dataclass(frozen=True)
class Page:
    """A page of the built book. name: its file without ".html"; part: its caption in the sidebar,
    empty for the front page."""

    name: str
    part: str


@dataclass(frozen=True)
class Heading:
    """What stands in contents and outline. level: 1 for a page, 2 for a section of it."""

    level: int
    anchor: str
    title: str
    part: str


def browser() -> str | None:
    """The path of a Chromium, or None."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless Chromium. Raises PdfFailed where there is none."""
    from playwright.sync_api import sync_playwright

    executable = browser()
    if executable is None:
        raise PdfFailed(NO_BROWSER)
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield started
        started.close()


def pages(html: Path) -> list[Page]:
    """Every page of the built book in order, from the front page's sidebar.

    Raises PdfFailed where there is no book.
    """
    if not (html / "index.html").exists():
        raise PdfFailed(NO_BOOK.format(html=html))
    front = re.search(r'url=([^"]+)\.html"', (html / "index.html").read_text())[1]
    found = [Page(front, "")]
    part = ""
    for element in _soup(html / f"{front}.html").select(
        "nav.bd-links .caption-text, nav.bd-links a.internal"
    ):
        if element.name == "span":
            part = element.get_text(strip=True)
        elif part:
            path = ((html / front).parent / unquote(element["href"])).resolve()
            name = path.relative_to(html.resolve()).with_suffix("").as_posix()
            found.append(Page(name, part))
    return found


def joined(html: Path, book: list[Page]) -> tuple[str, str, list[Heading]]:
    """All pages as one: what belongs in the HTML's head, its body, and its headings in order."""
    head: dict[str, None] = {}  # a set that keeps the order
    articles, headings = [], []
    for page in book:
        path = html / f"{page.name}.html"
        soup = _soup(path)
        head |= dict.fromkeys(_head(soup, path))
        article = soup.select_one("article.bd-article")
        _make_absolute(article, path, html.resolve(), {page.name for page in book})
        article["id"] = _anchor(page.name)
        for heading in article.select("h1, section[id] > h2"):
            level = int(heading.name[1])
            anchor = article["id"] if level == 1 else heading.parent["id"]
            title = " ".join(heading.get_text().split())
            headings.append(Heading(level, anchor, title, page.part))
        articles.append(str(article))
    return "".join(head), "".join(articles), headings


def _document(
    title: str, author: str, head: str, body: str, headings: list[Heading], numbers: dict[str, int]
) -> str:
    """The whole as one HTML page, with the contents before it. numbers: page by anchor."""
    lines, part = [], ""
    for one in headings:
        if one.part != part:
            part = one.part
            lines.append(f'<p class="caption">{escape(part)}</p>')
        lines.append(
            f'<p class="level-{one.level}"><a href="#{one.anchor}">{escape(one.title)}</a>'
            f"<span>{numbers.get(one.anchor, 0)}</span></p>"
        )
    return (
        f'<!DOCTYPE html><html lang="en" data-theme="light"><head><meta charset="utf-8">'
        f"<title>{escape(title)}</title>{head}<style>{PAPER}</style></head>"
        '<body><main class="bd-main"><div class="bd-content"><div class="bd-article-container">'
        f'<div class="contents"><h1>{escape(title)}</h1><p>{escape(author)}</p>{"".join(lines)}'
        f"</div>{body}</div></div></main></body></html>"
    )


def _head(soup, path: Path) -> Iterator[str]:
    """The style sheets and MathJax of a page, by absolute addresses."""
    for link in soup.head.select('link[rel="stylesheet"]'):
        yield f'<link rel="stylesheet" href="{_address(path, link["href"])}">'
    for script in soup.select("script"):
        if "mathjax" in script.get("src", "").lower():
            yield f'<script defer src="{_address(path, script["src"])}"></script>'
        elif "window.MathJax" in script.get_text():
            yield str(script)


def _address(path: Path, link: str) -> str:
    return (path.parent / unquote(urlsplit(link).path)).resolve().as_uri()


def _anchor(name: str, fragment: str = "") -> str:
    """An id that no two pages share."""
    return f"{name}--{fragment}".replace("/", "-").removesuffix("--")


def _make_absolute(article, path: Path, html: Path, known: set[str]) -> None:
    """Ids get the page's name, links to pages of the book lead to them, pictures are found."""
    here = path.resolve().relative_to(html).with_suffix("").as_posix()
    for element in article.select("a.headerlink, button, script"):
        element.decompose()
    for element in article.select("[id]"):
        element["id"] = _anchor(here, element["id"])
    for image in article.select("[src]"):
        image["src"] = _address(path, image["src"])
    for link in article.select("a[href]"):
        target = urlsplit(link["href"])
        if target.scheme:
            continue
        file = (path.parent / unquote(target.path)).resolve() if target.path else path.resolve()
        name = file.relative_to(html).with_suffix("").as_posix()
        if name in known:
            link["href"] = f"#{_anchor(name, unquote(target.fragment))}"
        else:
            del link["href"]  # a file beside the pages, which the PDF does not bring along


def _soup(path: Path):
    from bs4 import BeautifulSoup

    return BeautifulSoup(path.read_text(), "html.parser")


def write(browser: Browser, root: Path, html: Path, target: Path) -> int:
    """Prints the book in `html` into `target`. Returns the number of sheets.

    Raises PdfFailed where there is no book.
    """
    from pypdf import PdfReader, PdfWriter

    head, body, headings = joined(html, pages(html))
    config = yaml.safe_load((root / "_config.yml").read_text())
    title, author = config["title"], config["author"]
    numbers: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder:
        source, printed = Path(folder) / "book.html", Path(folder) / "book.pdf"
        for _ in range(2):
            source.write_text(_document(title, author, head, body, headings, numbers))
            sheet = browser.new_page()
            sheet.set_default_timeout(0)  # every formula of the book at once takes its time
            sheet.emulate_media(media="print", color_scheme="light")
            sheet.goto(source.as_uri())
            sheet.evaluate(SETTLE)
            sheet.pdf(path=printed, prefer_css_page_size=True, tagged=True)
            sheet.close()
            reader = PdfReader(printed)
            places = reader.named_destinations
            numbers = {
                one.anchor: 1 + reader.get_destination_page_number(places[f"/{one.anchor}"])
                for one in headings
            }
        logging.getLogger("pypdf").setLevel(logging.ERROR)  # Chromium miscounts its objects
        # Chromium's own outline garbles headings that are broken over two lines.
        writer = PdfWriter(clone_from=printed)
    parent = None
    for one in headings:
        above = None if one.level == 1 else parent
        item = writer.add_outline_item(
            title=one.title, page_number=numbers[one.anchor] - 1, parent=above
        )
        parent = item if one.level == 1 else parent
    writer.add_metadata({"/Title": title, "/Author": author})
    target.parent.mkdir(parents=True, exist_ok=True)
    writer.write(target)
    return len(writer.pages)


def command(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        "multiepoch pdf", description="Prints the built book into _build/beyond-one-epoch.pdf."
    )
    parser.add_argument("--root", type=Path, default=Path("."), help="the repository")
    build = parser.parse_args(arguments).root.resolve() / "_build"
    target = build / "beyond-one-epoch.pdf"
    try:
        with chromium() as started:
            n = write(started, build.parent, build / "html", target)
    except PdfFailed as error:
        print(error, file=sys.stderr)
        return 1
    print(f"The book: {target}, {n} pages")
    return 0


if __name__ == "__main__":
    sys.exit(command(sys.argv[1:]))

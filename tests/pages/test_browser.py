"""Every page of the book in _build/html, as Chromium shows it, whatever profile it was built in."""

import re
from unicodedata import normalize

import pytest
from bs4 import BeautifulSoup
from findings import HTML, PATIENCE, THEMES, WIDTHS, findings, visit
from pypdf import PdfReader

from multiepoch import pdf

PAGES = [page.name for page in pdf.pages(HTML)]
SEARCH = "search.html?q=MEDA"


def address(name: str) -> str:
    return (HTML / f"{name}.html").as_uri()


@pytest.mark.parametrize("name", [*PAGES, SEARCH])
def test_page(chromium, name, record_property):
    found, views = [], []
    where = f"{HTML.as_uri()}/{SEARCH}" if name == SEARCH else address(name)
    for width in WIDTHS:
        for theme in THEMES:
            with visit(chromium, where, width, theme) as seen:
                found += [f"{width} px, {theme}: {finding}" for finding in findings(seen)]
                views.append(seen.first_view)
                size = seen.bytes
    record_property("first view after", f"{max(views):.2f} s")
    record_property("HTML and images", f"{size / 1000:,.0f} kB")
    if found:
        pytest.fail("\n".join(found), pytrace=False)


def test_every_page_that_can_be_found_is_in_the_sidebar():
    beside = {"index", "search", "genindex", "py-modindex"}
    files = {path.relative_to(HTML).with_suffix("").as_posix() for path in HTML.rglob("*.html")}
    files = {name for name in files if not name.startswith(("_static/", "_modules/"))}
    assert files - beside == set(PAGES)


@pytest.mark.parametrize(("side", "pages"),
                         [("right-next", PAGES), ("left-prev", PAGES[::-1])],
                         ids=["next by keyboard", "previous by keyboard"])  # fmt: skip
def test_next_and_previous_by_keyboard(chromium, side, pages):
    page = chromium.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(address(pages[0]))
    for name in pages[1:]:
        # From where the article ends; from the top of the page it would take a hundred times.
        page.evaluate("""() => {
          const start = document.createElement("a");
          start.href = "#";
          document.querySelector(".prev-next-area").before(start);
          start.focus();
        }""")
        for _ in range(2):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.className") == side:
                break
        page.keyboard.press("Enter")
        page.wait_for_url(address(name))
    page.close()


@pytest.mark.parametrize("width", WIDTHS, ids="search at {} px".format)
def test_search_finds_meda(chromium, width):
    page = chromium.new_page(viewport={"width": width, "height": 900})
    page.set_default_timeout(PATIENCE)
    page.goto(address(PAGES[0]))
    page.locator(".search-button__button:visible").first.click()
    page.keyboard.type("MEDA")
    page.keyboard.press("Enter")
    page.wait_for_url("**/search.html?q=MEDA*")
    page.wait_for_selector("#search-results li a")
    results = page.locator("#search-results li a").evaluate_all("all => all.map(a => a.href)")
    assert any("/notebooks/" in result for result in results), results
    page.close()


def test_the_pdf_has_every_page_with_its_place_in_contents_and_outline(chromium, tmp_path):
    book = [BeautifulSoup((HTML / f"{name}.html").read_text(), "html.parser") for name in PAGES]
    target = tmp_path / "book.pdf"
    n = pdf.write(chromium, HTML.parents[1], HTML, target)
    reader = PdfReader(target)
    assert n == len(reader.pages)
    outline = [one for one in reader.outline if not isinstance(one, list)]
    starts = [1 + reader.get_destination_page_number(one) for one in outline]
    titles = [page.select_one("article h1").get_text() for page in book]
    assert starts == sorted(set(starts))
    texts = [normalize("NFKC", sheet.extract_text()) for sheet in reader.pages]  # no ligatures
    contents = " ".join(texts[: starts[0] - 1])
    for title, one, start in zip(titles, outline, starts, strict=True):
        assert title.removesuffix("#").split() == one.title.split()
        assert re.search(rf"{re.escape(one.title)}\s*{start}\b", contents), one.title
        assert one.title.split()[0] in texts[start - 1]
    links = [note["/A"].get("/URI", "") for sheet in reader.pages
             for note in sheet.get("/Annots", []) if "/A" in note]  # fmt: skip
    assert not [link for link in links if link.startswith("file:")]
    pictures = sum(len(page.select("article img[src$=png]")) for page in book)
    assert sum(len(sheet.images) for sheet in reader.pages) >= pictures > 0

"""Every page of the book in _build/html, as Chromium shows it."""

from urllib.parse import quote

import pytest
import yaml
from bs4 import BeautifulSoup
from findings import CHECKS, HTML, OF_A_THEME, PATIENCE, THEMES, WIDTHS, findings, visit

from tools.toc import pages

ROOT = HTML.parents[1]
PAGES = list(pages(ROOT))
SEARCH = "search.html?q=MEDA"
PAPER = yaml.safe_load((ROOT / "CITATION.cff").read_text())["references"][0]["title"]


def address(name: str) -> str:
    return (HTML / f"{name}.html").as_uri()


@pytest.mark.parametrize("name", [*PAGES, SEARCH])
def test_page(chromium, name):
    found = []
    where = f"{HTML.as_uri()}/{SEARCH}" if name == SEARCH else address(name)
    for width in WIDTHS:
        for theme in THEMES:
            checks = CHECKS if theme == THEMES[0] else OF_A_THEME
            with visit(chromium, where, width, theme) as seen:
                found += [f"{width} px, {theme}: {finding}" for finding in findings(seen, checks)]
    if found:
        pytest.fail("\n".join(found), pytrace=False)


def test_every_page_that_can_be_found_is_in_the_sidebar():
    beside = {"index", "search", "genindex", "py-modindex"}
    files = {path.relative_to(HTML).with_suffix("").as_posix() for path in HTML.rglob("*.html")}
    files = {name for name in files if not name.startswith(("_static/", "_modules/"))}
    assert files - beside == set(PAGES)
    front = HTML / f"{PAGES[0]}.html"
    sidebar = BeautifulSoup(front.read_text(), "html.parser").select("nav.bd-links a.internal")
    links = [link["href"] for link in sidebar if link["href"] != "#"]  # all but the front page
    there = [(front.parent / link).resolve().relative_to(HTML.resolve()) for link in links]
    assert [path.with_suffix("").as_posix() for path in there] == PAGES[1:]


def focus_before(page, selector: str) -> None:
    """Moves the focus so that Tab goes to the first control of the element."""
    page.evaluate(
        """selector => {
          const start = document.createElement("a");
          start.href = "#";
          document.querySelector(selector).before(start);
          start.focus();
        }""",
        selector,
    )


@pytest.mark.parametrize("query", ["second epoch", "FAL", "meda", "arXiv 2505.05605", PAPER])
def test_the_search_for_what_the_book_is_about_finds_the_front_page_first(chromium, query):
    page = chromium.new_page()
    page.set_default_timeout(PATIENCE)
    errors = []
    page.on("pageerror", lambda error: errors.append(error))
    page.goto(f"{HTML.as_uri()}/search.html?q={quote(query)}")
    page.get_by_text("Search finished").wait_for()
    results = page.locator("#search-results li a").evaluate_all("all => all.map(a => a.href)")
    assert results[0].startswith(address(PAGES[0])), results[:3]
    assert not errors
    page.close()


# The interactive figure --------------------------------------------------------------


@pytest.fixture(params=["book/index", "notebooks/08_fal_versus_meda"])
def figure(chromium, request):
    """A page with the interactive figure, on a device with mouse, keyboard and touch screen."""
    page = chromium.new_page(viewport={"width": 1440, "height": 900}, has_touch=True)
    page.set_default_timeout(PATIENCE)
    page.goto(address(request.param))
    page.locator(".touch-chart").scroll_into_view_if_needed()
    yield page
    page.close()


def said(page) -> str:
    """Returns the label of the chart, which includes its numbers."""
    return page.locator(".touch-chart").get_attribute("aria-label")


def test_every_control_of_the_interactive_figure_works_by_keyboard(figure):
    focus_before(figure, ".touch")
    lines = figure.locator(".touch-chart .touch-line")
    focused = "document.activeElement.type + ' ' + (document.activeElement.value ?? '')"
    before, n_lines = said(figure), lines.count()
    controls = ["radio", "radio", "range", "range", "checkbox"]
    keys = ["ArrowRight", "ArrowRight", "ArrowRight", "ArrowRight", "Space"]
    for kind, key in zip(controls, keys):
        figure.keyboard.press("Tab")
        where = figure.evaluate(focused)
        assert where.startswith(kind), f"Tab went to {where}, not to a {kind}"
        figure.keyboard.press(key)
        assert said(figure) != before, f"{key} on {where} changed nothing"
        before = said(figure)
    assert lines.count() == n_lines - 1
    heard = figure.locator(".touch [aria-live]").text_content()
    assert heard == before, "a screen reader announces what the keys did"


def test_the_interactive_figure_follows_mouse_and_finger(figure):
    point = figure.locator(".touch-point output")
    box = figure.locator(".touch-chart").bounding_box()

    def at(share: float) -> tuple[float, float]:
        return box["x"] + share * box["width"], box["y"] + 0.5 * box["height"]

    changes = figure.locator(".touch tbody td:last-child")
    at_the_start = changes.all_text_contents()
    figure.mouse.move(*at(0.97))
    assert point.text_content() == "end of epoch 3"
    assert all(a != b for a, b in zip(changes.all_text_contents(), at_the_start, strict=True))
    figure.touchscreen.tap(*at(0.03))
    assert point.text_content() == "a quarter into epoch 1"
    figure.locator(".touch label", has_text="click").first.tap()
    assert "of click," in said(figure)


def test_without_scripts_there_is_a_static_figure(chromium):
    page = chromium.new_page(java_script_enabled=False)
    page.goto(address("book/index"))
    shown = page.locator('figure[id$="-interactive"] img')
    assert shown.bounding_box()["width"] > 300
    assert "Change a quarter into epoch 2" in shown.get_attribute("alt")
    page.close()

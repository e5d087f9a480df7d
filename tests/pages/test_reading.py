"""What the pages do for a reader: the first view, solutions, terms."""

import pytest
from findings import (
    FIRST_VIEW_BYTES,
    FIRST_VIEW_SECONDS,
    HTML,
    PATIENCE,
    SHIFT,
    THEMES,
    WIDTHS,
    images,
    other_sites,
    sideways,
    visit,
)

from tools.toc import pages

ROOT = HTML.parents[1]
FRONT = (HTML / "book" / "index.html").as_uri()
CHAPTER = (HTML / "notebooks" / "06_why_the_row_holds_the_label.html").as_uri()
SCREENS = {"desk": (1440, 900), "tablet": (768, 1024), "phone": (390, 844)}
BACKGROUND = "one => getComputedStyle(one).backgroundColor"
MOVING = {"reduced_motion": "no-preference"}
screens = pytest.mark.parametrize("screen", SCREENS)


def size(screen: str) -> dict:
    width, height = SCREENS[screen]
    return {"viewport": {"width": width, "height": height}}


@screens
def test_the_first_view_is_quick_light_and_still_and_says_what_was_found(chromium, screen):
    views = []
    for _ in range(3):  # another program may be in the way of one
        with visit(chromium, FRONT, 0, "light", settled=False, **size(screen), **MOVING) as seen:
            seen.page.evaluate("async () => { await document.fonts.ready; }")
            views.append(seen.first_view)
            loaded, shift = seen.loaded, seen.shift
            bottoms = seen.page.locator(".findings li").evaluate_all(
                "all => all.map(one => one.getBoundingClientRect().bottom)"
            )
            assert other_sites(seen) == []
    assert min(views) < FIRST_VIEW_SECONDS
    assert loaded < FIRST_VIEW_BYTES
    assert shift < SHIFT
    assert len(bottoms) == 3 and max(bottoms) < SCREENS[screen][1]


def test_on_paper_everything_is_there(chromium):
    with visit(chromium, CHAPTER, 1440, "light", settled=False) as seen:
        assert seen.page.locator("article [hidden]").count() > 0
        seen.page.emulate_media(media="print")
        folded = seen.page.locator("article [hidden]").evaluate_all(
            """all => all.filter(one => !one.getBoundingClientRect().height
            || getComputedStyle(one).contentVisibility == "hidden").length"""
        )
        assert folded == 0


# Without scripts ---------------------------------------------------------------------


@pytest.mark.parametrize("name", pages(ROOT))
def test_without_scripts_every_page_can_be_read(chromium, name):
    where = (HTML / f"{name}.html").as_uri()
    reader = {"settled": False, "java_script_enabled": False}
    for width in WIDTHS:
        with visit(chromium, where, width, "light", **reader) as seen:
            page = seen.page
            assert page.locator("article [hidden]").count() == 0
            assert page.locator("article h1").is_visible()
            for theme in THEMES:
                page.emulate_media(color_scheme=theme)
                assert page.locator("body").evaluate(BACKGROUND) == "rgb(255, 255, 255)"
            assert sideways(seen) + images(seen) == [], f"{width} px"
            if where == CHAPTER:
                summary = page.locator("summary", has_text="Solution").first
                summary.click()
                assert summary.locator("xpath=..").get_attribute("open") is not None


# By keyboard -------------------------------------------------------------------------


@pytest.fixture
def reader(chromium):
    page = chromium.new_page(viewport={"width": 1440, "height": 900})
    page.set_default_timeout(PATIENCE)
    yield page
    page.close()


def test_a_solution_opens_after_an_attempt(reader):
    reader.goto(CHAPTER)
    solutions = reader.locator("details", has=reader.locator("summary", has_text="Solution"))
    assert not solutions.first.is_visible()
    reader.locator(".attempt textarea").first.focus()
    reader.keyboard.type("It")
    assert solutions.first.is_visible() and not solutions.nth(1).is_visible()
    reader.locator(".attempt button").first.press("Enter")  # the second exercise's
    assert solutions.nth(1).get_attribute("open") is not None


def test_a_term_shows_its_definition_on_focus_and_hover_until_escape(reader):
    reader.goto(CHAPTER)
    term, tip = reader.locator("a.term").first, reader.locator("#term-tip")
    term.focus()
    assert tip.is_visible()
    assert tip.text_content() == term.get_attribute("data-definition")
    assert term.get_attribute("aria-describedby") == "term-tip"
    reader.keyboard.press("Escape")
    assert not tip.is_visible()
    term.hover()
    assert tip.is_visible()
    tip.hover()
    reader.wait_for_timeout(300)
    assert tip.is_visible(), "the pointer may go to the definition"
    reader.mouse.move(0, 0)
    tip.wait_for(state="hidden")

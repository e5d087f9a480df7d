"""Every page of the built quick book, as a browser receives it."""

import re
from copy import copy
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

import matplotlib.image
import pytest
import yaml
from bs4 import BeautifulSoup

import multiepoch.optim
import multiepoch_lab.data
import multiepoch_lab.train
from tools import interactive_figure
from tools.toc import pages

ROOT = Path(__file__).parents[1]
PAGES = list(pages(ROOT))
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text())
SITE = CONFIG["html"]["baseurl"]
LIMIT = 300_000  # bytes that a page loads for the interactive figure
each_page = pytest.mark.parametrize("name", PAGES)
pytestmark = [pytest.mark.page, pytest.mark.timeout(1_800)]  # the first builds the book


@cache
def soup(path: Path) -> BeautifulSoup:
    """Parses a page once for all tests, which must not change it."""
    return BeautifulSoup(path.read_text(), "html.parser")


@cache
def ids(path: Path) -> set[str]:
    return {element["id"] for element in soup(path).find_all(id=True)}


def article(html: Path, name: str):
    return soup(html / f"{name}.html").select_one("article.bd-article")


@each_page
def test_says_something_and_has_no_debris_of_programs_or_of_markdown(html, name):
    page = article(html, name)
    assert page.find("h1") is not None
    text = page.get_text()
    assert len(text.split()) > 20
    assert not page.select(".output.traceback, .output.stderr")
    for debris in (r"Traceback \(most recent", r"\d%\|", r"it/s\]", r"HBox\(", r"<Figure size"):
        assert not re.search(debris, text), debris
    for paragraph in page.find_all("p"):
        table = re.match(r"\s*\|.*\|\s*$", paragraph.get_text(), flags=re.S)
        assert not table, paragraph.get_text()
    prose = copy(page)
    for code in prose.select("pre, code"):
        code.decompose()
    assert "{{" not in prose.get_text(), "a value has no number"


@each_page
def test_every_image_is_there_has_something_to_see_and_an_alt_text(html, name):
    page = article(html, name)
    for image in page.find_all("img"):
        path = (html / f"{name}.html").parent / unquote(image["src"])
        assert path.is_file(), image["src"]
        assert len(image.get("alt", "").split()) >= 3, f"{image['src']} has no alt text"
        if path.suffix == ".png":
            pixels = matplotlib.image.imread(path)
            assert pixels.std() > 0.01, f"{image['src']} is empty"
            if pixels.shape[-1] == 4:
                assert pixels[..., 3].min() == 1, f"{image['src']} is not opaque"
    for figure in page.find_all("figure"):
        assert figure.find(["img", "svg", "table"]) is not None, "an empty figure"
        assert figure.find("figcaption").get_text(strip=True)


@each_page
def test_no_internal_link_is_broken(html, name):
    here = html / f"{name}.html"
    for link in soup(here).find_all("a", href=True):
        target = urlsplit(link["href"])
        if target.scheme or target.netloc:
            continue
        path = (here.parent / unquote(target.path)).resolve() if target.path else here
        assert path.exists(), link["href"]
        if target.fragment and path.suffix == ".html":
            assert unquote(target.fragment) in ids(path), link["href"]


@each_page
def test_nothing_is_fetched_from_another_site(html, name):
    page = soup(html / f"{name}.html")
    for tag, attribute in (("script", "src"), ("img", "src"), ("link", "href"), ("iframe", "src")):
        for element in page.find_all(tag, **{attribute: True}):
            if element.get("rel") == ["canonical"]:  # says where the page is, and is not fetched
                assert element["href"] == f"{SITE}{name}.html"
                continue
            assert not urlsplit(element[attribute]).netloc, element[attribute]


def test_the_sitemap_has_every_page_and_no_other(html):
    written = re.findall("<loc>(.*?)</loc>", (html / "sitemap.xml").read_text())
    there = {one.removeprefix(SITE) for one in written}
    assert there == {f"{name}.html" for name in PAGES}


def test_every_public_name_is_on_the_api_page(html):
    for module in (multiepoch_lab.data, multiepoch.optim, multiepoch_lab.train):
        for name in filter(lambda name: callable(getattr(module, name)), module.__all__):
            assert f"{module.__name__}.{name}" in ids(html / "book/api.html")


@pytest.mark.parametrize("name", [name for name in PAGES if name.startswith("notebooks/")])
def test_the_badge_of_colab_is_at_the_top_of_the_page(html, name):
    page = article(html, name)
    (image,) = page.select('a[href^="https://colab.research.google.com/"] > img')
    assert image["alt"] == "Open in Colab"
    assert ((html / f"{name}.html").parent / image["src"]).is_file()
    assert image.find_previous(["h1", "h2"]).name == "h1"


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("book/index", interactive_figure.FRONT),
        ("notebooks/08_fal_versus_meda", interactive_figure.CHAPTER),
    ],
)
def test_the_interactive_figure_has_its_script_and_loads_little(html, name, label):
    path = html / f"{name}.html"
    figure = soup(path).find("figure", id=label)
    image = path.parent / figure.find("img")["src"]
    names = [tag["src"] for tag in soup(path).select('script[src*="_static/interactive_figure"]')]
    assert [Path(name).name for name in names] == [interactive_figure.DATA, "interactive_figure.js"]
    style = path.parent / "../_static/interactive_figure.css"
    loaded = [image, style, *(path.parent / name for name in names)]
    assert sum(one.stat().st_size for one in loaded) < LIMIT

"""Finds faults of a page as Chromium shows it: each check returns one sentence a fault."""

import io
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from urllib.parse import unquote, urlsplit

import matplotlib.image
import numpy as np
from playwright.sync_api import Browser, Page

# Resolves when formulas, fonts and images are loaded, and unfolds everything.
SETTLE = """async () => {
  await window.MathJax?.startup?.promise;
  document.querySelectorAll("details").forEach(details => details.open = true);
  await document.fonts.ready;
  await Promise.all([...document.images].map(image => image.decode().catch(() => {})));
}"""
HTML = Path(__file__).parents[2] / "_build" / "html"
WIDTHS = (1440, 768, 390)
THEMES = ("light", "dark")
BYTES = 1_500_000  # of a page's own HTML and its images
FIRST_VIEW_BYTES = (
    800_000  # of all that the front page loads, from a server that compresses nothing
)
FIRST_VIEW_SECONDS = 1.0
SHIFT = 0.05  # of the layout, as Chromium scores it
PATIENCE = 180_000  # ms; a busy machine is no fault of the page
CONTRAST = 4.5  # WCAG 2.1, 1.4.3
WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
OF_COLOURS = ["color-contrast", "link-in-text-block"]  # axe's slowest rules
AXE = next(path for path in files("axe_playwright_python").iterdir() if path.name == "axe.min.js")


@dataclass
class Visit:
    """A page in one width and theme, with the browser's messages and requests."""

    page: Page
    theme: str
    said: list[str] = field(default_factory=list)
    fetched: dict[str, str] = field(default_factory=dict)  # address -> kind

    @property
    def bytes(self) -> int:
        """The bytes of the page's own HTML and its images."""
        return total(a for a, kind in self.fetched.items() if kind in ("document", "image"))

    @property
    def loaded(self) -> int:
        """The bytes of all files that the page has loaded."""
        return total(self.fetched)

    @property
    def shift(self) -> float:
        """The sum of all layout shifts so far."""
        return self.page.evaluate("""() => new Promise((resolve) =>
          new PerformanceObserver((list) => resolve(
            list.getEntries().reduce((sum, shift) => sum + shift.value, 0)))
          .observe({ type: "layout-shift", buffered: true }) ?? setTimeout(resolve, 500, 0))""")

    @property
    def first_view(self) -> float:
        """Returns the seconds until the first text was painted."""
        paint = "performance.getEntriesByName('first-contentful-paint')[0]"
        self.page.wait_for_function(paint)  # a busy machine paints after the page has loaded
        return self.page.evaluate(f"{paint}.startTime") / 1000


def file(address: str) -> Path:
    return Path(unquote(urlsplit(address).path))


def total(addresses: Iterable[str]) -> int:
    return sum(path.stat().st_size for path in set(map(file, addresses)) if path.is_file())


@contextmanager
def visit(
    chromium: Browser, address: str, width: int, theme: str, settled: bool = True, **reader
) -> Iterator[Visit]:
    """Opens a page from disk, unfolds everything if `settled`, and waits for formulas and images.

    The reader may differ in what `Browser.new_context` takes, such as reduced_motion.
    """
    about = {"viewport": {"width": width, "height": 900}, "reduced_motion": "reduce"} | reader
    context = chromium.new_context(color_scheme=theme, **about)
    context.route(re.compile("^https?:"), lambda route: route.abort())
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    seen = Visit(page, theme)
    page.on("console", lambda m: seen.said.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: seen.said.append(str(error)))
    page.on("request", lambda r: seen.fetched.update({r.url: r.resource_type}))
    page.goto(address)
    if settled:
        page.evaluate(SETTLE)
    if "search.html?" in address:
        page.wait_for_selector("#search-results li a")
    yield seen
    context.close()


def console(seen: Visit) -> list[str]:
    return [f"the console says: {text}" for text in seen.said]


def other_sites(seen: Visit) -> list[str]:
    others = [a for a in seen.fetched if urlsplit(a).scheme not in ("file", "data", "blob")]
    return [f"fetched from another site: {a}" for a in others]


def size(seen: Visit) -> list[str]:
    return [f"{seen.bytes:,} bytes of HTML and images"] if seen.bytes > BYTES else []


def sideways(seen: Visit) -> list[str]:
    """Finds what reaches past the right edge, except in elements that scroll."""
    return seen.page.evaluate("""() => {
      const width = document.documentElement.clientWidth, found = [];
      const wide = document.documentElement.scrollWidth - width;
      if (wide > 0) found.push(`the page scrolls sideways by ${wide} px`);
      for (const element of document.querySelectorAll("main *")) {
        if (element.closest("mjx-assistive-mml")) continue;
        if (!element.checkVisibility({visibilityProperty: true})) continue;
        if (element.getBoundingClientRect().right <= width + 1) continue;
        let parent = element.parentElement;
        while (parent && !/auto|scroll/.test(getComputedStyle(parent).overflowX))
          parent = parent.parentElement;
        if (!parent) found.push(`past the right edge: ${element.outerHTML.slice(0, 100)}`);
      }
      return found.slice(0, 5);
    }""")


def formulas(seen: Visit) -> list[str]:
    return seen.page.evaluate(r"""() => {
      const found = [];
      for (const math of document.querySelectorAll(".math"))
        if (!math.querySelector("mjx-container"))
          found.push(`a formula is not rendered: ${math.textContent.slice(0, 80)}`);
      for (const error of document.querySelectorAll("mjx-merror"))
        found.push(`a formula is wrong: ${error.title} ${error.textContent.slice(0, 80)}`);
      const walk = document.createTreeWalker(
        document.querySelector("main"), NodeFilter.SHOW_TEXT);
      while (walk.nextNode()) {
        const text = walk.currentNode;
        if (text.parentElement.closest("pre, code, script, style, mjx-container, .math")) continue;
        if (/\$[^$]+\$|\\[([]|\\begin\{/.test(text.data))
          found.push(`raw TeX: ${text.data.trim().slice(0, 80)}`);
      }
      return found;
    }""")


def images(seen: Visit) -> list[str]:
    """Finds images that are missing, or are illegible in the theme."""
    found = []
    for image in seen.page.locator("main img:visible").all():
        source = (image.get_attribute("src") or "")[:80]
        if not image.evaluate("image => image.naturalWidth"):
            found.append(f"there is no image {source}")
            continue
        pixels = matplotlib.image.imread(io.BytesIO(image.screenshot()))[..., :3]
        linear = np.where(pixels <= 0.04045, pixels / 12.92, ((pixels + 0.055) / 1.055) ** 2.4)
        light = linear @ [0.2126, 0.7152, 0.0722]
        # Dark on light, or in dark mode light on dark: the ground is what most of a figure is.
        dark, ground, bright = np.quantile(light, [0.001, 0.5, 0.999]) + 0.05
        contrast = max(ground / dark, bright / ground)
        if contrast < CONTRAST:
            found.append(f"{source} is not legible: contrast {contrast:.1f}")
    return found


def structure(seen: Visit) -> list[str]:
    """Finds what breaks another rule of axe's than those of colours."""
    return axe(seen, {"runOnly": WCAG, "rules": {key: {"enabled": False} for key in OF_COLOURS}})


def colours(seen: Visit) -> list[str]:
    """Finds text that its colour hides; code, whose colours no width changes, at the widest."""
    narrow = seen.page.viewport_size["width"] < max(WIDTHS)
    return axe(seen, {"runOnly": OF_COLOURS}, without=["pre"] if narrow else [])


def axe(seen: Visit, options: dict, without: Sequence[str] = ()) -> list[str]:
    """Finds violations of WCAG 2.2, levels A and AA, as far as axe-core detects them."""
    if not seen.page.evaluate("() => 'axe' in window"):
        seen.page.evaluate(AXE.read_text())
    outcome = seen.page.evaluate(
        "([exclude, options]) => axe.run({exclude}, {...options, resultTypes: ['violations']})",
        [list(without), options],
    )
    return [
        f"axe, {one['id']}: {one['help']}, {len(one['nodes'])} times, as in "
        f"{one['nodes'][0]['html'][:120]} ({' '.join(map(str, one['nodes'][0]['target']))})"
        for one in outcome["violations"]
    ]


OF_A_THEME = (console, other_sites, images, colours)
CHECKS = (*OF_A_THEME, size, sideways, formulas, structure)


def findings(seen: Visit, checks: Iterable[Callable[[Visit], list[str]]] = CHECKS) -> list[str]:
    """Returns all faults of a page that the checks find."""
    return [finding for check in checks for finding in check(seen)]

"""Fixes what jupyter-book and docutils write on every page and offer no setting for."""

import re
from pathlib import Path

from fontTools import subset
from fontTools.ttLib import TTFont

# Search results quote each page. If the book is opened from disk, no page may read another.
FROM_DISK = "DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = location.protocol !== 'file:';"
# Megabytes that most pages have no use for: the icons as scripts, which are in a font as well; the
# typesetting of formulas; the index of the search.
ICONS = re.compile(r"<script[^>]*scripts/fontawesome\.js[^>]*></script>\s*")
FORMULAS = re.compile(r"<script[^>]*tex-chtml\.js[^>]*></script>\s*")
SEARCH = re.compile(r'<script src="[^"]*(searchtools|language_data|searchindex)\.js"></script>\s*')
# "auto" has no colours. Without scripts a page is light; with them, as the reader's system is set,
# before it is first painted.
THEMES = {
    'data-theme="auto"': 'data-theme="light"',
    'localStorage.getItem("theme") || "auto"': (
        'localStorage.getItem("theme") || '
        '(matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")'
    ),
}
# The theme knows 2,000 icons, of which the book uses twenty.
ICON = re.compile(r"(?:\.fa-[\w-]+:+before,?)+\{content:[^}]*\}")
NAME = re.compile(r"\bfa-[\w-]+")
CHARACTER = re.compile("[\ue000-\uf8ff]|\\\\([ef][0-9a-f]{3})")
WOFF2 = re.compile(r'url\([^)]*\.woff2\) format\("woff2"\),')


def fix(app, pagename, templatename, context, doctree) -> None:
    # sphinx-thebe is always loaded and never started. It declares its constants twice, which
    # shows as an error in the reader's console.
    context["script_files"] = [
        script
        for script in context["script_files"]
        if "thebe" not in f"{script.filename} {script.attributes.get('body')}".lower()
    ]
    # ARIA 1.2 no longer has this role, and a child of a list is a list item.
    context["body"] = context.get("body", "").replace('role="doc-biblioentry"', 'role="listitem"')


def lighten(app, exception) -> None:
    """Removes what a page does not use, and gives it its colours from the start."""
    if exception is not None or app.builder.format != "html":
        return
    for path in Path(app.outdir).rglob("*.html"):
        page = ICONS.sub("", path.read_text(encoding="utf-8"))
        if path.name != "search.html":
            page = SEARCH.sub("", page)
            if 'class="math' not in page:
                page = FORMULAS.sub("", page)
        for before, after in THEMES.items():
            page = page.replace(before, after, 1)
        path.write_text(page, encoding="utf-8")
    keep_icons(Path(app.outdir))


def keep_icons(out: Path) -> None:
    """Removes icons that no page or script of the theme names from the style sheet and fonts."""
    static = out / "_static"
    users = [*out.rglob("*.html"), *static.glob("scripts/*-theme.js")]
    used = set(NAME.findall(" ".join(path.read_text(encoding="utf-8") for path in users)))
    sheet = static / "styles" / "pydata-sphinx-theme.css"
    css = sheet.read_text(encoding="utf-8")
    css = ICON.sub(lambda rule: rule[0] if used.intersection(NAME.findall(rule[0])) else "", css)
    sheet.write_text(WOFF2.sub("", css), encoding="utf-8")
    sheets = "".join(path.read_text(encoding="utf-8") for path in static.glob("styles/*.css"))
    icons = {int(m[1], 16) if m[1] else ord(m[0]) for m in CHARACTER.finditer(sheets)}
    for path in static.glob("vendor/fontawesome/webfonts/*.ttf"):
        font, subsetter = TTFont(path), subset.Subsetter()
        subsetter.populate(unicodes=icons)
        subsetter.subset(font)
        font.save(path)


def score_results(app, config) -> None:
    config.html_search_scorer = str(Path(__file__).with_name("search_scorer.js"))


def setup(app):
    app.connect("config-inited", score_results)
    app.add_js_file(None, body=FROM_DISK)
    app.connect("html-page-context", fix)
    app.connect("build-finished", lighten)
    return {"parallel_read_safe": True}

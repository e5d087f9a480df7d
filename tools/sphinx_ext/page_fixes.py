"""Fixes what jupyter-book and docutils write on every page and offer no setting for."""

import re
from pathlib import Path

# Search results quote each page. If the book is opened from disk, no page may read another.
FROM_DISK = "DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = location.protocol !== 'file:';"
# Megabytes that most pages have no use for: the icons as scripts, which are in a font as well; the
# typesetting of formulas; the index of the search.
ICONS = re.compile(r"<script[^>]*scripts/fontawesome\.js[^>]*></script>\s*")
FORMULAS = re.compile(r"<script[^>]*tex-chtml\.js[^>]*></script>\s*")
SEARCH = re.compile(r'<script src="[^"]*(searchtools|language_data|searchindex)\.js"></script>\s*')


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
    """Removes what a page does not use from all pages but the one for searching."""
    for path in Path(app.outdir).rglob("*.html"):
        page = ICONS.sub("", path.read_text(encoding="utf-8"))
        if path.name != "search.html":
            page = SEARCH.sub("", page)
            if 'class="math' not in page:
                page = FORMULAS.sub("", page)
        path.write_text(page, encoding="utf-8")


def setup(app):
    app.add_js_file(None, body=FROM_DISK)
    app.connect("html-page-context", fix)
    app.connect("build-finished", lighten)
    return {"parallel_read_safe": True}

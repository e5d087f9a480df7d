"""Mends what jupyter-book and docutils write on every page and offer no setting for."""

# Search results show a line of each page. Opened from disk, no page may read another.
FROM_DISK = "DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = location.protocol !== 'file:';"


def mend(app, pagename, templatename, context, doctree) -> None:
    # sphinx-thebe is always loaded and never started here. Its constants come twice, which is an
    # error in the reader's console.
    context["script_files"] = [
        script for script in context["script_files"]
        if "thebe" not in f"{script.filename} {script.attributes.get('body')}".lower()
    ]  # fmt: skip
    # ARIA 1.2 has no such role any more, and what stands in a list is an item of it.
    context["body"] = context.get("body", "").replace('role="doc-biblioentry"', 'role="listitem"')


def setup(app):
    app.add_js_file(None, body=FROM_DISK)
    app.connect("html-page-context", mend)
    return {"parallel_read_safe": True}

"""Fixes what jupyter-book and docutils write on every page and offer no setting for."""

# Search results quote each page. If the book is opened from disk, no page may read another.
FROM_DISK = "DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = location.protocol !== 'file:';"


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


def setup(app):
    app.add_js_file(None, body=FROM_DISK)
    app.connect("html-page-context", fix)
    return {"parallel_read_safe": True}

"""Links the first use of each glossary term on a page, with its definition for teach.js to show."""

import re
from html import escape

from docutils import nodes
from sphinx import addnodes

UNCLEAR = {"day", "id", "plain", "positive", "value"}  # mostly used in another sense
NOT_IN = (
    nodes.reference,
    nodes.strong,
    nodes.literal,
    nodes.caption,
    nodes.citation,
    nodes.math,
    addnodes.glossary,
)


def glossary(env) -> dict[str, tuple[str, str, str, str]]:
    """Returns the page, anchor, spelling and definition of each term by the term in lower case."""
    found = {}
    for kind, term in env.domains["std"].objects:
        if kind == "term" and term.lower() not in UNCLEAR:
            page, anchor = env.domains["std"].objects[kind, term]
            entry = env.get_doctree(page).ids[anchor].parent
            (definition,) = entry.deepcopy().findall(nodes.definition)
            for citation in list(definition.findall(addnodes.pending_xref)):
                if citation["refdomain"] == "cite":
                    citation.parent.remove(citation)
            text = re.sub(r"\s+(?=[:.,])", "", " ".join(definition.astext().split()))
            found[term.lower()] = page, anchor, term, text
    return found


def link(app, doctree, docname: str) -> None:
    if not hasattr(app.env, "linked_terms"):
        app.env.linked_terms = glossary(app.env)
    terms = app.env.linked_terms
    if not terms:
        return
    words = "|".join(re.escape(term) for term in sorted(terms, key=len, reverse=True))
    pattern = re.compile(rf"(?<![\w-])({words})s?(?![\w-])", re.I)
    left = dict(terms)
    for paragraph in list(doctree.findall(nodes.paragraph)):
        for text in list(paragraph.findall(nodes.Text)):
            if within(text, NOT_IN):
                continue
            parts, end = [], 0
            for match in pattern.finditer(text):
                page, anchor, term, definition = left.get(match[1].lower(), ("",) * 4)
                as_written = term == match[1] or term == term.lower()
                if page in ("", docname) or not as_written:
                    continue
                del left[match[1].lower()]
                address = f"{app.builder.get_relative_uri(docname, page)}#{anchor}"
                about = f'class="term" href="{address}" data-definition="{escape(definition)}"'
                html = f"<a {about}>{match[0]}</a>"
                parts += [nodes.Text(text[end : match.start()]), nodes.raw("", html, format="html")]
                end = match.end()
            if parts:
                text.parent.replace(text, [*parts, nodes.Text(text[end:])])


def within(node, kinds: tuple) -> bool:
    while node.parent is not None:
        node = node.parent
        if isinstance(node, kinds):
            return True
    return False


def setup(app):
    app.connect("doctree-resolved", link)
    return {"parallel_read_safe": True}

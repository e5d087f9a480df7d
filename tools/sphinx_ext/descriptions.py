"""Describes each page by its first sentences, for search engines and for previews of links.

sphinxext-opengraph writes the tags and draws the cards. Its own descriptions keep half a citation,
end within a sentence, and lack the terms that `terms` has linked.
"""

import re
from html import escape

from docutils import nodes
from sphinxext import opengraph

LENGTH = 200  # characters, about what is shown
TAG = re.compile(r"<[^>]*>")
SENTENCE = re.compile(r"(?<=[.!?:])\s+(?=[A-Z“])")
ASIDE = (nodes.Admonition, nodes.caption, nodes.footnote, nodes.table)


def description(doctree: nodes.document, length: int = LENGTH, titles=frozenset()) -> str:
    """Returns the first sentences of a page's first paragraph that together fit in the length.

    A first sentence that is longer ends after a word, with an ellipsis.
    """
    for paragraph in doctree.findall(nodes.paragraph):
        text = " ".join("".join(words(paragraph)).split())
        if text and not within_aside(paragraph):
            first, *others = SENTENCE.split(text)
            for sentence in others:
                if len(first) + 1 + len(sentence) > length:
                    break
                first += f" {sentence}"
            if len(first) > length:
                first = first[: length - 1].rpartition(" ")[0].rstrip(",;:–") + "…"
            return escape(first, quote=False)
    return ""


def words(node: nodes.Node):
    """Yields the text that a reader sees, of raw HTML as well."""
    if isinstance(node, nodes.Text):
        yield TAG.sub("", node) if isinstance(node.parent, nodes.raw) else node
    elif not isinstance(node, nodes.Invisible | nodes.image):
        for child in node.children:
            yield from words(child)


def within_aside(node: nodes.Node) -> bool:
    while node := node.parent:
        if isinstance(node, ASIDE):
            return True
    return False


def setup(app):
    opengraph.get_description = description
    return {"parallel_read_safe": True}

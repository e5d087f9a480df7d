"""Lets docstrings be plain text: turns them into the reStructuredText that autodoc expects.

Our docstrings hold paragraphs, `names in backticks`, lists, and lines of the form "name: what it
is", continued with an indent. Everything else stands for itself, so no docstring can break the
book.
"""

import re

NAMED = re.compile(r"^([A-Za-z_*][\w*, \[\]]*): (.+)$")


def inline(text: str) -> str:
    """`code` becomes a literal, and no other character means anything."""
    out = ""
    for k, part in enumerate(re.split(r"`+([^`]+)`+", text)):
        # A literal needs room on both sides; an escaped space gives it and does not show.
        out += f"\\ ``{part.strip()}``\\ " if k % 2 else re.sub(r"([\\*_|`])", r"\\\1", part)
    return out


def blocks(lines: list[str]) -> list[list[str]]:
    """Runs of lines without an empty one."""
    found: list[list[str]] = [[]]
    for line in lines:
        if line.strip():
            found[-1].append(line.rstrip())
        elif found[-1]:
            found.append([])
    return [block for block in found if block]


def block_to_rst(block: list[str]) -> list[str]:
    indent = min(len(line) - len(line.lstrip()) for line in block)
    if indent >= 4:  # code
        return ["::", "", *block]
    block = [line[indent:] for line in block]
    items: list[str] = []  # one string an item or paragraph, continuation lines joined
    for line in block:
        starts = line.startswith("- ") or (NAMED.match(line) and not line.startswith(" "))
        if items and not starts and (line.startswith(" ") or not is_item(items[-1])):
            items[-1] += " " + line.strip()
        else:
            items.append(line.strip())
    out: list[str] = []
    for item in items:
        named = NAMED.match(item)
        if item.startswith("- "):
            out.append(f"- {inline(item[2:])}")
        elif named and len(named[1].split()) <= 3:
            names = ", ".join(f"``{one}``" for one in named[1].split(", "))
            out += [names, f"    {inline(named[2])}"]
        else:
            out += ["", inline(item), ""]
    return out


def is_item(text: str) -> bool:
    return text.startswith("- ") or NAMED.match(text) is not None


def process(app, what, name, obj, options, lines: list[str]) -> None:
    rst: list[str] = []
    for block in blocks(lines):
        block[-1] = re.sub(r"::$", ":", block[-1])  # what follows is indented, and so is code
        rst += [*block_to_rst(block), ""]
    lines[:] = rst


def setup(app):
    app.connect("autodoc-process-docstring", process)
    return {"parallel_read_safe": True}

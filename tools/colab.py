"""Writes what opens a notebook on Colab: its link, the package it installs, its page's badge.

The address is set in `_config.yml`, under `repository`; `make strip` copies it into the notebooks.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import yaml
from nbformat import NotebookNode

OPEN = "Open in Colab"
BADGE = "../book/_static/colab.svg"  # as seen from notebooks/
LINE = re.compile(rf"^\[{OPEN}\]\((\S+?)\).*$", re.M)
SOURCE = re.compile(r'"git\+(https://[^"@]+)@([^"@]+)"')


@dataclass(frozen=True)
class Repository:
    """The address that the notebooks are published at."""

    url: str  # https://github.com/OWNER/NAME
    branch: str  # a branch, or a tag to pin all links and installs to

    @classmethod
    def of(cls, root: Path) -> Repository:
        """Reads the address from `_config.yml` in `root`.

        Raises:
            ValueError: If Colab could not open notebooks from that address.
        """
        setting = yaml.safe_load((root / "_config.yml").read_text())["repository"]
        url, branch = str(setting["url"]), str(setting["branch"])
        if not re.fullmatch(r"https://github\.com/[\w-]+/[\w-][\w.-]*(?<!\.git)", url):
            needed = "Colab opens notebooks from https://github.com/OWNER/NAME"
            raise ValueError(f"_config.yml: repository.url is {url!r}; {needed}.")
        return cls(url, branch)

    @property
    def source(self) -> str:
        """The requirement that pip installs."""
        return f"git+{self.url}@{self.branch}"

    def file(self, path: str) -> str:
        """Returns the address of a file of the repository on GitHub."""
        return f"{self.url}/blob/{self.branch}/{path}"

    def colab(self, name: str) -> str:
        """Returns the address that opens notebooks/NAME.ipynb on Colab."""
        path = self.file(f"notebooks/{name}.ipynb").removeprefix("https://github.com/")
        return f"https://colab.research.google.com/github/{path}"

    def line(self, name: str) -> str:
        """Returns the line below the title of a stored notebook."""
        return (
            f"[{OPEN}]({self.colab(name)}). Links to other pages work only in "
            f"[the repository]({self.url}/tree/{self.branch})."
        )


def addressed(document: NotebookNode, name: str, repository: Repository) -> NotebookNode:
    """Replaces the address in a notebook by the repository's, and writes the link line.

    The address to replace is the one that the setup cell installs from, if there is such a cell.
    """
    match = next((m for cell in document.cells if (m := SOURCE.search(cell.source))), None)
    if match is None:
        return document
    before = Repository(*match.groups())
    for cell in document.cells:
        cell.source = cell.source.replace(before.source, repository.source)
        cell.source = cell.source.replace(before.file(""), repository.file(""))
    first = document.cells[0]
    title, _, rest = LINE.sub("", first.source).partition("\n")
    first.source = f"{title}\n\n{repository.line(name)}\n\n{rest.strip()}".rstrip()
    return document


def with_badge(document: NotebookNode) -> NotebookNode:
    """Replaces the link line by a badge, for the page.

    A stored notebook has no badge: on Colab its image would have to come from another site.
    """
    first = document.cells[0]
    first.source = LINE.sub(rf"[![{OPEN}]({BADGE})](\1)", first.source, count=1)
    return document

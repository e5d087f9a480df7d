"""What opens a notebook on Colab: its link, the package that it installs, its page's badge.

The address is set in `_config.yml`, under `repository`; tests/test_colab.py finds it everywhere.
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


@dataclass(frozen=True)
class Repository:
    """The address that the notebooks are published at."""

    url: str  # https://github.com/OWNER/NAME
    branch: str  # a branch, or a tag to pin all links and installs to

    @classmethod
    def of(cls, root: Path) -> Repository:
        """Reads the address from `_config.yml` in `root`."""
        setting = yaml.safe_load((root / "_config.yml").read_text())["repository"]
        return cls(setting["url"], setting["branch"])

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


def with_badge(document: NotebookNode) -> NotebookNode:
    """Replaces the link line by a badge, for the page.

    A stored notebook has no badge: on Colab its image would have to come from another site.
    """
    first = document.cells[0]
    first.source = LINE.sub(rf"[![{OPEN}]({BADGE})](\1)", first.source, count=1)
    return document

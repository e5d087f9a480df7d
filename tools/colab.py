"""What opens a notebook on Colab: the link in it, the package that it installs, its page's badge.

The address of the repository stands in `_config.yml`, under `repository`, and nowhere else by hand:
`python -m multiepoch strip` writes it into the notebooks.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import nbformat
import yaml

OPEN = "Open in Colab"
BADGE = "../book/_static/colab.svg"  # as seen from notebooks/
LINE = re.compile(rf"^\[{OPEN}\]\((\S+?)\).*$", re.M)
SOURCE = re.compile(r'"git\+(https://[^"@]+)@([^"@]+)"')


@dataclass(frozen=True)
class Repository:
    """Where the notebooks are published. branch: a branch, or a tag to pin all of it to."""

    url: str
    branch: str

    @classmethod
    def of(cls, root: Path) -> Repository:
        """As `_config.yml` of `root` says. ValueError where Colab could not open it."""
        setting = yaml.safe_load((root / "_config.yml").read_text())["repository"]
        url, branch = str(setting["url"]), str(setting["branch"])
        if not re.fullmatch(r"https://github\.com/[\w-]+/[\w-][\w.-]*(?<!\.git)", url):
            raise ValueError(
                f"_config.yml: repository.url is {url!r}; Colab opens notebooks from "
                "https://github.com/OWNER/NAME."
            )
        return cls(url, branch)

    @property
    def source(self) -> str:
        """What pip installs."""
        return f"git+{self.url}@{self.branch}"

    def file(self, path: str) -> str:
        """Where GitHub shows a file of the repository."""
        return f"{self.url}/blob/{self.branch}/{path}"

    def colab(self, name: str) -> str:
        """Where notebooks/NAME.ipynb opens on Colab."""
        path = self.file(f"notebooks/{name}.ipynb").removeprefix("https://github.com/")
        return f"https://colab.research.google.com/github/{path}"

    def line(self, name: str) -> str:
        """The line below the title of a notebook, as it is stored."""
        return (
            f"[{OPEN}]({self.colab(name)}). Links to other pages do not work there: the chapters, "
            "and the records of longer runs, are in "
            f"[the repository]({self.url}/tree/{self.branch})."
        )


def addressed(
    document: nbformat.NotebookNode, name: str, repository: Repository
) -> nbformat.NotebookNode:
    """The notebook with the repository's address wherever it names another, and the link line.

    What it named before is what its setup cell installs; without such a cell it is left alone.
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


def with_badge(document: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The notebook as its page shows it: a badge in place of the link line.

    A notebook cannot hold the picture itself: on Colab it would have to come from another site.
    """
    first = document.cells[0]
    first.source = LINE.sub(rf"[![{OPEN}]({BADGE})](\1)", first.source, count=1)
    return document

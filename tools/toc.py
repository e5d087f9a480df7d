"""Reads the book's table of contents."""

from pathlib import Path

import yaml


def pages(root: Path) -> dict[str, str]:
    """Returns every page of _toc.yml in order, with the caption of the part it belongs to.

    Pages are named by their path without an ending; the front page belongs to no part.
    """
    toc = yaml.safe_load((root / "_toc.yml").read_text())
    parts = toc.get("parts") or [{"caption": "", "chapters": toc["chapters"]}]
    chapters = {one["file"]: part["caption"] for part in parts for one in part["chapters"]}
    return {toc["root"]: "", **chapters}

"""Checks that the book's links to other sites lead somewhere: `make links`.

Sphinx asks each address once. A page that is gone fails the check. A host of SLOW that does not
answer is reported and fails nothing, since it limits or refuses programs that ask.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from tools import book
from tools.notebooks import PROFILES, NotebookFailed

ROOT = Path(__file__).parents[1]
SLOW = {
    "arxiv.org": "limits how often one machine asks",
    "doi.org": "leads to publishers, most of which refuse programs",
    "dl.acm.org": "refuses programs",
    "github.com": "limits how often one machine asks",
}
GONE = (404, 410)  # said by a host that does answer


@dataclass(frozen=True)
class Link:
    """A link that did not lead anywhere."""

    page: str
    address: str
    why: str

    @property
    def excused(self) -> str:
        """Why this does not fail the check; "" if it does."""
        said_gone = any(self.why.startswith(f"{code} ") for code in GONE)
        return "" if said_gone else SLOW.get(urlsplit(self.address).netloc, "")


def check(work: Path) -> list[Link]:
    """Follows the links of the pages staged in work/source; returns those that failed."""
    answer = book.jupyter_book(work, "--builder", "linkcheck", "--keep-going", "-q")
    lines = work / "_build" / "html" / "output.json"
    if not lines.exists():
        raise book.BookFailed(f"The links could not be checked:\n{answer.stdout[-4000:]}")
    found = [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()]
    failed = [one for one in found if one["status"] in ("broken", "timeout")]
    return [Link(one["filename"], one["uri"], one["info"]) for one in failed]


def main(arguments: list[str] | None = None) -> int:
    """Returns 1 if a link leads nowhere."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", choices=PROFILES, default="quick")
    profile, work = parser.parse_args(arguments).profile, ROOT / "_build" / "links"
    shutil.rmtree(work, ignore_errors=True)
    try:
        runs = book.run_notebooks(ROOT, profile)
        book.stage(ROOT, work / "source", profile, runs)
        failed = check(work)
    except (NotebookFailed, book.BookFailed) as error:
        print(error, file=sys.stderr)
        return 1
    for link in failed:
        note = f" (not counted: {link.excused})" if link.excused else ""
        print(f"{link.page}: {link.address}: {link.why}{note}")
    counted = [link for link in failed if not link.excused]
    print(f"{len(counted)} links lead nowhere, {len(failed) - len(counted)} were not answered.")
    return int(bool(counted))


if __name__ == "__main__":
    sys.exit(main())

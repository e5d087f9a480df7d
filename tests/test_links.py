"""The check of links, on a book of one page and a server of our own."""

import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tools import links

ROOT = Path(__file__).parents[1]


@pytest.fixture
def site():
    """The address of a server that has /there, and breaks on /broken."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            code = {"/there": 200, "/broken": 500}.get(self.path, 404)
            self.send_response(code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_HEAD = do_GET

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("localhost", 0), Answer)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"localhost:{server.server_port}"
    server.shutdown()


@pytest.mark.slow
def test_a_link_that_leads_nowhere_is_named_with_its_page(site, tmp_path, monkeypatch):
    source = tmp_path / "source"
    shutil.copytree(ROOT / "tools" / "sphinx_ext", source / "tools" / "sphinx_ext")
    config = (ROOT / "_config.yml").read_text().replace("linkcheck_retries: 3", "")
    (source / "_config.yml").write_text(config)
    (source / "_toc.yml").write_text("format: jb-book\nroot: book/index\n")
    shutil.copytree(ROOT / "book" / "_static", source / "book" / "_static")
    shutil.copy(ROOT / "book" / "references.bib", source / "book")
    addresses = [f"http://{site}/{name}" for name in ("there", "gone", "broken")]
    page = "# Links\n\n" + "\n".join(f"- <{one}>" for one in addresses)
    (source / "book" / "index.md").write_text(page)
    found = {link.address: link for link in links.check(tmp_path)}
    assert set(found) == set(addresses[1:])
    assert {link.page for link in found.values()} == {"book/index.md"}
    assert not any(link.excused for link in found.values())
    monkeypatch.setitem(links.SLOW, site, "is slow")
    assert found[addresses[1]].excused == "", "it did answer, and the page is gone"
    assert found[addresses[2]].excused == "is slow"

"""The engineer's page: its code runs from top to bottom and prints what the page shows."""

import contextlib
import io
import re
from pathlib import Path

import torch

PAGE = Path(__file__).parent.parent / "book" / "use-it.md"
BLOCK = re.compile(r"^```(python|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_the_code_of_the_page_runs_and_prints_what_it_shows():
    torch.manual_seed(0)
    names: dict = {"__name__": "use_it"}
    printed, n_shown = "", 0
    page = PAGE.read_text(encoding="utf-8")
    for block in BLOCK.finditer(page):
        kind, text = block.groups()
        if kind == "text":
            assert printed.replace("not fused", "fused").strip() == text.strip()
            n_shown += 1
            continue
        line = page[: block.start(2)].count("\n")
        code = compile("\n" * line + text, PAGE, "exec")  # so that errors name the page's line
        with contextlib.redirect_stdout(io.StringIO()) as output:
            exec(code, names)
        printed = output.getvalue()
    assert n_shown == 1
    optimizer, repeat = names["optimizer"], names["repeat"]
    assert optimizer.embedding.state[names["model"].user.weight]["step"] == 20 * 12 + 2
    assert repeat.n_bytes > 0

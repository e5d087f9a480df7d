"""The checks find every kind of fault, and none on a good page."""

import re

import pytest
from findings import BYTES, findings, visit

GOOD = """<!DOCTYPE html><html lang="en"><head><title>A page</title><style>
body {{ background: #fff; color: #000; }} a {{ color: inherit; }}
@media (prefers-color-scheme: dark) {{ body {{ background: #111; color: #eee; }} }}
</style></head><body><main><h1>A page</h1><h2>A part</h2><p>Some text.</p>{}</main></body></html>"""
INK = "<svg xmlns='http://www.w3.org/2000/svg' width='99' height='99'>{}<circle r='50'/></svg>"
SEE_THROUGH = INK.format("").replace("#", "%23")
OPAQUE = INK.format("<rect width='99' height='99' fill='white'/>")
WORDS = (
    "<svg xmlns='http://www.w3.org/2000/svg' width='200' height='99' viewBox=\"0 0 200 99\">"
    "<rect width='200' height='99' fill='white'/>"
    "<text y='50' style=\"font: 12px 'DejaVu Sans'\">words</text></svg>"
)
FAULTS = {
    "console": ("<script>console.error('boom')</script>", "the console says: boom"),
    "exception": ("<script>throw Error('boom')</script>", "the console says: boom"),
    "other site": (
        '<img src="https://example.org/a.png" alt="A little image.">',
        "fetched from another site: https://example.org/a.png",
    ),
    "size": (f"<!-- {'x' * BYTES} -->", "bytes of HTML and images"),
    "sideways": ('<div style="width: 2000px">wide</div>', "the page scrolls sideways"),
    "cut off": (
        '<div style="overflow: hidden"><div style="width: 2000px">wide</div></div>',
        "past the right edge: <div",
    ),
    "hidden column": (
        '<div style="overflow-x: auto; width: 200px"><table style="width: 400px"><tbody>'
        '<tr><td width="50">first</td><td>last</td></tr></tbody></table></div>',
        "a table hides 1 of its columns: firstlast",
    ),
    "small text": (
        '<svg viewBox="0 0 200 20" width="100" role="img" aria-label="A word.">'
        '<text y="15" font-size="12">word</text></svg>',
        "text of 6.0 px in a drawing: word",
    ),
    "small figure": (
        '<figure><img src="words.svg" width="100" alt="A black disc."></figure>'
        '<p class="figure-files"><a href="words.svg">SVG</a></p>',
        "text of 6.0 px in the figure words.svg",
    ),
    "formula": ('<span class="math">x</span>', "a formula is not rendered: x"),
    "raw dollars": ("<p>Let $x^2$ be.</p>", "raw TeX: Let"),
    "raw brackets": (r"<p>Let \(x\) be.</p>", "raw TeX: Let"),
    "no image": ('<img src="no.png" alt="A little image.">', "there is no image no.png"),
    "no alt text": ('<img src="opaque.svg" alt="">', "opaque.svg has no alt text"),
    "see-through": ('<img src="through.svg" alt="A black disc.">', "through.svg is not legible"),
    "two titles": ("<h1>Again</h1>", "not one h1"),
    "level skipped": ("<h4>Deep</h4>", "h4 after h2: Deep"),
    "dead link": ('<a href="no.html">no</a>', "a link leads nowhere: .*no.html"),
    "dead anchor": ('<a href="#no">no</a>', "an anchor is missing: .*#no"),
    "progress bar": ("<pre> 45%|####     | 9/20</pre>", "debris: '5%|'"),
    "traceback": ("<pre>Traceback (most recent call last)</pre>", "debris: 'Traceback"),
    "warning": ("<pre>UserWarning: beware</pre>", "debris: 'UserWarning: '"),
    "warning in an output": (
        '<div class="cell_output"><p>UserWarning: beware</p></div>',
        "debris: 'UserWarning: '",
    ),
    "signature": ("<p>f(x: ~torch.Tensor)</p>", "debris: ': ~torch.'"),
    "contrast": ('<p style="color: #777; background: #888">grey</p>', "axe, color-contrast"),
}


@pytest.fixture
def look(chromium, tmp_path):
    def look(body: str, theme: str = "dark") -> list[str]:
        (tmp_path / "page.html").write_text(GOOD.format(body))
        (tmp_path / "through.svg").write_text(SEE_THROUGH)
        (tmp_path / "opaque.svg").write_text(OPAQUE)
        (tmp_path / "words.svg").write_text(WORDS)
        with visit(chromium, (tmp_path / "page.html").as_uri(), 390, theme) as seen:
            return findings(seen)

    return look


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_good_page(look, theme):
    good = '<img src="opaque.svg" alt="A black disc."><a href="page.html">Here</a>'
    good += "<p>A second step raises a RuntimeError: it would be lost.</p>"
    assert look(good, theme) == []


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found(look, fault):
    body, said = FAULTS[fault]
    assert any(re.search(said.replace("|", r"\|"), one) for one in look(body))

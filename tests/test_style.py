"""The style of the figures: colours that can be told apart, figures that are shown whole."""

import base64
import io
from itertools import combinations

import matplotlib.image
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb

from reproduction import records, style

# What a colour looks like to a person who lacks one kind of cone, on linear RGB
# (Machado, Oliveira and Fernandes, 2009, severity 1).
EYES = {
    "normal": np.eye(3),
    "protan": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deutan": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritan": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def linear(color: str) -> np.ndarray:
    rgb = np.array(to_rgb(color))
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def lab(color: str, eyes: str) -> np.ndarray:
    """CIE L*a*b* of a colour as those eyes see it; a distance of 10 is plain at a glance."""
    xyz = TO_XYZ @ np.clip(np.array(EYES[eyes]) @ linear(color), 0, 1) / [0.9505, 1.0, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("eyes", EYES)
@pytest.mark.parametrize(
    "family",
    [list(style.LINES), ["click", "add_to_cart", "checkout"], ["click", "long_view", "like"]],
    ids=["methods", "ads", "kuairand"],
)
def test_colours_of_a_family_can_be_told_apart(family, eyes):
    for one, other in combinations(family, 2):
        first, second = style.line_style(one), style.line_style(other)
        distance = np.linalg.norm(lab(first["color"], eyes) - lab(second["color"], eyes))
        assert distance > 10, f"{one} and {other} look alike to {eyes} eyes: {distance:.0f}"
        assert first["linestyle"] != second["linestyle"]


@pytest.mark.parametrize("name", [*style.LINES, *style.OBJECTIVES])
def test_lines_stand_out_from_the_white_ground(name):
    luminance = TO_XYZ[1] @ linear(style.line_style(name)["color"])
    assert 1.05 / (luminance + 0.05) >= 3  # WCAG 2.1, 1.4.11


def test_a_band_is_drawn_where_the_interval_is_finite():
    fig, axes = style.figure()
    mean = pd.DataFrame({"mean": [0, 1], "low": -np.inf, "high": np.inf})
    style.band(axes, mean, "FAL")
    assert not axes.collections
    style.band(axes, mean.assign(low=[-1, 0], high=[1, 2]), "MEDA")
    assert len(axes.collections) == 1
    plt.close(fig)


def test_show_gives_one_opaque_figure_of_the_books_width(monkeypatch):
    display = pytest.importorskip("IPython.display")
    shown = []
    monkeypatch.setattr(display, "display", lambda what, **about: shown.append((what, about)))
    fig, axes = style.figure(rows=2)
    axes[0].plot([0, 1], [0, 1])
    style.show(
        fig, alt="A\n    line.", caption="It rises.", name="fig-line", record="long, 5 seeds"
    )
    (bundle, about), (caption, _) = shown
    assert about["metadata"]["multiepoch_figure"]["alt"] == "A line."
    assert caption.data == "*It rises. Record: long, 5 seeds.*"
    pixels = matplotlib.image.imread(io.BytesIO(base64.b64decode(bundle["image/png"])))
    assert pixels.shape[1] == style.WIDTH * style.STYLE["figure.dpi"]
    assert (pixels[..., 3] == 1).all()
    assert not plt.fignum_exists(fig.number)


@pytest.mark.parametrize(("argument", "value"), [("alt", " "), ("caption", ""), ("name", "a b")])
def test_a_figure_without_its_words_is_refused(argument, value):
    pytest.importorskip("IPython.display")
    words = {"alt": "A line.", "caption": "It rises.", "name": "fig-line"} | {argument: value}
    fig, _ = style.figure()
    with pytest.raises(ValueError, match=argument):
        style.show(fig, **words)
    plt.close(fig)


def test_small_text_is_refused():
    fig, axes = style.figure()
    axes.text(0, 0, "tiny", fontsize=9)
    with pytest.raises(ValueError, match="tiny"):
        style.legible(fig)
    plt.close(fig)


def test_a_record_is_drawn_under_the_name_of_its_profile_and_a_missing_one_is_said_to_be(
    monkeypatch, tmp_path
):
    display = pytest.importorskip("IPython.display")
    shown = []
    monkeypatch.setattr(display, "display", lambda what, **about: shown.append(about))
    texts = '[figures.fig-rise]\nalt = "A line."\ncaption = """\nIt rises\nby {rise:.1f}."""\n'
    (tmp_path / "findings.toml").write_text(texts)
    source = "def draw(rows):\n    return style.figure()[0], {'rise': rows['value'].sum()}\n"
    module = {"__file__": str(tmp_path / "figures.py"), "style": style}
    exec(source, module)
    draw = style.shown("fig-rise")(module["draw"])
    rows = pd.DataFrame({"value": [1.0, 0.5]})
    about = {"profile": "long", "seeds": [0], "machine": "a machine", "torch": "2"}
    draw(records.Record(rows, rows, about | {"date": "today", "commit": "abc"}))
    (figure, _) = shown
    said = []
    monkeypatch.setattr(display, "display", lambda what: said.append(what.data))
    draw(None)
    assert ["is not shown here" in one for one in said] == [True]
    assert figure["metadata"]["multiepoch_figure"]["name"] == "fig-rise-long"
    assert "It rises by 1.5. Record: profile long" in str(figure)

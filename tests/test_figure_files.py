"""A figure's CSV has what the figure shows, and its SVG can be read."""

import io
import re
import xml.etree.ElementTree as xml

import numpy as np
import pandas as pd

from reproduction import figure_files, style
from tools import figures

FOUND = pd.DataFrame(
    {"mean": [1.0, 2.0, 3.0], "low": [0.5, 1.0, 2.0], "high": [1.5, 3.0, 4.0]}, index=[0, 1, 2]
)


def data(fig) -> pd.DataFrame:
    found = pd.read_csv(io.StringIO(figure_files.csv(fig)))
    style.plt.close(fig)
    return found


def test_a_band_has_its_line_and_both_ends():
    fig, axes = style.figure()
    style.band(axes, FOUND, "MEDA")
    style.reference(axes)
    found = data(fig).set_index("kind")
    assert set(found["name"]) == {"MEDA"}, "a reference line is no data"
    assert found.loc["line", "y"].tolist() == [1, 2, 3]
    assert found.loc["band", "y"].tolist() == [0.5, 1, 2]
    assert found.loc["band", "y2"].tolist() == [1.5, 3, 4]


def test_bars_have_their_labels_and_panels_their_titles():
    fig, (above, below) = style.figure(2)
    above.set_title("click")
    above.barh(["a", "b"], [1, 2])
    below.scatter([1, 2], [3, 4], c=[5, 6])
    found = data(fig)
    assert found[found["kind"] == "bar"]["x2"].tolist() == [1, 2]
    assert found[found["kind"] == "y label"]["name"].tolist() == ["a", "b"]
    assert set(found[found["kind"] == "bar"]["panel"]) == {"click"}
    assert found[found["kind"] == "points"][["x", "y", "value"]].values.tolist() == [
        [1, 3, 5],
        [2, 4, 6],
    ]


def test_a_matrix_and_a_long_line():
    fig, axes = style.figure()
    axes.imshow([[1, 2], [3, 4]])
    axes.plot(np.arange(10_000))
    found = data(fig)
    assert found[found["kind"] == "cell"]["value"].tolist() == [1, 2, 3, 4]
    line = found[found["kind"] == "line"]["x"]
    assert (len(line), line.min(), line.max()) == (figure_files.POINTS, 0, 9_999)


def test_the_svg_is_the_same_each_time_and_has_text():
    fig, axes = style.figure()
    axes.set_xlabel("epochs")
    first = figure_files.svg(fig)
    assert first == figure_files.svg(fig)
    texts = ["".join(one.itertext()) for one in xml.fromstring(first).iter() if "text" in one.tag]
    assert "epochs" in texts
    style.plt.close(fig)


def test_a_figure_that_is_in_no_notebook_has_no_small_text_either(tmp_path):
    fig, axes = style.figure()
    axes.loglog([1, 1e5], [1, 1e3])  # whose ticks would have exponents of 7.7 pt
    figures.keep(fig, "fig-log", tmp_path, tmp_path)
    style.plt.close(fig)
    text = (tmp_path / figures.FOLDER / "fig-log.svg").read_text()
    sizes = re.findall(r"font(?:-size)?: ?(?:[a-z]+ )*([\d.]+)px", text)
    assert min(map(float, sizes)) >= style.SMALLEST

"""Draws what the preview cards of links show beside a page's title: the lead figure's curves."""

from pathlib import Path

import numpy as np
from matplotlib import image
from matplotlib.figure import Figure

from multiepoch_lab.methods import METHODS
from reproduction import records, style
from reproduction.dose_response import experiment
from tools import lead

# In the static folder, as _config.yml names them. A card has two places for pictures.
PICTURE, NONE = "card.png", "card-none.png"


def generate(results: Path, static: Path) -> None:
    """Writes the two pictures; both are white if there is no record of the curves."""
    white = np.ones((4, 4, 3))
    for name in (PICTURE, NONE):
        image.imsave(static / name, white)
    if records.read(experiment.NAME, "long", results):
        fig = Figure(figsize=(5, 3), dpi=100)
        axes = fig.add_axes((0, 0, 1, 1))
        for name, line in lead.curves(results)["mean"].groupby("method", sort=False):
            colour, _ = style.LINES[METHODS[name].label]
            axes.plot(line.index.get_level_values("epoch"), line, color=colour, linewidth=4)
        axes.set_ylim(lead.LOW, lead.HIGH)
        axes.set_axis_off()
        fig.savefig(static / PICTURE)

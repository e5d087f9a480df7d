"""The front page's trainer computes what the reader's program computes in Python."""

import inspect
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from reproduction import trainer

STATIC = Path(__file__).parents[1] / "book" / "_static"
SCRIPT = (STATIC / "trainer.js").read_text(encoding="utf-8")
RATE, EPOCHS = 0.3, 3
RUN = """
const { inflateSync } = require("zlib"), { readFileSync } = require("fs");
const [script, world, settings] = process.argv.slice(1);
const program = new Function(`${readFileSync(script)}; return program;`)();
const { zipped, ...about } = new Function(`${readFileSync(world)}; return trainerWorld;`)();
const bytes = Uint8Array.from(inflateSync(Buffer.from(zipped, "base64"))).buffer;
const { begin, oneEpoch } = program(about, bytes);
console.log(JSON.stringify(JSON.parse(settings).map(({ epochs, ...chosen }) => {
  const points = [];
  begin({ ...chosen, below: chosen.below ?? Infinity });
  for (let k = 0; k < epochs; k++) oneEpoch((point) => points.push(point));
  return points;
})));
"""
SETTINGS = {  # as trainer.js has them; null is infinity, which JSON has not
    "plain": {"fal": False, "below": 0},
    "FAL": {"fal": True, "below": 0},
    "MEDA": {"fal": False, "below": None},
    "tail rewind": {"fal": False, "below": 100},
}


@pytest.fixture(scope="module")
def in_the_page() -> dict[str, list[dict]]:
    """What the page's program computes in node: the points of each method."""
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    chosen = json.dumps([one | {"rate": RATE, "epochs": EPOCHS} for one in SETTINGS.values()])
    call = ["node", "-e", RUN, STATIC / "trainer.js", trainer.FILE, chosen]
    done = subprocess.run(call, capture_output=True, text=True, check=True)
    return dict(zip(SETTINGS, json.loads(done.stdout)))


@pytest.mark.slow
@pytest.mark.parametrize("method", SETTINGS)
def test_the_losses_are_pythons_to_three_digits(in_the_page, method):
    script = trainer.FILE.read_text(encoding="utf-8")
    expected, mean = trainer.losses(script, RATE, EPOCHS, **trainer.METHODS[method])
    found = {point["at"]: point["loss"] for point in in_the_page[method]}
    assert found == pytest.approx(expected, abs=5e-4)
    assert in_the_page[method][-1]["mean"] == pytest.approx(mean, abs=5e-4)


@pytest.mark.slow
def test_the_methods_come_in_the_order_of_the_records(in_the_page):
    losses = {
        method: {point["at"]: point["loss"] for point in points}
        for method, points in in_the_page.items()
    }
    one = losses["plain"][1.0]
    assert losses["plain"][1.25] > 1.1 * one
    for at in (1.25, 2.0, 3.0):
        by_method = [losses[method][at] for method in SETTINGS]
        assert by_method == sorted(by_method, reverse=True), f"{at} epochs"
    assert losses["MEDA"][2.0] < 1.005 * one
    for method in ("MEDA", "tail rewind"):
        last = in_the_page[method][-1]
        assert last["mean"] < min(last["loss"], one), f"{method}: the mean of the ends gains"


@pytest.mark.slow
def test_a_row_that_one_impression_has_says_its_label_in_the_second_epoch(in_the_page):
    said = {point["at"]: point["said"] for point in in_the_page["plain"]}
    clicked = [True] * 3 + [False] * 3
    for k, click in enumerate(clicked):
        with_row, without = said[1.25][k]
        assert (with_row > without) == click
        assert abs(with_row - without) > 2 * abs(said[1.0][k][0] - said[1.0][k][1])


def test_the_world_is_the_one_that_python_makes():
    kept = trainer.logs(trainer.FILE.read_text(encoding="utf-8"))
    for one, other in zip(kept, trainer.logs(trainer.world())):
        assert all((one.ids[name] == other.ids[name]).all() for name in one.ids)
        for name in ("dense", "labels", "p_true"):
            assert (getattr(one, name) - getattr(other, name)).abs().max() <= 1 / 16, name


def test_it_is_short_and_fetches_nothing_from_elsewhere():
    assert len(SCRIPT.splitlines()) <= 400
    assert len(inspect.getsource(trainer).splitlines()) <= 120
    page = (STATIC / "trainer.html").read_text(encoding="utf-8")
    assert "http" not in SCRIPT + page and "import" not in SCRIPT

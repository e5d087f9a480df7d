"""The trainer on the front page, in a browser and from a file."""

import re

import pytest
from findings import HTML, PATIENCE, THEMES, colours, sideways, structure, visit

from reproduction import trainer

FRONT = (HTML / "book" / "index.html").as_uri()
READY = "document.querySelector('#trainer [name=more]').ariaDisabled === 'false'"
SECONDS = 3  # for an epoch


def one_more_epoch(page) -> tuple[int, float]:
    """Presses the button; returns the epoch that was trained, and its seconds."""
    page.locator("#trainer [name=more]").press("Enter")
    page.wait_for_function(READY, timeout=PATIENCE)
    said = page.locator("#trainer [role=status]").inner_text()
    epoch, seconds = re.search(r"epoch (\d), in ([\d.]+) s", said).groups()
    return int(epoch), float(seconds)


def cells(page, method: str) -> list[str]:
    row = page.locator("#trainer tbody tr", has_text=method)
    return [cell.replace("−", "-") for cell in row.locator("td").all_inner_texts()]


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("width", [390, 1440])
def test_each_method_shows_pythons_losses(chromium, width, theme, record_property):
    script, slowest = trainer.FILE.read_text(encoding="utf-8"), 0.0
    with visit(chromium, FRONT, width, theme) as seen:
        page = seen.page
        for method, options in trainer.METHODS.items():
            page.locator(f'#trainer [value="{method}"]').focus()
            page.keyboard.press("Space")
            assert one_more_epoch(page)[0] == 1
            epoch, seconds = one_more_epoch(page)
            assert epoch == 2
            slowest = max(slowest, seconds)
            losses, _ = trainer.losses(script, 0.3, 2, **options)
            one, *changes = cells(page, method)[:3]
            assert float(one) == pytest.approx(losses[1.0], abs=6e-4)
            for cell, at in zip(changes, (1.25, 2.0)):
                change = 100 * (losses[at] / losses[1.0] - 1)
                assert float(cell.removesuffix("\u00a0%")) == pytest.approx(change, abs=0.06)
        shown = page.locator("#trainer .trainer-shown")
        before = shown.locator("p").last.inner_text()
        shown.locator("button").nth(3).press("Enter")
        assert shown.locator("p").last.inner_text() != before
        assert structure(seen) + colours(seen) + sideways(seen) == []
    record_property("slowest epoch", f"{slowest:.1f} s")
    assert slowest < SECONDS


def test_the_mean_of_the_ends_and_another_rate(chromium):
    with visit(chromium, FRONT, 1440, "light") as seen:
        page = seen.page
        page.locator('#trainer [value="MEDA"]').check()
        for _ in range(3):
            one_more_epoch(page)
        last = cells(page, "MEDA")[-1]
        page.locator("#trainer [name=mean]").check()
        assert float(cells(page, "MEDA")[-1][:-2]) < float(last[:-2])
        assert page.locator("#trainer .trainer-loss circle").count() == 1
        page.locator("#trainer [name=rate]").press("ArrowRight")
        assert one_more_epoch(page)[0] == 1, "another rate is another run"
        assert page.locator("#trainer tbody tr").count() == 2
        page.locator("#trainer [name=again]").press("Enter")
        assert page.locator("#trainer tbody tr").count() == 0


def test_without_scripts_a_picture_is_there(chromium):
    reader = {"settled": False, "java_script_enabled": False}
    with visit(chromium, FRONT, 390, "light", **reader) as seen:
        picture = seen.page.locator("#trainer img")
        picture.scroll_into_view_if_needed()
        assert picture.evaluate("one => one.decode().then(() => one.naturalWidth)") > 100
        assert not seen.page.locator("#trainer form").is_visible()

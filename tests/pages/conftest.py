"""Starts a headless Chromium for the built book."""

import shutil

import pytest
from findings import HTML

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def pytest_sessionstart(session: pytest.Session) -> None:
    if not (HTML / "index.html").exists():
        pytest.exit(f"There are no pages in {HTML}; run `make book` first.", returncode=1)


@pytest.fixture(scope="session")
def chromium():
    from playwright.sync_api import sync_playwright

    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    if executable is None:
        pytest.skip("No Chromium found; install chromium or Google Chrome.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield browser
        browser.close()

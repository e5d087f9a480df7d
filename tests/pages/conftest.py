"""Starts a headless Chromium for the built book and prints one line a page."""

import re
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


def pytest_report_teststatus(report: pytest.TestReport):
    """Prints no dots, since every test prints its line below."""
    if report.when == "call":
        return report.outcome, "", ""
    return None


class Lines:
    """Prints what a test found in the one process with a terminal, whichever process ran it."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call":
            what = report.location[2]
            if named := re.search(r"\[(.+)\]$", what):
                what = named[1]
            facts = "".join(f", {name} {value}" for name, value in report.user_properties)
            terminal = self.config.pluginmanager.getplugin("terminalreporter")
            terminal.write_line(f"{what}: {report.outcome}{facts}")


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Lines(config))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log):
    """Gives each process one page after the other, not one file as the other tests do."""
    from xdist.scheduler import LoadScheduling

    return LoadScheduling(config, log)

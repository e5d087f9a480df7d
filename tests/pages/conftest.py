"""Starts a headless Chromium for the built book and prints one line a page."""

import pytest
from findings import HTML

from tools import pdf


def pytest_sessionstart(session: pytest.Session) -> None:
    if not (HTML / "index.html").exists():
        pytest.exit(pdf.NO_BOOK.format(html=HTML), returncode=1)


@pytest.fixture(scope="session")
def chromium():
    if pdf.browser() is None:
        pytest.skip(pdf.NO_BROWSER)
    with pdf.chromium() as browser:
        yield browser


def pytest_report_teststatus(report: pytest.TestReport):
    """Prints no dots, since every test prints its line below."""
    if report.when == "call":
        return report.outcome, "", ""
    return None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo):
    report = yield
    if report.when == "call":
        what = item.callspec.id if hasattr(item, "callspec") else item.name
        facts = "".join(f", {name} {value}" for name, value in item.user_properties)
        terminal = item.config.pluginmanager.getplugin("terminalreporter")
        terminal.write_line(f"{what}: {report.outcome}{facts}")
    return report

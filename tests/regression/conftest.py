"""The option --profile, and a summary that names the chapter to start with."""

import os
from collections.abc import Iterable

import pytest

from tests.regression import reference as references
from tools.notebooks import PROFILES

# Seconds after which a notebook counts as hung: many times what it takes.
LIMITS = {"quick": 300, "cpu": 3_600, "long": 48 * 3_600, "gpu": 3_600}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--profile", choices=PROFILES, default="quick", help="default: quick")


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):  # one of several processes, with a core each
        os.environ["MULTIEPOCH_WORKERS"] = "1"
    try:
        config.reference = references.read(config.rootpath, config.getoption("profile"))
    except FileNotFoundError as error:
        raise pytest.UsageError(str(error)) from error


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Makes a test for each notebook of the book and of the reference."""
    config = metafunc.config
    here = {path.stem for path in (config.rootpath / "notebooks").glob("*.ipynb")}
    seconds = config.getoption("timeout") or LIMITS[config.getoption("profile")]
    names = sorted(here | config.reference["notebooks"].keys())
    limit = pytest.mark.timeout(seconds)
    metafunc.parametrize("name", [pytest.param(name, marks=limit) for name in names])


def pytest_terminal_summary(terminalreporter) -> None:
    reports = [one for kind in ("passed", "failed") for one in terminalreporter.getreports(kind)]
    found = [dict(one.user_properties) | {"failed": one.failed} for one in reports]
    if found:
        terminalreporter.section("regression")
        terminalreporter.line(headline(found))


def headline(found: Iterable[dict]) -> str:
    """Returns how many quantities fail, and the chapter to start with.

    That is the first in which something says what is wrong, such as a cell that raised or a
    direction that does not hold, or else the first in which a number moved.
    """
    found = sorted(found, key=lambda one: one["notebook"])
    total = sum(one.get("quantities", 1) for one in found)
    failed = [one for one in found if one["failed"]]
    if not failed:
        return f"All {total} quantities of {len(found)} notebooks are as in the reference."
    first = next((one for one in failed if not one.get("only numbers moved")), failed[0])
    n_failures = sum(one.get("failures", 1) for one in failed)
    return (
        f"{n_failures} of {total} quantities fail, in {len(failed)} of {len(found)} notebooks. "
        f"Start with {first['notebook']}."
    )

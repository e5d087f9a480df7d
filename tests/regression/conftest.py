"""The option --profile, and a test for each notebook."""

import os

import pytest

from tests.regression import reference as references
from tools.notebooks import PROFILES


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
    metafunc.parametrize("name", sorted(here | config.reference["notebooks"].keys()))

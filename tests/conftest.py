"""Fixtures that several test modules share, and how the tests are spread over processes.

The process that only hands out tests does not import torch, which takes seconds.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from multiepoch_lab.data import Log

ROOT = Path(__file__).parents[1]
# They compute the front page's numbers from the records, which takes seconds, once a process.
OF_THE_RECORDS = ("advice", "consistency", "interactive_figure", "numbers", "paper", "sentences")

# A background job of a shell ignores Ctrl-C, and so would the code under test.
signal.signal(signal.SIGINT, signal.default_int_handler)
HANDLERS = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
with suppress(ImportError):  # the tests in the environments of other libraries do without
    from hypothesis import settings

    # The same examples in each run, however busy the machine is, and no file of them.
    settings.register_profile("same", deadline=None, derandomize=True, database=None)
    settings.load_profile("same")


def make_tiny_log(
    n: int = 500,
    cardinality: dict[str, int] | None = None,
    objectives: tuple[str, ...] = ("click", "checkout"),
    n_dense: int = 2,
    seed: int = 0,
    day: int = 0,
) -> Log:
    """Random impressions with a truth that the id columns and dense features determine.

    Low ids are the more frequent ones, as in a real log, and labels follow the rows, so that a
    model can learn them.
    """
    import torch

    from multiepoch_lab.data import Log, Schema

    cardinality = cardinality or {"user": 60, "product": 40}
    generator = torch.Generator().manual_seed(seed)
    taste = torch.Generator().manual_seed(12345)  # the same rows mean the same in every log
    ids, logit = {}, torch.zeros(n)
    for name, size in cardinality.items():
        ids[name] = (size * torch.rand(n, generator=generator) ** 2).long()
        logit = logit + torch.randn(size, generator=taste)[ids[name]]
    dense = torch.randn(n, n_dense, generator=generator)
    shifts = -1.0 - torch.arange(len(objectives))
    p_true = torch.sigmoid(logit[:, None] + 0.5 * dense.sum(1, keepdim=True) + shifts)
    return Log(
        schema=Schema(cardinality, tuple(f"x{k}" for k in range(n_dense)), objectives),
        ids=ids,
        dense=dense,
        labels=(torch.rand(p_true.shape, generator=generator) < p_true).float(),
        day=torch.full((n,), day, dtype=torch.int32),
        p_true=p_true,
    )


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        build_kernels()
        if config.getoption("dist", "no") != "no":
            return
    import torch

    # Tensors this small gain nothing from threads and suffer from other programs on the same cores.
    torch.set_num_threads(1)


def build_kernels() -> None:
    """Builds the kernels in a checkout that is used without an installation, if it can."""
    folder = Path(find_spec("multiepoch").origin).parent / "optim"
    built, sources = ([p.stat().st_mtime for p in folder.glob(kind)] for kind in ("*.so", "*.cpp"))
    if built and min(built) > max(sources):
        return
    from multiepoch.optim import compiled

    if compiled.library() is not None:
        return
    with tempfile.TemporaryDirectory() as scratch:
        build = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
        build += ["--build-temp", scratch, "--build-lib", scratch]
        subprocess.run(build, cwd=ROOT, capture_output=True, timeout=300)
    compiled.library.cache_clear()


@pytest.fixture
def tiny_log() -> Callable[..., Log]:
    """`make_tiny_log` as a factory: tiny_log(n=100, cardinality={"user": 5}, seed=1)."""
    return make_tiny_log


@pytest.fixture(autouse=True)
def _fixed_seed():
    import torch

    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _left_as_found(monkeypatch):
    """Closes figures and restores what the code under test sets; git sees no other repository."""
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    yield
    for number, handler in HANDLERS.items():
        signal.signal(number, handler)
    if plot := sys.modules.get("matplotlib.pyplot"):
        plot.close("all")


@pytest.fixture
def git() -> Callable[..., None]:
    """Runs git in a folder, git(folder, "init"), whoever the user is and however they sign."""

    def run(folder: Path, *words: str) -> None:
        who = "-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"
        subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True)

    return run


@pytest.fixture(autouse=True)
def _one_process(monkeypatch):
    """Keeps the code under test from starting processes, each of which imports torch first.

    A test of several processes sets `os.cpu_count` to the number of cores it needs.
    """
    monkeypatch.setattr(os, "cpu_count", lambda: 1)


@pytest.fixture(scope="session")
def html() -> Path:
    """The quick book, beside the user's own in _build, and rebuilt only after a change.

    Two processes that want it at once would write it over each other, so one waits.
    """
    from filelock import FileLock

    from tools import book

    folder = ROOT / "_build" / "html-quick"
    folder.parent.mkdir(exist_ok=True)
    with FileLock(folder.with_name(".html-quick.lock")):
        return book.build(ROOT, "quick", folder)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One process for each core that this process may use, up to eight."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(cores or 1, 8)


@cache
def _is_kept_whole(file: str) -> bool:
    """Whether tests of a file share what each process would have to make anew."""
    text = (ROOT / file).read_text()
    return 'scope="module"' in text or "pytest.mark.page" in text


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log):
    """Gives each process one test function after the other, or a file whose tests share much."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFunction(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file, *_ = nodeid.split("::")
            if file.endswith("test_notebooks.py") or "/pages/" in file:
                return nodeid
            if Path(file).stem.removeprefix("test_") in OF_THE_RECORDS:
                return "of the records"
            return file if _is_kept_whole(file) else nodeid.partition("[")[0]

    return ByFunction(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Runs units first, then notebooks, then the pages made of them.

    Several processes start with the notebooks, the longest of which are the last, so that the
    others run units while one checks the pages. Whole files come before single functions, so that
    all processes end at about the same time.
    """
    several = hasattr(config, "workerinput")
    order = ("notebook", "page", "slow", "") if several else ("", "slow", "notebook", "page")

    def rank(numbered: tuple[int, pytest.Item]) -> tuple[int, bool, int]:
        k, item = numbered
        kind = next(filter(item.get_closest_marker, ("notebook", "page", "slow")), "")
        single = several and not _is_kept_whole(item.nodeid.partition("::")[0])
        return order.index(kind), single, -k if several and kind == "notebook" else k

    items[:] = [item for _, item in sorted(enumerate(items), key=rank)]

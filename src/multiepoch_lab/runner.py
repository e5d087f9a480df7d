"""Spreads runs over processes; keeps each result as a file, and computes none twice."""

import ast
import functools
import hashlib
import importlib.util
import json
import multiprocessing
import os
import platform
import re
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

import numpy as np
import torch

from multiepoch_lab.files import atomic_write

Item = TypeVar("Item")


def resolve_device(device: str) -> str:
    """Returns the device for "auto": the GPU if there is one; ValueError if torch lacks it."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"device {device!r}: torch sees no GPU; use cpu or auto.")
    return device


def run_key(settings: Any, *packages: str) -> str:
    """Names the file that keeps a run by a hash of its settings (JSON), code and torch version."""
    text = json.dumps([settings, code_hash(*packages), torch.__version__], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


@functools.cache
def code_hash(*packages: str) -> str:
    """Hashes the code of packages, without comments and docstrings, and the version of NumPy."""
    digest = hashlib.sha256(np.__version__.encode())
    for package in packages:
        spec = importlib.util.find_spec(package)
        assert spec is not None and spec.submodule_search_locations is not None
        (root,) = spec.submodule_search_locations
        for path in sorted(Path(root).rglob("*")):
            if path.suffix in (".py", ".cpp"):
                text = path.read_text(encoding="utf-8")
                code = _without_docstrings(text) if path.suffix == ".py" else text
                digest.update(f"{package}/{path.relative_to(root)}\0{code}\0".encode())
    return digest.hexdigest()


def _without_docstrings(source: str) -> str:
    tree = ast.parse(source)
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    for node in ast.walk(tree):
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
            del node.body[0]
    return ast.dump(tree)


@contextmanager
def one_thread() -> Iterator[None]:
    """Gives torch one thread, as in a worker, so that sums are taken in the same order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class Runner(Generic[Item]):
    """Runs `work` on items in single-threaded processes that live until the block ends::

        with Runner(work, workers=2) as runner:
            for item, result in runner.map(items): ...

    Args:
        work: A function at the top level of a module, or a partial of one, of an item.
        workers: Number of processes. With 1, work runs in this process.
    """

    def __init__(self, work: Callable[[Item], Any], workers: int) -> None:
        self.work = work
        self.workers = min(workers, os.cpu_count() or 1)
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind, *_) -> None:
        if self._pool is not None:
            processes = [*(self._pool._processes or {}).values()]  # shutdown forgets them
            self._pool.shutdown(wait=kind is None, cancel_futures=True)
            if kind is not None:
                for process in processes:
                    process.terminate()

    def map(self, items: Sequence[Item]) -> Iterator[tuple[Item, Any]]:
        """Yields (item, work(item)) in order of completion."""
        if self.workers <= 1 or len(items) <= 1:
            with one_thread():
                for item in items:
                    with torch.random.fork_rng(devices=[]):  # the caller's stays as it is
                        result = self.work(item)
                    yield item, result
            return
        futures = {self._processes().submit(self.work, item): item for item in items}
        for future in as_completed(futures):
            yield futures[future], future.result()

    def ask(self, question: Callable[[], Any], say: Callable[[Any], None]) -> None:
        """Passes the answer to `say`, beside `map`; gives none if the question fails."""

        def answered(future: Future) -> None:
            if not future.cancelled() and future.exception() is None:
                say(future.result())

        if self.workers > 1:
            self._processes().submit(question).add_done_callback(answered)
        else:
            with one_thread(), suppress(Exception):
                say(question())

    def _processes(self) -> ProcessPoolExecutor:
        if self._pool is None:
            spawn = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self.workers, spawn, initializer=_start_worker)
        return self._pool


class KeptRunner(Runner[tuple[Item, Path]]):
    """Runs items whose results are files, and skips those whose file exists.

    Args:
        work: Called as work(item, path); writes the result to `path`.
        workers: As for Runner.
        describe: Names an item in the progress lines.
        log: Is called with one line per finished item: its time and an estimate of the rest.
        total: Number of items over all calls, if there are several.
    """

    def __init__(
        self,
        work: Callable[[Item, Path], None],
        workers: int,
        describe: Callable[[Item], str],
        log: Callable[[str], None] = print,
        total: int | None = None,
    ) -> None:
        super().__init__(functools.partial(_keep, work), workers)
        self.describe, self.log, self.total = describe, log, total
        self._done, self._ran, self._started = 0, 0, time.perf_counter()

    def __call__(self, items: Iterable[Item], paths: Sequence[Path]) -> None:
        """Writes each path that does not exist yet."""
        pairs = dict(zip(paths, items))
        todo = [(item, path) for path, item in pairs.items() if not path.exists()]
        total = self.total or len(pairs)
        if kept := len(pairs) - len(todo):
            self._done += kept
            self.log(f"{kept} of {len(pairs)} runs are kept from before")
        for (item, _), seconds in self.map(todo):
            self._done, self._ran = self._done + 1, self._ran + 1
            rest = max(total - self._done, 0)
            # On average, the other workers are half done with theirs.
            share = self._ran + min(self.workers - 1, rest) / 2
            left = (time.perf_counter() - self._started) / share * rest
            line = f"[{self._done}/{total}] {self.describe(item)}: {seconds:.1f} s"
            self.log(f"{line}, about {in_words(left)} left")


def in_words(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def machine(device: str = "cpu") -> str:
    """Describes the device, and for a CPU its number of cores."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name()
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.exists() else ""
    found = re.search(r"^model name\s*: (.*)$", text, re.M)
    model = found[1] if found else platform.processor() or platform.machine()
    return f"{model}, {os.cpu_count()} cores"


def _keep(work: Callable[[Item, Path], None], pair: tuple[Item, Path]) -> float:
    item, path = pair
    started = time.perf_counter()
    with atomic_write(path) as partial:
        work(item, partial)
    return time.perf_counter() - started


def _start_worker() -> None:
    """Gives a worker one thread, leaves Ctrl-C to its parent, and ends it with the parent."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None  # this is a worker
    parent.join()
    os._exit(1)

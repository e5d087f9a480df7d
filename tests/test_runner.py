"""The pool of worker processes."""

import multiprocessing
import os
import threading
import time

import pytest
import torch

from multiepoch_lab.runner import Runner, code_hash


@pytest.fixture(autouse=True)
def _two_cores(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 2)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_an_answer_comes_beside_the_results_and_none_to_a_question_that_fails(workers, capfd):
    answers, came = [], threading.Event()

    def say(answer):
        answers.append(answer)
        came.set()

    with Runner(abs, workers) as runner:
        runner.ask(divmod, answers.append)  # lacks its arguments
        runner.ask(os.getpid, say)
        assert sorted(runner.map([-1, -2])) == [(-2, 2), (-1, 1)]
        assert came.wait(60)
    assert len(answers) == 1 and (answers == [os.getpid()]) == (workers == 1)
    assert capfd.readouterr().err == ""


@pytest.mark.slow
def test_an_error_ends_the_workers_and_no_other_process():
    other = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(60,))
    other.start()
    try:
        with pytest.raises(TypeError), Runner(abs, 2) as runner:
            list(runner.map(["a", "b"]))
        other.join(0.5)
        assert other.is_alive()
    finally:
        other.kill()
        other.join()


def test_work_in_this_process_leaves_the_callers_random_numbers_as_they_are():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    with Runner(torch.manual_seed, 1) as runner:
        assert len(list(runner.map([1, 2]))) == 2
    assert torch.equal(torch.rand(2), expected)


def test_the_hash_follows_code_and_not_words(tmp_path, monkeypatch):
    (tmp_path / "hashed").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    seen = []
    for text in ('"""A."""\nX = 1\n', '"""B."""\nX = 1  # said\n', "X = 2\n"):
        (tmp_path / "hashed" / "__init__.py").write_text(text)
        seen.append(code_hash.__wrapped__("hashed"))
    assert seen[0] == seen[1] != seen[2]

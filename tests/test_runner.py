"""The pool of worker processes."""

import os
import threading

import pytest

from multiepoch.runner import Runner


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

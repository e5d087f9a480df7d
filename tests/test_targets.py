"""Every target of `make help` has a command that starts, and `make every-target` runs them."""

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tools import every_target

ROOT = Path(__file__).parents[1]
MAKEFILE = (ROOT / "Makefile").read_text()

START = """
import runpy, sys
for name in sys.argv[1:]:
    sys.argv = [name, "--help"]
    try:
        runpy.run_module(name, run_name="__main__")
    except SystemExit as ended:
        if ended.code:
            sys.exit(f"{name} --help ended with {ended.code}")
    except Exception as error:
        sys.exit(f"{name}: {type(error).__name__}: {error}")
"""


def test_every_target_has_a_line_of_help_and_is_no_file():
    phony = re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.M).group(1).split()
    helped = re.findall(r"^([a-z-]+):.*## ", MAKEFILE, re.M)
    assert sorted(phony) == sorted(helped)
    assert {*every_target.targets(ROOT), "every-target"} == set(helped)
    assert every_target.SMALLEST.keys() <= set(helped)


@pytest.mark.slow
def test_the_command_of_every_target_starts_without_the_repository_on_the_path():
    modules = sorted(set(re.findall(r"\$\(RUN\) -m ([\w.]+)", MAKEFILE)))
    assert {"tools.book", "benchmarks.bench", "benchmarks.distributed"} <= {*modules}
    scripts = re.findall(r"\$\(RUN\) ([\w./]+\.py)", MAKEFILE)
    assert set(scripts) == {".ci/install_torch.py"}, "a script does not find tools or benchmarks"
    elsewhere = {"pytest", "pip", "ruff", "mypy", "tools.pdf", "tools.slides"}  # have no --help
    paths = {"PYTHONPATH": str(ROOT / "src")}  # of the package, as installed
    command = [sys.executable, "-c", START, *(one for one in modules if one not in elsewhere)]
    done = subprocess.run(command, cwd=ROOT, env=paths, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def repository(tmp_path, git):
    """Returns a repository with three targets, of which one passes once there is a file."""
    folder = tmp_path / "repository"
    folder.mkdir()
    lines = [
        "clean: ## Last\n\t@echo cleaned >> $(HERE)/order",
        "good: ## Good\n\t@echo good >> $(HERE)/order; echo fine",
        "bad: ## Bad\n\t@echo bad >> $(HERE)/order; "
        "test -f $(HERE)/mended || { echo no such file; exit 1; }",
        "hidden:\n\t@exit 1",
    ]
    (folder / "Makefile").write_text(f"HERE = {tmp_path}\n" + "\n".join(lines) + "\n")
    for call in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "Targets"]):
        git(folder, *call)
    return folder


def test_every_target_runs_once_and_what_failed_again(repository, tmp_path, capsys):
    order = tmp_path / "order"
    assert every_target.main([], repository, tmp_path / "kept") == 1
    assert order.read_text().split() == ["good", "bad", "cleaned"]
    lines = (tmp_path / "kept" / "table.md").read_text().splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:]]
    assert [(cell[0], cell[1], cell[3]) for cell in cells] == [
        ("make good", "passed", "fine"),
        ("make bad", "FAILED", "no such file"),
        ("make clean", "passed", ""),
    ]
    (tmp_path / "mended").touch()
    order.unlink()
    assert every_target.main([], repository, tmp_path / "kept") == 0
    assert order.read_text().split() == ["bad"]
    assert "good: passed before" in capsys.readouterr().out


def test_a_new_commit_starts_anew_and_an_unknown_target_is_refused(repository, tmp_path, git):
    assert every_target.main(["good"], repository, tmp_path / "kept") == 0
    git(repository, "commit", "-q", "--allow-empty", "-m", "Next")
    assert every_target.main(["good"], repository, tmp_path / "kept") == 0
    assert (tmp_path / "order").read_text().split() == ["good", "good"]
    assert every_target.main(["clean", "bad"], repository, tmp_path / "kept") == 1
    assert (tmp_path / "order").read_text().split() == ["good", "good", "cleaned", "bad"]
    with pytest.raises(SystemExit):
        every_target.main(["no-such-target"], repository, tmp_path / "kept")


def test_a_target_that_takes_too_long_ends_with_what_it_started(repository, tmp_path, monkeypatch):
    monkeypatch.setattr(every_target, "LIMIT", 0.5)
    with (repository / "Makefile").open("a") as makefile:
        makefile.write("\nslow:\n\t@sh -c 'sleep 2; touch $(HERE)/late' & wait\n")
    found = every_target.run("slow", repository, tmp_path / "output")
    assert not found["passed"] and found["last"].startswith("ended after")
    time.sleep(2)
    assert not (tmp_path / "late").exists()

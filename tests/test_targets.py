"""The targets of `make help`, and what the workflows call of them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = re.findall(r"^([a-z-]+):.*## ", MAKEFILE, re.M)
WORKFLOWS = sorted(ROOT.glob(".github/workflows/*.yml"))


def test_help_lists_every_target_on_one_screen():
    assert set(re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.M)[1].split()) == {*TARGETS}
    assert len(TARGETS) <= 16


@pytest.mark.slow
def test_the_command_of_every_target_starts():
    modules = set(re.findall(r"\$\(RUN\) -m ([\w.]+)", MAKEFILE))
    for module in modules - {"pytest", "pip", "ruff", "mypy", "uv"}:
        command = [sys.executable, "-m", module, "--help"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_calls_targets_that_there_are_and_may_write_only_to_publish(path):
    workflow = yaml.safe_load(path.read_text())
    assert workflow["permissions"] == {"contents": "read"}
    for name, job in workflow["jobs"].items():
        calls = "\n".join(step.get("run", "") for step in job["steps"])
        assert {*re.findall(r"\bmake ([a-z-]+)", calls)} <= {*TARGETS}
        assert all((ROOT / script).exists() for script in re.findall(r"\.ci/\w+\.py", calls))
        assert job["timeout-minutes"] <= 350
        assert "permissions" not in job or name in ("publish", "pages", "propose")

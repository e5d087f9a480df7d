"""The container: the steps of the Dockerfile, and what runs in it."""

import importlib.util
import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def container(tmp_path, monkeypatch):
    """Returns .ci/container.py with a chroot of its own, and with the PATH an empty folder."""
    spec = importlib.util.spec_from_file_location("container", ROOT / ".ci/container.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "CHROOT", tmp_path / "_build" / "container")
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return module


def program(tmp_path, name):
    """Writes a program that notes how it is called."""
    path = tmp_path / "bin" / name
    path.write_text(f'#!/bin/sh\necho "{name} $@" >> {tmp_path}/calls\n')
    path.chmod(0o755)


def test_comments_are_no_steps_and_a_continued_line_is_one(container):
    text = "# a\nFROM debian:x-slim\nRUN one \\\n    && two\n\nCMD [1]\n"
    steps = [(name, " ".join(rest.split())) for name, rest in container.steps(text)]
    assert steps == [("FROM", "debian:x-slim"), ("RUN", "one && two"), ("CMD", "[1]")]


@pytest.mark.parametrize("engine", ["docker", "podman"])
def test_an_engine_builds_the_image_and_runs_both_commands(container, tmp_path, engine):
    program(tmp_path, engine)
    container.main([])
    assert (tmp_path / "calls").read_text().splitlines() == [
        f"{engine} build --tag second-epoch {ROOT}",
        f"{engine} run --rm second-epoch make book PROFILE=quick",
        f"{engine} run --rm second-epoch make test",
    ]


def test_without_an_engine_every_step_of_the_dockerfile_runs_in_the_chroot_once(
    container, tmp_path, monkeypatch
):
    ran, inside = [], []
    program(tmp_path, "mmdebstrap")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(container.shutil, "copytree", lambda *a, **k: None)

    def run(call, **_):
        ran.append(call)
        if "mmdebstrap" in call:
            container.CHROOT.mkdir()

    monkeypatch.setattr(container.subprocess, "run", run)
    monkeypatch.setattr(container, "in_chroot", lambda *call: inside.append(call))
    for _ in range(2):
        container.main(["make help"])
    steps = container.steps((ROOT / "Dockerfile").read_text())
    (folder,) = [argument for name, argument in steps if name == "WORKDIR"]
    commands = [argument for name, argument in steps if name == "RUN"]
    places = ["/", folder]
    assert inside == [*zip(commands, places, strict=True), *2 * [("make help", folder)]]
    target = container.CHROOT / folder.strip("/")
    assert [call for call in ran if "git" in call] == [
        ["git", "clone", "--quiet", str(ROOT), str(target)]
    ]


def test_without_an_engine_and_mmdebstrap_it_says_what_is_needed(container):
    with pytest.raises(SystemExit, match="needs Docker or Podman"):
        container.main([])

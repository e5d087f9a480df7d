"""Which build of torch `make` installs, with a pip and an index that are made up."""

import importlib.util
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def module():
    """Returns .ci/install_torch.py, loaded anew."""
    spec = importlib.util.spec_from_file_location("install_torch", ROOT / ".ci/install_torch.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def script(module, monkeypatch):
    """Returns the script on a Linux without a GPU or any setting, and without a network."""
    monkeypatch.delenv("GPU", raising=False)
    monkeypatch.delenv("TORCH_INDEX", raising=False)
    monkeypatch.setattr(module.platform, "system", lambda: "Linux")
    monkeypatch.setattr(module, "has_gpu", lambda: False)
    monkeypatch.setattr(module, "answers", lambda url: False)
    return module


class Pip:
    """Knows the versions of torch by where they come from, and installs one at most."""

    def __init__(self, module, monkeypatch, config: str = "", **versions: str) -> None:
        self.config, self.versions, self.installed = config, versions, ""
        monkeypatch.setattr(module, "pip", self)
        monkeypatch.setattr(module, "installed", lambda: self.installed)

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess:
        if arguments[0] == "config":
            return subprocess.CompletedProcess(arguments, 0, self.config, "")
        source = "local" if "--no-index" in arguments else arguments[-2].rpartition("/")[2]
        self.installed = self.versions.get(source, "")
        return subprocess.CompletedProcess(arguments, int(not self.installed), "", "no such build")


def test_without_a_gpu_the_cpu_index_is_used(script, monkeypatch):
    pip = Pip(script, monkeypatch, cpu="2.15.0+cpu")
    monkeypatch.setattr(script, "answers", lambda url: url == script.CPU_INDEX)
    line = script.choose("torch>=2.4")
    assert pip.installed == "2.15.0+cpu"
    assert line.startswith(f"torch 2.15.0+cpu from {script.CPU_INDEX}")
    assert "GPU=1" in line


@pytest.mark.parametrize("heard", [False, True])
def test_pypi_is_left_where_the_cpu_index_does_not_answer_or_has_no_such_build(
    script, monkeypatch, heard
):
    pip = Pip(script, monkeypatch)
    monkeypatch.setattr(script, "answers", lambda url: heard)
    line = script.choose("torch>=2.4")
    assert not pip.installed, "the requirements bring it, from PyPI"
    assert line.startswith("torch from PyPI, with CUDA") and "TORCH_INDEX=URL" in line


def test_a_build_on_this_machine_goes_before_the_index(script, monkeypatch):
    pip = Pip(script, monkeypatch, local="2.13.0+cpu", cpu="2.15.0+cpu")
    monkeypatch.setattr(script, "answers", lambda url: True)
    assert script.choose("torch>=2.4").startswith("torch 2.13.0+cpu, which pip finds")
    assert pip.installed == "2.13.0+cpu"


@pytest.mark.parametrize("setting", ["global.index-url", ":env:.extra-index-url"])
def test_an_index_that_pip_is_configured_with_is_left_to_pip(script, monkeypatch, setting):
    pip = Pip(script, monkeypatch, f"{setting}='https://mirror'\n", local="2.13.0", cpu="2.15.0")
    monkeypatch.setattr(script, "answers", lambda url: True)
    assert setting in script.choose("torch>=2.4")
    assert not pip.installed


def test_with_a_gpu_or_with_gpu_set_pypi_is_used(script, monkeypatch):
    pip = Pip(script, monkeypatch, local="2.13.0+cpu", cpu="2.15.0+cpu")
    monkeypatch.setenv("GPU", "1")
    assert "since GPU is set" in script.choose("torch>=2.4")
    monkeypatch.delenv("GPU")
    monkeypatch.setattr(script, "has_gpu", lambda: True)
    line = script.choose("torch>=2.4")
    assert "since there is a GPU" in line and f"TORCH_INDEX={script.CPU_INDEX}" in line
    assert not pip.installed


def test_a_named_index_is_used_or_refused(script, monkeypatch):
    pip = Pip(script, monkeypatch, rocm="2.15.0+rocm", local="2.13.0+cpu")
    monkeypatch.setattr(script, "has_gpu", lambda: True)
    monkeypatch.setenv("TORCH_INDEX", "https://example.org/rocm")
    assert "torch 2.15.0+rocm from https://example.org/rocm" in script.choose("torch>=2.4")
    assert pip.installed == "2.15.0+rocm"
    monkeypatch.setenv("TORCH_INDEX", "https://example.org/none")
    with pytest.raises(SystemExit, match=r"example.org/none has no torch>=2\.4"):
        script.choose("torch>=2.4")


def test_macos_is_left_to_pip(script, monkeypatch):
    pip = Pip(script, monkeypatch, local="2.13.0", cpu="2.15.0")
    monkeypatch.setattr(script.platform, "system", lambda: "Darwin")
    assert script.choose("torch>=2.4") == ""
    assert not pip.installed


def test_a_gpu_is_seen_by_its_driver_alone(module, monkeypatch, tmp_path):
    monkeypatch.setattr(module, "Path", lambda name: tmp_path / name.lstrip("/"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert not module.has_gpu()

    tool = tmp_path / "bin" / "nvidia-smi"
    tool.parent.mkdir()
    for says, seen in (("No devices were found; exit 6", False), ("GPU 0: H100", True)):
        text, _, code = says.partition("; ")
        tool.write_text(f"#!/bin/sh\necho '{text}'\n{code}\n")
        tool.chmod(0o755)
        assert module.has_gpu() == seen
    tool.unlink()
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "nvidia0").touch()
    assert module.has_gpu()


def test_an_index_is_asked_once_and_for_seconds(module, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    asked = []

    class Index(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200 if self.path == "/whl/torch/" else 404)
            self.end_headers()

        def log_message(self, *_) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Index) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        assert module.answers(f"{url}/whl")
        assert not module.answers(f"{url}/other")
        assert asked == ["/whl/torch/", "/other/torch/"]
        server.shutdown()
    module.PATIENCE = 0.5
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        start = time.monotonic()
        assert not module.answers(f"http://127.0.0.1:{silent.getsockname()[1]}/whl")
        assert time.monotonic() - start < 10
    assert not module.answers("no URL at all")


def test_an_environment_that_has_torch_keeps_it():
    command = [sys.executable, ".ci/install_torch.py", "torch==0.1"]
    outcome = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (outcome.returncode, outcome.stdout, outcome.stderr) == (0, "", "")

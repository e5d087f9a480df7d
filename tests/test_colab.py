"""Notebooks on Colab have one address and install this package alone.

These are the quick checks; `make colab` runs the notebooks on top of Colab's own packages.
"""

import json
import os
import re
import subprocess
import sys
import tomllib
import types
from pathlib import Path

import nbformat
import pytest
import yaml

from reproduction import records
from tools import imitate_colab
from tools.colab import Repository
from tools.notebooks import execute

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def install(path: Path) -> str:
    """Returns the set-up cell, the first with code, without its imports."""
    cell = next(cell for cell in read(path).cells if cell.cell_type == "code")
    head, ended, _ = cell.source.partition("check=True)\n")
    assert "google.colab" in head, f"{path.stem}: copy the setup cell of another chapter"
    return head + ended


def test_title_author_address_and_version_agree_everywhere():
    config = yaml.safe_load((ROOT / "_config.yml").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["title"] == config["title"]
    assert citation["authors"] == [{"name": config["author"]}]
    assert citation["repository-code"] == Repository.of(ROOT).url
    assert citation["version"] == project["version"]
    archive = json.loads((ROOT / ".zenodo.json").read_text())
    assert archive["title"] == config["title"] and archive["license"] == project["license"]
    assert archive["creators"] == citation["authors"]
    (paper,) = archive["related_identifiers"]
    assert paper["identifier"] == citation["references"][0]["identifiers"][0]["value"]
    assert f"## [{project['version']}]" in (ROOT / "CHANGELOG.md").read_text()
    owner, name = Repository.of(ROOT).url.split("/")[-2:]
    assert config["html"]["baseurl"] == f"https://{owner}.github.io/{name}/"
    for page in ("README.md", "book/index.md"):
        assert f"\n# {config['title']}\n" in "\n" + (ROOT / page).read_text(), page


def test_the_library_fetches_its_data_from_the_address_of_the_config():
    source = (ROOT / "src/multiepoch_lab/data/kuairand.py").read_text()
    owner_and_name = Repository.of(ROOT).url.removeprefix("https://github.com/")
    addresses = re.findall(
        r"https://(?:raw\.githubusercontent|github)\.com/([\w-]+/[\w-]+)", source
    )
    assert set(addresses) == {owner_and_name}


@each_notebook
def test_the_first_cell_links_to_colab_and_the_setup_cell_installs_this_package_alone(
    path, monkeypatch
):
    assert Repository.of(ROOT).line(path.stem) in read(path).cells[0].source.splitlines()
    code, calls = install(path), []
    assert code == install(NOTEBOOKS[0]), "the same in every chapter"
    monkeypatch.setattr(subprocess, "run", lambda *call, **options: calls.append((call, options)))
    exec(code, {})
    assert not calls, "nothing is installed outside Colab"
    monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))
    exec(code, {})
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", Repository.of(ROOT).source]
    assert calls == [((pip,), {"check": True})]


def refuse_myst(text: str, where: str) -> None:
    """Fails on what Colab cannot show: MyST, and images that are files beside the notebook."""
    for myst in (r"^\s*(```+|~~~+|:::+)\s*\{", r"^\s*:::", r"\{[\w:.-]+\}`", r"^\(\S+\)=$"):
        found = re.search(myst, text, flags=re.M)
        assert not found, f"{where}: {found[0]!r} is MyST"
    found = re.search(r"!\[[^]]*\]\([^)]*\)", text)
    assert not found, f"{where}: {found[0]!r} is missing on Colab"


@each_notebook
def test_the_text_is_plain_markdown(path):
    for cell in read(path).cells:
        if cell.cell_type == "markdown":
            refuse_myst(cell.source, f"{path.stem}, cell {cell.id}")


@pytest.mark.notebook
@each_notebook
def test_what_the_cells_display_is_plain_markdown(path):
    run = execute(path, ROOT, ROOT / "_build" / "executed" / "quick", {"profile": "quick"})
    for cell in read(run.path).cells:
        for output in cell.get("outputs", []):
            shown = output.get("data", {}).get("text/markdown", "")
            refuse_myst("".join(shown), f"{path.stem}, output of cell {cell.id}")


def test_the_package_needs_nothing_beyond_what_colab_has():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    needed = [*project["dependencies"], *extras["lab"], *extras["compare"]]
    names = {re.split("[=<>]", one)[0] for one in needed if not one.startswith("multiepoch[")}
    assert names <= {re.split("[=<>]", one)[0] for one in imitate_colab.PACKAGES}


def test_a_snapshot_is_a_repository_of_the_working_tree(tmp_path):
    commit = imitate_colab.snapshot(tmp_path / "snapshot", "main")
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", tmp_path / "snapshot", clone], check=True)
    head = subprocess.run(["git", "-C", clone, "rev-parse", "main"], capture_output=True, text=True)
    assert head.stdout.strip() == commit
    assert (clone / "pyproject.toml").read_bytes() == (ROOT / "pyproject.toml").read_bytes()
    assert not (clone / "_build").exists()


def test_the_installed_package_has_every_file_of_src_and_its_records(tmp_path):
    # The list of files of an earlier build would hide what this one leaves out.
    fresh = ["egg_info", "--egg-base", tmp_path, "build_py", "--build-lib", tmp_path]
    environment = os.environ | {"MULTIEPOCH_PURE": "1", "PYTHONPATH": str(tmp_path)}
    environment.pop("MULTIEPOCH_RESULTS", None)

    def run(*command, cwd=ROOT):
        done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, check=True)
        return done.stdout.decode().split()

    run(sys.executable, "setup.py", "-q", *fresh)
    ours = [one.removeprefix("src/") for one in run("git", "ls-files", "src")]
    assert not [one for one in ours if not (tmp_path / one).exists()]
    for path in ROOT.glob("results/*/*.parquet"):
        assert (tmp_path / "reproduction" / path.relative_to(ROOT)).exists()
    code = "from reproduction import records; print(records.folder(), *records.ledger())"
    found = run(sys.executable, "-c", code, cwd=tmp_path)
    assert found == [str(tmp_path / "reproduction" / "results"), *records.ledger()]

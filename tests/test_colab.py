"""Notebooks on Colab have one address, install this package alone, and get a badge.

These are the quick checks; `make colab` runs the notebooks on top of Colab's own packages.
"""

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
import types
from copy import deepcopy
from pathlib import Path

import nbformat
import pytest
import yaml

from reproduction import records
from tools import imitate_colab
from tools.colab import Repository, addressed, with_badge
from tools.notebooks import command as strip
from tools.notebooks import execute

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
ELSEWHERE = Repository("https://github.com/someone/a-copy", "v1")


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def install(path: Path) -> str:
    """Returns the set-up cell, the first with code, without its imports."""
    cell = next(cell for cell in read(path).cells if cell.cell_type == "code")
    head, ended, _ = cell.source.partition("check=True)\n")
    assert "google.colab" in head, f"{path.stem}: copy the setup cell of another chapter"
    return head + ended


@each_notebook
def test_the_address_is_that_of_the_config(path):
    document = read(path)
    wanted = addressed(deepcopy(document), path.stem, Repository.of(ROOT))
    for cell, other in zip(document.cells, wanted.cells):
        assert cell.source == other.source, f"{path.stem}, cell {cell.id}: run `make strip`"


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
def test_what_needs_a_record_says_so_where_there_is_none(path):
    for cell in read(path).cells:
        if cell.cell_type == "code" and "google.colab" not in cell.source:
            for node in ast.parse(cell.source).body:
                on_a_record = isinstance(node, ast.If) and isinstance(node.test, ast.Name)
                if on_a_record and node.test.id != "gpu":  # which no page has
                    assert node.orelse or "tables.of(" in cell.source, cell.source


@each_notebook
def test_the_setup_cell_installs_this_package_alone(path, monkeypatch):
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


MYST = ["```{note}", ":::{figure} a.png", "see {ref}`fig-a`", "(here)="]


@pytest.mark.parametrize("text", [*MYST, "![A picture](../book/_static/colab.svg)"])
def test_what_colab_would_not_show_is_refused(text):
    with pytest.raises(AssertionError, match="cell a"):
        refuse_myst(f"Before.\n\n{text}\n", "cell a")
    refuse_myst("$\\frac{a}{b}$, `code`, {braces}\n\n```python\nx = {1: 2}\n```\n", "cell a")


def test_strip_moves_every_notebook_to_another_address(tmp_path, monkeypatch, capsys):
    config = (ROOT / "_config.yml").read_text()
    here = Repository.of(ROOT)
    config = config.replace(f"url: {here.url}\n", f"url: {ELSEWHERE.url}\n")
    config = config.replace(f"branch: {here.branch}\n", f"branch: {ELSEWHERE.branch}\n")
    (tmp_path / "_config.yml").write_text(config)
    (tmp_path / "notebooks").mkdir()
    for path in NOTEBOOKS:
        (tmp_path / "notebooks" / path.name).write_bytes(path.read_bytes())
    monkeypatch.chdir(tmp_path)
    assert strip([]) == 0
    assert capsys.readouterr().out.count("stripped") == len(NOTEBOOKS)
    for path in NOTEBOOKS:
        text = (tmp_path / "notebooks" / path.name).read_text()
        assert here.url not in text
        assert f"{ELSEWHERE.colab(path.stem)})" in text
        assert f'\\"git+{ELSEWHERE.url}@v1\\"' in text
        after = read(tmp_path / "notebooks" / path.name)
        back = addressed(after, path.stem, here)
        assert back == read(path), "only the address was changed"
    assert strip([]) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("url", ["https://example.org/a/b", "https://github.com/a/b.git", "a/b"])
def test_an_address_that_colab_cannot_open_is_refused(tmp_path, url):
    (tmp_path / "_config.yml").write_text(f"repository: {{url: '{url}', branch: main}}\n")
    with pytest.raises(ValueError, match=r"https://github\.com/OWNER/NAME"):
        Repository.of(tmp_path)


@each_notebook
def test_the_page_gets_a_badge_for_the_line(path):
    source = with_badge(read(path)).cells[0].source
    ((alt, picture, link),) = re.findall(r"\[!\[([^]]*)\]\((\S*)\)\]\((\S*)\)", source)
    assert alt == "Open in Colab"
    assert (path.parent / picture).is_file()
    assert link == Repository.of(ROOT).colab(path.stem)
    assert "Links to other pages" not in source, "on the page they work"


def test_a_missing_record_is_none(tmp_path, monkeypatch):
    for folder in (tmp_path, tmp_path / "nowhere"):  # the latter as on Colab
        monkeypatch.setenv("MULTIEPOCH_RESULTS", str(folder))
        assert records.read("ch07_frequency_adaptive_rate", "gpu") is None


@pytest.mark.slow
def test_the_installed_package_brings_its_records(tmp_path):
    build = [sys.executable, "setup.py", "-q", "build_py", "--build-lib", tmp_path]
    environment = os.environ | {"MULTIEPOCH_PURE": "1"}
    environment.pop("MULTIEPOCH_RESULTS", None)
    subprocess.run(build, cwd=ROOT, env=environment, check=True, capture_output=True)
    environment["PYTHONPATH"] = str(tmp_path)
    code = "from reproduction import records; print(records.folder(), *records.ledger())"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.stdout.split() == [str(tmp_path / "reproduction" / "results"), *records.ledger()]
    there = {path.name for path in ROOT.glob("results/*/*.parquet")}
    assert there == {path.name for path in tmp_path.rglob("*.parquet")} - {"impressions.parquet"}


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


def test_what_is_installed_from_the_repository_has_every_file_of_src(tmp_path):
    # The list of files of an earlier build would hide what this one leaves out.
    fresh = ["egg_info", "--egg-base", str(tmp_path), "build_py", "--build-lib", str(tmp_path)]
    subprocess.run([sys.executable, "setup.py", "-q", *fresh], cwd=ROOT, check=True)
    listed = ["git", "ls-files", "src"]
    ours = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    ours = {one.removeprefix("src/") for one in ours.split()}
    assert not [one for one in sorted(ours) if not (tmp_path / one).exists()]

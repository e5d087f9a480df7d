"""What a release consists of, and what it is refused for."""

import ast
import hashlib
import json
import re
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft7Validator

from reproduction import records
from tools import release
from tools.every_target import targets

ROOT = Path(__file__).parents[1]
WORKFLOWS = {
    path.stem: yaml.safe_load(path.read_text()) for path in ROOT.glob(".github/workflows/*.yml")
}


@pytest.fixture
def repository(tmp_path, git):
    """A committed repository of version 1.2.0 that can be released."""
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "p"\nversion = "1.2.0"\n')
    (tmp_path / "CITATION.cff").write_text("version: 1.2.0\n")
    (tmp_path / "CHANGELOG.md").write_text("# Changes\n\n## [1.2.0] - 2026-11-30\n")
    (tmp_path / "requirements.lock").write_text("# made\nno-such-package==1.0\n")
    for call in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "All"]):
        git(tmp_path, *call)
    return tmp_path


def test_a_release_is_refused_for_each_thing_that_is_not_ready(repository):
    assert release.refusals(repository, "v1.2.0") == []
    (one,) = release.refusals(repository, "v1.3.0")
    assert one == "The tag is v1.3.0, but pyproject.toml has version 1.2.0."
    (repository / "CHANGELOG.md").write_text("## [1.2.0] - unreleased (2026-11-30)\n")
    (repository / "CITATION.cff").write_text("version: 1.1.0\n")
    (repository / "requirements.lock").write_text(
        'pytest==0.1\nno-such-package==1\nyaml==9 ; python_version < "3"\n'
    )
    found = release.refusals(repository, "v1.2.0")
    assert found == [
        "CITATION.cff has version 1.1.0, but pyproject.toml has 1.2.0.",
        "CHANGELOG.md has no section of 1.2.0 with its date.",
        "There are uncommitted changes: CHANGELOG.md, CITATION.cff, requirements.lock.",
        f"The installed versions are not those of requirements.lock: pytest {pytest.__version__}.",
    ]


def test_an_archive_is_the_same_whenever_it_is_made(tmp_path):
    (tmp_path / "a.txt").write_text("one")
    contents = {"b/two.txt": b"two", "a.txt": tmp_path / "a.txt"}
    release.archive(tmp_path / "1.tar.gz", "top", contents, 1_000_000_000)
    (tmp_path / "a.txt").touch()
    release.archive(tmp_path / "2.tar.gz", "top", dict(reversed(contents.items())), 1_000_000_000)
    assert (tmp_path / "1.tar.gz").read_bytes() == (tmp_path / "2.tar.gz").read_bytes()
    with tarfile.open(tmp_path / "1.tar.gz") as tar:
        assert tar.getnames() == ["top/a.txt", "top/b/two.txt"]
        assert tar.extractfile("top/b/two.txt").read() == b"two"


def test_the_sums_are_those_of_all_files(tmp_path):
    for name in ("a.pdf", "b.whl"):
        (tmp_path / name).write_text(name)
    for _ in range(2):
        release.sums(tmp_path)
    lines = (tmp_path / release.SUMS).read_text().splitlines()
    assert lines == [f"{hashlib.sha256(n.encode()).hexdigest()}  {n}" for n in ("a.pdf", "b.whl")]


def test_wheels_that_are_built_already_are_taken_and_a_missing_pure_one_is_named(tmp_path):
    built, out = tmp_path / "dist", tmp_path / "out"
    built.mkdir()
    out.mkdir()
    (built / "p-1-py3-none-linux.whl").touch()
    with pytest.raises(release.ReleaseRefused, match="has no pure wheel"):
        release.wheels(ROOT, out, built)
    (built / "p-1-py3-none-any.whl").touch()
    (built / "p-1.tar.gz").touch()
    release.wheels(ROOT, out, built)
    assert len(list(out.iterdir())) == 3


def test_a_wheel_with_kernels_and_a_pure_one_are_built(tmp_path, monkeypatch):
    """setup.py leaves the kernels out whenever MULTIEPOCH_PURE is set, to "0" as well."""
    calls = []
    monkeypatch.setattr(
        release, "run", lambda *call, **environment: calls.append((call, environment))
    )
    release.wheels(ROOT, tmp_path, None)
    kinds = [(call[2], environment) for call, environment in calls]
    alone = {"MULTIEPOCH_ALONE": "1"}
    pure = alone | {"MULTIEPOCH_PURE": "1"}
    assert kinds == [("--sdist", alone), ("--wheel", alone), ("--wheel", pure)]


def test_what_is_installed_from_the_repository_has_every_file_of_src(tmp_path):
    # The list of files of an earlier build would hide what this one leaves out.
    fresh = ["egg_info", "--egg-base", str(tmp_path), "build_py", "--build-lib", str(tmp_path)]
    command = [sys.executable, "setup.py", "-q", *fresh]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    listed = ["git", "ls-files", "src"]
    ours = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    ours = {one.removeprefix("src/") for one in ours.split()}
    assert not [one for one in sorted(ours) if not (tmp_path / one).exists()]


def test_the_data_sheet_has_every_record(tmp_path):
    release.records_archive(ROOT, tmp_path)
    (path,) = tmp_path.iterdir()
    with tarfile.open(path) as tar:
        top = tar.getnames()[0].partition("/")[0]
        inside = {name.removeprefix(f"{top}/") for name in tar.getnames()}
        sheet = tar.extractfile(f"{top}/{release.DATASHEET}").read().decode()
    assert {"claims.toml", "files.csv"} <= inside
    for record in (ROOT / "results").glob("*/*.parquet"):
        place = record.relative_to(ROOT / "results").as_posix()
        assert place in inside
        name = f"| {place.removesuffix('.parquet')} |"
        (line,) = [one for one in sheet.splitlines() if one.startswith(name)]
        n_rows = len(records.read(record.stem, record.parent.name, ROOT / "results").rows)
        assert f"{n_rows:,} ×" in line
    assert "{" not in sheet.replace("{}", "")


def test_the_lock_file_has_what_the_project_needs_in_versions_that_fit():
    from packaging.requirements import Requirement

    project = release.project(ROOT)
    lines = (ROOT / release.LOCK).read_text().splitlines()
    pins = [Requirement(line) for line in lines if re.match(r"[a-z0-9]", line)]
    versions = {one.name: str(one.specifier).removeprefix("==") for one in pins}
    extras = [project["optional-dependencies"][name] for name in ("book", "test", "pages")]
    for line in [*project["dependencies"], *(one for extra in extras for one in extra)]:
        wanted = Requirement(line)
        if wanted.name != project["name"]:
            assert wanted.specifier.contains(versions[wanted.name]), line


# What Zenodo reads: https://developers.zenodo.org/#representation
ZENODO = {
    "type": "object",
    "required": ["title", "description", "upload_type", "creators", "license"],
    "additionalProperties": False,
    "properties": {
        "title": {"type": "string", "minLength": 3},
        "description": {"type": "string", "minLength": 3},
        "upload_type": {"enum": ["publication", "dataset", "software", "lesson", "other"]},
        "license": {"type": "string"},
        "creators": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["name"],
                "additionalProperties": False,
                "properties": {name: {"type": "string"} for name in ("name", "orcid")},
            },
        },
        "keywords": {"type": "array", "items": {"type": "string"}},
        "related_identifiers": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["identifier", "relation"],
                "additionalProperties": False,
                "properties": {
                    "identifier": {"type": "string"},
                    "relation": {
                        "enum": [
                            "isCitedBy",
                            "cites",
                            "isSupplementTo",
                            "isSupplementedBy",
                            "references",
                            "isDerivedFrom",
                            "reviews",
                        ]
                    },
                    "resource_type": {"type": "string"},
                },
            },
        },
    },
}


def test_the_metadata_for_zenodo_and_for_citation_are_valid():
    found = json.loads((ROOT / ".zenodo.json").read_text())
    assert [error.message for error in Draft7Validator(ZENODO).iter_errors(found)] == []
    schema = json.loads((ROOT / "tests" / "schemas" / "cff-1.2.0.json").read_text())
    cited = yaml.load((ROOT / "CITATION.cff").read_text(), yaml.BaseLoader)  # dates stay text
    errors = list(Draft7Validator(schema).iter_errors(cited))
    assert [error.message for error in errors] == []
    assert list(Draft7Validator(schema).iter_errors({**cited, "licence": "MIT"}))


def test_no_doi_is_claimed_before_there_is_one():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    readme = (ROOT / "README.md").read_text()
    if "doi" in cited:
        assert cited["doi"] in readme
    else:
        assert "zenodo.org/badge" not in readme


def test_the_workflow_of_a_tag_builds_with_the_command_of_the_makefile():
    jobs = WORKFLOWS["release"]["jobs"]
    calls = [step.get("run", "") for step in jobs["release"]["steps"]]
    (call,) = [one for one in calls if "make release" in one]
    assert "--tag" in call and "--wheels" in call
    assert {"wheels", "pure"} == set(jobs["release"]["needs"])
    for job in ("publish", "pages"):
        assert "release" in jobs[job]["needs"], "nothing is published before all of it is built"
    assert "pull_request" in WORKFLOWS["book"][True], "no preview"  # YAML reads "on" as true


def test_the_workflows_call_targets_and_scripts_that_there_are():
    helped = {*targets(ROOT), "every-target"}
    for name, workflow in WORKFLOWS.items():
        steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
        calls = "\n".join(step.get("run", "") for step in steps)
        assert {*re.findall(r"\bmake ([a-z-]+)", calls)} <= helped, name
        assert all((ROOT / path).exists() for path in re.findall(r"\.ci/\w+\.py", calls)), name
        for used in (step["uses"] for step in steps if "uses" in step):
            assert re.search(r"@(v\d[\d.]*|release/v\d+)$", used), used


def test_every_job_has_a_limit_of_time_and_only_what_publishes_may_write():
    may_write = {"publish", "pages", "propose"}
    for name, workflow in WORKFLOWS.items():
        assert workflow["permissions"] == {"contents": "read"}, name
        for job, content in workflow["jobs"].items():
            assert content["timeout-minutes"] <= 350, job
            assert "permissions" not in content or job in may_write, job


def test_the_tests_of_a_wheel_import_only_what_is_installed_there():
    wheels = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["cibuildwheel"]
    there = {re.split("[<>=]", one)[0] for one in wheels["test-requires"]}
    there |= {"torch", "numpy", "multiepoch", "__future__", *sys.stdlib_module_names}
    for name in ("conftest.py", "test_kernels.py"):
        for node in ast.parse((ROOT / "tests" / name).read_text()).body:
            if isinstance(node, ast.Import):
                assert {one.name.partition(".")[0] for one in node.names} <= there
            elif isinstance(node, ast.ImportFrom):
                assert node.module.partition(".")[0] in there

"""Builds all that a release consists of, into _build/release: `make release`.

The book in the given profile and its page tests, the site as an archive, the book and the paper as
PDF, the wheels, the records with a data sheet, the locked versions, and SHA256SUMS of all. The
workflow of a tag calls this with the tag and with the wheels that it built on several platforms.
Without a tag it is a dry run: it says what a tag would be refused for, and builds the same files.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pandas as pd
import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from packaging.requirements import Requirement

from reproduction import judge, records
from tools import paper, pdf
from tools.notebooks import PROFILES

ROOT = Path(__file__).parents[1]
OUT = ROOT / "_build" / "release"
LOCK = "requirements.lock"
SUMS = "SHA256SUMS"
DATASHEET = "DATASHEET.md"
BOOK = "the-second-epoch"


class ReleaseRefused(RuntimeError):
    """The release cannot be made; the message says why."""


def project(root: Path) -> dict:
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def git(root: Path, *arguments: str) -> str:
    call = ["git", "-C", str(root), *arguments]
    return subprocess.run(call, check=True, capture_output=True, text=True).stdout.strip()


def refusals(root: Path, tag: str) -> list[str]:
    """Returns why this commit cannot be released under the tag, a sentence each."""
    found, named = [], project(root)["version"]
    if tag != f"v{named}":
        found.append(f"The tag is {tag}, but pyproject.toml has version {named}.")
    cited = yaml.safe_load((root / "CITATION.cff").read_text(encoding="utf-8"))["version"]
    if cited != named:
        found.append(f"CITATION.cff has version {cited}, but pyproject.toml has {named}.")
    dated = rf"^## \[{re.escape(named)}\] - \d{{4}}-\d\d-\d\d$"
    if not re.search(dated, (root / "CHANGELOG.md").read_text(encoding="utf-8"), re.M):
        found.append(f"CHANGELOG.md has no section of {named} with its date.")
    if changed := git(root, "status", "--porcelain"):
        found.append(f"There are uncommitted changes: {', '.join(changed.split()[1::2])}.")
    if wrong := unlocked(root / LOCK):
        found.append(f"The installed versions are not those of {LOCK}: {', '.join(wrong)}.")
    return found


def unlocked(lock: Path) -> list[str]:
    """Returns the installed packages whose version is not that of the lock file."""
    found = []
    for line in lock.read_text(encoding="utf-8").splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        wanted = Requirement(line)
        try:
            there = version(wanted.name)
        except PackageNotFoundError:
            continue
        applies = wanted.marker is None or wanted.marker.evaluate()
        if applies and not wanted.specifier.contains(there, prereleases=True):
            found.append(f"{wanted.name} {there}")
    return found


def archive(target: Path, top: str, contents: dict[str, Path | bytes], when: int) -> None:
    """Writes a .tar.gz of files by their place below `top`. The same contents give the same bytes.

    Args:
        when: The time that all files get, in seconds since 1970.
    """
    with (
        target.open("wb") as raw,
        gzip.GzipFile("", "wb", mtime=when, fileobj=raw) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for place, content in sorted(contents.items()):
            data = content.read_bytes() if isinstance(content, Path) else content
            entry = tarfile.TarInfo(f"{top}/{place}")
            entry.size, entry.mtime, entry.mode = len(data), when, 0o644
            tar.addfile(entry, io.BytesIO(data))


def below(folder: Path) -> dict[str, Path]:
    """Returns every file in a folder by its place in it."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path for path in files}


def datasheet(root: Path, commit: str) -> str:
    """Returns the data sheet of the records: what each holds, and how all of them were made."""
    found = []
    for path in sorted((root / "results").glob("*/*.json")):
        about = json.loads(path.read_text(encoding="utf-8"))
        if "commit" not in about:
            continue
        one = records.read(path.stem, path.parent.name, root / "results")
        place = path.relative_to(root / "results").with_suffix("").as_posix()
        cells = "–" if one is None else f"{len(one.rows):,} × {', '.join(one.rows.columns)}"
        evidence = records.evidence(path.with_suffix(".evidence.csv"))
        found.append({"name": place, "about": about, "rows": cells, "evidence": len(evidence)})
    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(loader=loader, undefined=StrictUndefined, trim_blocks=True)
    template = environment.get_template("datasheet.md.j2")
    about = {"commit": commit, "version": project(root)["version"], "evidence": judge.COLUMNS}
    return template.render(records=found, **about)


def seconds_of_commit(root: Path) -> int:
    return int(git(root, "show", "-s", "--format=%ct", "HEAD"))


def site(root: Path, out: Path) -> None:
    when, name = seconds_of_commit(root), f"{BOOK}-{project(root)['version']}"
    archive(out / f"{name}-site.tar.gz", name, below(root / "_build" / "html"), when)


def records_archive(root: Path, out: Path) -> None:
    name = f"{BOOK}-{project(root)['version']}-records"
    contents: dict[str, Path | bytes] = below(root / "results")
    sheet = datasheet(root, git(root, "rev-parse", "HEAD"))
    sizes = [(place, path.stat().st_size) for place, path in below(root / "results").items()]
    files = pd.DataFrame(sizes, columns=["path", "bytes"]).to_csv(index=False)
    contents |= {"files.csv": files.encode(), DATASHEET: sheet.encode()}
    contents["claims.toml"] = judge.LEDGER
    archive(out / f"{name}.tar.gz", name, contents, seconds_of_commit(root))


def wheels(root: Path, out: Path, built: Path | None) -> None:
    """Takes wheels and source archive from a folder, or builds this platform's and the pure one."""
    if built is not None:
        found = [*built.glob("*.whl"), *built.glob("*.tar.gz")]
        if not any("none-any" in path.name for path in found):
            raise ReleaseRefused(f"{built} has no pure wheel; it has {len(found)} files.")
        for path in found:
            shutil.copy(path, out)
        return
    alone = {"MULTIEPOCH_ALONE": "1"}
    # From a clone: setuptools would take into the source archive all that it found here before.
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["git", "clone", "--quiet", str(root), folder], check=True)
        for kind, pure in (("--sdist", {}), ("--wheel", {}), ("--wheel", {"MULTIEPOCH_PURE": "1"})):
            run(Path(folder), "build", kind, "--outdir", str(out), folder, **alone, **pure)


def run(root: Path, module: str, *arguments: str, **environment: str) -> None:
    """Runs a module of this Python; its output is shown only if it fails."""
    call = [sys.executable, "-m", module, *arguments]
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    done = subprocess.run(call, cwd=root, env=os.environ | environment, text=True, **streams)
    if done.returncode:
        raise ReleaseRefused(f"python -m {module} failed:\n{done.stdout[-4000:]}")


def sums(out: Path) -> None:
    """Writes SHA256SUMS of all files, which `sha256sum --check` reads."""
    files = [path for path in sorted(out.iterdir()) if path.name != SUMS]
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files]
    (out / SUMS).write_text("".join(lines))


def build(root: Path, profile: str, out: Path, built: Path | None = None) -> None:
    """Builds every file of the release into `out`, a line for each step.

    Raises:
        ReleaseRefused: If a step fails; the message has the end of its output.
    """
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    name = f"{BOOK}-{project(root)['version']}"
    steps = {
        f"the book in the profile {profile}": lambda: run(root, "tools.book", "--profile", profile),
        "its pages tested in Chromium": lambda: run(
            root, "pytest", "-n", "auto", "--maxprocesses", "4", "tests/pages"
        ),
        "the site": lambda: site(root, out),
        "the book as PDF": lambda: (
            run(root, "tools.pdf"),
            shutil.copy(root / "_build" / pdf.NAME, out / f"{name}.pdf"),
        ),
        "the paper": lambda: (
            run(root, "tools.paper"),
            shutil.copy(paper.OUT / f"{paper.NAME}.pdf", out / f"{name}-paper.pdf"),
        ),
        "wheels and source archive": lambda: wheels(root, out, built),
        "the records with their data sheet": lambda: records_archive(root, out),
        "the locked versions": lambda: shutil.copy(root / LOCK, out),
        "the checksums": lambda: sums(out),
    }
    for what, step in steps.items():
        start = time.monotonic()
        print(f"{what} ...", end=" ", flush=True)
        step()
        print(f"{time.monotonic() - start:.0f} s", flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Returns 1 if the release is refused or a step fails."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", choices=PROFILES, default="cpu")
    parser.add_argument("--tag", help="vX.Y.Z; without it, this is a dry run")
    parser.add_argument("--wheels", type=Path, help="a folder with wheels that are built already")
    options = parser.parse_args(arguments)
    why_not = refusals(ROOT, options.tag or f"v{project(ROOT)['version']}")
    if why_not:
        said = "refused" if options.tag else "a dry run, since a tag would be refused"
        print(f"{said}:", *why_not, sep="\n  ", file=sys.stderr)
        if options.tag:
            return 1
    try:
        build(ROOT, options.profile, OUT, options.wheels)
    except ReleaseRefused as error:
        print(f"failed\n{error}", file=sys.stderr)
        return 1
    for line in (OUT / SUMS).read_text().splitlines():
        path = OUT / line.split()[1]
        print(f"{path.stat().st_size / 1e6:8.2f} MB  {path.name}")
    print(f"All of it: {OUT}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

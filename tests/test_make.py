"""The Makefile: which environment it trusts, and that its help names every target."""

import itertools
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from clone import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def dry(folder: Path, target: str) -> str:
    """What `make` would run in a folder with this project's Makefile."""
    shutil.copy(ROOT / "Makefile", folder)
    (folder / "pyproject.toml").touch()
    return subprocess.run(
        ["make", "--dry-run", target], cwd=folder, capture_output=True, text=True, check=True
    ).stdout


@pytest.mark.parametrize("place", ["", "/another/place"])
def test_the_environment_of_a_project_that_was_moved_is_made_anew(
    tmp_path: Path, place: str
) -> None:
    """Its commands would run the code of the old place."""
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv/installed").write_text(f"{place}\n")
    assert "-m venv .venv" in dry(tmp_path, "lint")
    (tmp_path / ".venv/installed").write_text(f"{tmp_path}\n")
    (tmp_path / "pyproject.toml").unlink()
    shutil.copy(ROOT / "Makefile", tmp_path)
    said = subprocess.run(
        ["make", "--dry-run", "--old-file", "pyproject.toml", "lint"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    ).stdout
    assert "-m venv" not in said
    assert "ruff check" in said


@pytest.mark.parametrize(
    "path", sorted((ROOT / "constraints").iterdir()), ids=lambda path: path.stem
)
def test_versions_that_are_installed_are_within_what_is_required(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)
    versions = {
        canonicalize_name(name): version for name, version in (x.split("==") for x in lines)
    }
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    needed = [
        project["dependencies"],
        *(extras[name] for name in ("export", "lint", "plots", "test")),
    ]
    for requirement in map(Requirement, itertools.chain.from_iterable(needed)):
        if requirement.name != project["name"]:
            assert versions[canonicalize_name(requirement.name)] in requirement.specifier


def test_help_names_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text()
    (phony,) = re.findall(r"^\.PHONY: (all .*)$", makefile, re.MULTILINE)
    command = ["make", "--no-print-directory", "help"]  # `make test` may run this
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout
    named = {line.split()[0] for line in said.splitlines()}
    assert named == set(phony.split()) - {"all"}

"""Which module imports which: arrows go down only, and a stage depends on the rooms that decide its
result.

A room is a folder of a folder; dvc.yaml names a stage's own module, its rooms and its artifacts.
Imports are read from the source, those within functions too. A package that imports its modules by
name (`importlib`), or reads files that lie beside its code, stands for all of them.
"""

import ast
from functools import cache
from pathlib import Path

import pytest
import yaml
from clone import ROOT
from dvc.fs import localfs
from dvc.ignore import DvcIgnoreFilter

# Each may import itself and what is below it.
LAYERS = (
    {"stages", "commands", "bench"},
    {"experiment"},
    {"learning"},
    {"model", "skeletons.preparing", "skeletons.synthetic"},
    {"skeletons.formats"},
    {"skeletons.archives"},
    {"skeletons.sensors"},
    {"skeletons.clips"},
    {"machine"},
    {"errors"},
)
# Rooms that decide no result: they read and check parameters, which DVC tracks value by value, or
# talk to DVC and the user.
NOT_TRACKED = {"", "experiment/parameters", "experiment/workflow"}
# Modules whose docstrings may make a stage run again, which takes hours.
MOST = {"pretrain": 33, "prepare": 31}
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


def place(module: str) -> tuple[int, str]:
    """The number of a module's layer, 0 at the top, and its name there."""
    parts = module.split(".")
    names = (".".join(parts[:2]), parts[0])
    return next((n, name) for n, layer in enumerate(LAYERS) for name in names if name in layer)


def file_of(module: str) -> Path | None:
    """The file of a module of this project, None for others and for packages without code."""
    path = ROOT.joinpath(*module.split("."))
    for file in (path.with_suffix(".py"), path / "__init__.py"):
        if file.exists():
            return file if file.read_text().strip() else None
    return None


@cache
def imports(file: Path) -> frozenset[str]:
    """The project's modules that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if file_of(name) else node.module for name in inner}
    return frozenset(name for name in found if file_of(name))


def modules(folder: str) -> list[Path]:
    """The modules with code in a folder and below it."""
    return [path for path in sorted((ROOT / folder).rglob("*.py")) if path.read_text().strip()]


CODE = [
    path
    for top in sorted({name.split(".")[0] for names in LAYERS for name in names} - {"errors"})
    for path in modules(top)
]


def room(file: Path) -> str:
    """The folder of a module, two deep at most, relative to the project."""
    return "/".join(file.parent.relative_to(ROOT).parts[:2])


def rooms(file: Path) -> set[str]:
    """The rooms of all that a module imports, itself or by others."""
    needed: set[Path] = set()
    waiting = [file]
    while waiting:
        file = waiting.pop()
        if file in needed or room(file) in NOT_TRACKED:
            continue
        needed.add(file)
        by_name = ("importlib.import_module(", "Path(__file__).parent")
        if file.name == "__init__.py" and any(way in file.read_text() for way in by_name):
            waiting += file.parent.glob("*.py")
        waiting += [path for path in map(file_of, imports(file)) if path]
    return {room(path) for path in needed} - {"stages"}


def code(stage: str) -> set[str]:
    """The code that dvc.yaml names for a stage."""
    described = STAGES[stage].get("do", STAGES[stage])
    tops = {path.relative_to(ROOT).parts[0] for path in CODE}
    return {dep for dep in described["deps"] if dep.split("/")[0] in tops}


@pytest.mark.parametrize("file", CODE, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_arrows_go_down_only(file: Path) -> None:
    own = place(".".join(file.relative_to(ROOT).with_suffix("").parts))
    for name in imports(file):
        assert place(name) == own or place(name)[0] > own[0], name


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_the_rooms_that_decide_its_result_and_no_other(stage: str) -> None:
    described = STAGES[stage].get("do", STAGES[stage])
    module = described["cmd"].split("-m ")[1].split()[0]
    own = ROOT.joinpath(*module.split(".")).with_suffix(".py")
    assert code(stage) == rooms(own) | {own.relative_to(ROOT).as_posix()}


@pytest.mark.parametrize(("stage", "most"), MOST.items())
def test_few_docstrings_make_the_long_stages_run_again(stage: str, most: int) -> None:
    forced = {path for name in code(stage) if (ROOT / name).is_dir() for path in modules(name)}
    assert len(forced) <= most


def test_dvc_passes_over_what_editors_and_systems_leave_and_over_no_input() -> None:
    ignored = DvcIgnoreFilter(localfs, str(ROOT)).is_ignored_file
    for name in (
        ".DS_Store",
        "._x",
        "Thumbs.db",
        "x.py~",
        "#x.py#",
        ".#x.py",
        ".x.py.swp",
        "x-unfinished",
    ):
        assert ignored(str(ROOT / "skeletons/formats" / name)), name
    inputs = [*CODE, *(ROOT / "datasets").rglob("*.yaml"), *(ROOT / "datasets").rglob("*.txt")]
    assert [str(path) for path in inputs if ignored(str(path))] == []

"""Which module imports which: arrows go down only, and dvc.yaml names what a result depends on.

The imports are read from the source, those within functions too. A package that imports its modules
by name (`importlib`), or reads files that lie beside its code, stands for all of them.
"""

import ast
from functools import cache
from pathlib import Path

import pytest
import yaml
from clone import ROOT

# Each may import itself and what is below it.
LAYERS = (
    {"stages", "commands", "bench"},
    {"experiment"},
    {"learning"},
    {"skeletons.reading", "skeletons.synthetic", "skeletons", "model"},
    {"errors"},
)
BELOW = {"skeletons.reading": {"skeletons"}, "skeletons.synthetic": {"skeletons"}}
# Modules that decide no result: they read and check parameters, which DVC tracks value by value, or
# talk to the user; the launcher ends a run.
NOT_TRACKED = {
    "errors.py",
    "experiment/checks.py",
    "experiment/console.py",
    "experiment/launcher.py",
    "experiment/params.py",
    "experiment/pipeline.py",
    "experiment/schema.py",
    "experiment/wording.py",
}
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


def package(module: str) -> str:
    """The layer's name for a module."""
    parts = module.split(".")
    inner = ".".join(parts[:2])
    return inner if inner in BELOW else parts[0]


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


def closure(file: Path) -> set[str]:
    """The files, relative to the root, that a file needs; a folder with a slash for all in it."""
    needed: set[str] = set()
    waiting = [file]
    while waiting:
        file = waiting.pop()
        name = file.relative_to(ROOT).as_posix()
        by_name = ("importlib.import_module(", "Path(__file__).parent")
        if file.name == "__init__.py" and any(way in file.read_text() for way in by_name):
            name = f"{file.parent.relative_to(ROOT).as_posix()}/"
        if name in needed | NOT_TRACKED:
            continue
        needed.add(name)
        inside = file.parent.glob("*.py") if name.endswith("/") else [file]
        waiting += [path for one in inside for path in map(file_of, imports(one)) if path]
    folders = [name for name in needed if name.endswith("/")]
    return {n for n in needed if n in folders or not n.startswith(tuple(folders))}


def modules() -> list[Path]:
    names = ("stages", "commands", "bench", "experiment", "learning", "skeletons", "model")
    return [path for name in names for path in sorted((ROOT / name).rglob("*.py"))]


@pytest.mark.parametrize("file", modules(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_arrows_go_down_only(file: Path) -> None:
    own = package(".".join(file.relative_to(ROOT).with_suffix("").parts))
    level = next(n for n, layer in enumerate(LAYERS) if own in layer)
    allowed = {own} | BELOW.get(own, set())
    allowed |= set().union(*LAYERS[level + 1 :])
    assert {package(name) for name in imports(file)} <= allowed


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_the_code_that_decides_its_result_and_no_other(stage: str) -> None:
    described = STAGES[stage].get("do", STAGES[stage])
    module = described["cmd"].split("-m ")[1].split()[0]
    needed = closure(ROOT.joinpath(*module.split(".")).with_suffix(".py"))
    code = {path.parts[0] for path in (file.relative_to(ROOT) for file in modules())}
    named = {f"{dep}/" if (ROOT / dep).is_dir() else dep for dep in described["deps"]}
    named = {dep for dep in named if dep.split("/")[0] in code}
    assert named == needed

"""How large a file, a stage and a function's list of parameters may be."""

import ast
from pathlib import Path

import pytest
from clone import ROOT

PACKAGES = ("stages", "commands", "bench", "experiment", "learning", "skeletons", "model")
FILES = [
    path.relative_to(ROOT).as_posix()
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
]
LONGEST_FILE = 400
LONGEST_STAGE = {"stages/report.py": 199}  # 99 for the others
MOST_PARAMETERS = 12


def lines(file: str) -> int:
    return len((ROOT / file).read_text().splitlines())


@pytest.mark.parametrize("file", FILES)
def test_a_file_is_short_and_its_functions_take_few_parameters(file: str) -> None:
    stage = Path(file).parent.name == "stages"
    assert lines(file) <= (LONGEST_STAGE.get(file, 99) if stage else LONGEST_FILE)
    many = []
    for node in ast.walk(ast.parse((ROOT / file).read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            given = node.args
            count = len(given.posonlyargs) + len(given.args) + len(given.kwonlyargs)
            count += (given.vararg is not None) + (given.kwarg is not None)
            if count > MOST_PARAMETERS:
                many.append(f"{getattr(node, 'name', 'lambda')}: {count}")
    assert not many

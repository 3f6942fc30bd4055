"""Limits: of dvc.yaml, of lists of parameters, of the files in which a pretraining step is read."""

import ast

from clone import ROOT
from test_dependencies import CODE

LONGEST_DVC_YAML = 475  # 420, `floor`: coordinates beside every result, `weights`: of others
MOST_PARAMETERS = 8
LONGEST_STEP = 700


def test_dvc_yaml_is_short() -> None:
    assert len((ROOT / "dvc.yaml").read_text().splitlines()) <= LONGEST_DVC_YAML


def test_functions_take_few_parameters() -> None:
    many = []
    for path in CODE:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                given = node.args
                count = len(given.posonlyargs) + len(given.args) + len(given.kwonlyargs)
                count += (given.vararg is not None) + (given.kwarg is not None)
                if count > MOST_PARAMETERS:
                    many.append(f"{path}: {getattr(node, 'name', 'lambda')}: {count}")
    assert not many


def test_a_pretraining_step_is_read_in_four_short_files() -> None:
    """From views to loss to update, as the docstring of learning/training/pretrain.py says."""
    names = ("views", "augment", "pretrain", "optimiser")
    files = [ROOT / f"learning/training/{name}.py" for name in names]
    assert sum(len(file.read_text().splitlines()) for file in files) <= LONGEST_STEP

"""One finished clone for all tests that start from results: the DAG runs once."""

import shutil

import pytest
from clone import TINY, Clone


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that run the DAG come first: they take longest, and processes share the rest."""
    heavy = {item.path for item in items if {"clone", "finished"} & set(item.fixturenames)}
    first = sorted(heavy, key=lambda path: (path.name != "test_resume.py", path.name))
    items.sort(key=lambda item: first.index(item.path) if item.path in heavy else len(first))


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone after `dvc repro`, its results committed. Copy it before changing it."""
    clone = Clone.new(tmp_path_factory.mktemp("finished") / "clone")
    clone.change(TINY)
    clone.dvc("repro")
    clone.git("add", "-A")
    clone.git("commit", "-qm", "Results")
    return clone


@pytest.fixture(scope="module")
def clone(finished: Clone, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A copy of the finished clone for one module's tests."""
    path = tmp_path_factory.mktemp("copy") / "clone"
    shutil.copytree(finished.path, path, symlinks=True)
    return Clone(path)

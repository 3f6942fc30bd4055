"""One finished clone for all tests that start from results: the DAG runs once, whatever the number
of processes that test.
"""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import pytest
from clone import TINY, Clone
from filelock import FileLock
from hypothesis import settings

# There are as many processes that test as cores: threads of theirs, and of the stages that they
# start, would only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# The interpreter of the tests runs the stages, and no command opens a window.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
os.environ["BROWSER"] = "true"

settings.register_profile("fuzz", max_examples=20_000)

# Take as long as the DAG: with them the other processes begin, instead of waiting for it.
BESIDE = ("test_ddp.py", "test_contrast.py", "test_prepare.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest come first: what is left then is shared evenly.

    pytest-xdist would begin with the files of most tests, were it not for `--no-loadscope-reorder`.
    """
    heavy = sorted(
        {item.path.name for item in items if "finished" in item.fixturenames},
        key=lambda name: (name != "test_pages.py", name),
    )
    first = [*heavy[:1], *BESIDE, *heavy[1:]]
    items.sort(
        key=lambda item: first.index(item.path.name) if item.path.name in first else len(first)
    )


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    """No test leaves variables to the next: Dask's cluster would leave OMP_NUM_THREADS, and with it
    other last digits.
    """
    with mock.patch.dict(os.environ):
        yield


def made_once(
    name: str, make: Callable[[Path], None], folders: pytest.TempPathFactory, worker_id: str
) -> Clone:
    """The clone that the first of the processes that test makes."""
    folder = folders.getbasetemp()
    if worker_id != "master":
        folder = folder.parent  # that all processes share
    done = folder / f"{name}.done"
    with FileLock(folder / f"{name}.lock"):
        if not done.exists():
            shutil.rmtree(folder / name, ignore_errors=True)  # of a process that failed
            make(folder / name)
            done.touch()
    return Clone(folder / name)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Clone:
    """A clone after `dvc repro`, its results committed. Copy it before changing it."""

    def make(path: Path) -> None:
        clone = Clone.new(path)
        clone.change(TINY)
        params = clone.params()
        # Most of the time of a stage is its start and DVC's: two streams are enough.
        del params["runs"]["ntu60-xsub-motion"]
        params["ensembles"]["ntu60-xsub-3s"]["motion"] = None
        clone.write(params)
        # Of other parameters: DVC would read and write it at every stage.
        (clone.path / "dvc.lock").unlink()
        clone.dvc("repro")
        clone.git("add", "-A")
        clone.git("commit", "-qm", "Results")

    return made_once("finished", make, tmp_path_factory, worker_id)


@pytest.fixture(scope="session")
def one_run(finished: Clone, tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Clone:
    """The finished clone with one run, of which most commands take seconds less. Copy it, too."""

    def make(path: Path) -> None:
        clone = finished.copy(path)
        clone.keep_run("ntu60-xsub")
        assert clone.ran("repro") == {"check", "report"}
        clone.git("commit", "-qam", "One run")

    return made_once("one_run", make, tmp_path_factory, worker_id)


@pytest.fixture(scope="module")
def clone(finished: Clone, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A copy of the finished clone for one module's tests."""
    return finished.copy(tmp_path_factory.mktemp("copy") / "clone")


@pytest.fixture(scope="module")
def small(one_run: Clone, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A copy of the clone with one run for one module's tests."""
    return one_run.copy(tmp_path_factory.mktemp("small") / "clone")

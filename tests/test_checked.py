"""A group of arrays that lost a file, a part or a byte is refused in one line."""

import re
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from test_old_artifacts import DATASET, GOLDEN, RUN, write

from errors import UserError
from experiment import artifacts
from machine.host import checked
from skeletons.clips import store

READ: dict[Path, Callable[[], Any]] = {
    artifacts.store(DATASET): lambda: store.read(artifacts.store(DATASET)),
    artifacts.features(RUN): lambda: (
        artifacts.classes(RUN),
        [artifacts.read_features(RUN, side) for side in ("train", "test")],
    ),
    artifacts.classifier(RUN): lambda: artifacts.read_classifier(RUN),
    artifacts.scores(RUN): lambda: artifacts.read_scores(RUN),
}
# Groups in a group say nothing that is read.
UNREAD = {"splits/zarr.json", "train/zarr.json", "test/zarr.json"}


def lose(file: Path) -> None:
    file.unlink()


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def change(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write()
    return folder


@pytest.fixture
def _artifacts(written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(written / "data", tmp_path / "data")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def _old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Artifacts without checksums."""
    with tarfile.open(GOLDEN) as golden:
        golden.extractall(tmp_path)
    monkeypatch.chdir(tmp_path)


def refusal(path: Path) -> str:
    """What is said of the file of a group that is read, which comes first."""
    with pytest.raises(UserError) as refused:
        READ[path]()
    found = re.fullmatch(rf"{path}/(.*): dvc checkout {path} --force", str(refused.value))
    assert found
    return found[1]


@pytest.mark.usefixtures("_artifacts")
@pytest.mark.parametrize("damage", [lose, cut, change])
@pytest.mark.parametrize("path", READ, ids=str)
def test_a_file_that_is_lost_cut_or_changed_is_named(
    path: Path, damage: Callable[[Path], None], tmp_path: Path
) -> None:
    shutil.copytree(path, tmp_path / "whole")
    files = {file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()}
    assert any("/c/" in name for name in files)
    for name in files - UNREAD:
        damage(path / name)
        assert refusal(path) == f"{name} is {'not there' if damage == lose else 'damaged'}"
        shutil.copyfile(tmp_path / "whole" / name, path / name)
    READ[path]()


@pytest.mark.usefixtures("_artifacts")
def test_a_chunk_that_was_not_written_is_seen() -> None:
    """zarr writes no chunk of zeros, as the setups of this format are."""
    path = artifacts.store(DATASET)
    chunk = Path("setup", "c", "0")
    assert not (path / chunk).exists()
    chunk.parent.mkdir(exist_ok=True, parents=True)
    (path / chunk).parent.mkdir()
    shutil.copyfile(path / "label" / "c" / "0", path / chunk)
    assert refusal(path) == f"{chunk} is damaged"


@pytest.mark.usefixtures("_artifacts")
def test_some_rows_are_read_without_the_files_of_others() -> None:
    frames = np.arange(50, dtype=np.float32).reshape(10, 5)
    with zarr.config.set({"array.write_empty_chunks": True}):
        zarr.create_group("rows").create_array("frames", data=frames, chunks=(2, 3))
    checked.seal(Path("rows"))
    for number in (1, 4):
        lose(Path("rows", "frames", "c", str(number), "1"))
    group = checked.Group("rows")
    np.testing.assert_array_equal(group.read("frames", slice(4, 7)), frames[4:7])
    np.testing.assert_array_equal(group.read("frames", slice(0)), frames[:0])
    for rows in (slice(3, 4), slice(8, 99), slice(None)):
        with pytest.raises(UserError, match=r"rows/frames/c/[14]/1 is not there"):
            group.read("frames", rows)


@pytest.mark.usefixtures("_old")
@pytest.mark.parametrize(
    ("path", "name", "damage", "said"),
    [
        (artifacts.store(DATASET), "frames/c/0/0/0/0", lose, "frames/c/0/0/0/0 is not there"),
        (artifacts.store(DATASET), "frames/c/0/0/0/0", cut, r"frames is damaged \(\w+\)"),
        (artifacts.store(DATASET), "label/zarr.json", lose, "label/zarr.json is not there"),
        (artifacts.store(DATASET), "zarr.json", cut, "zarr.json is damaged"),
        (artifacts.features(RUN), "test/features/c/0/0", lose, "test/features/c/0/0 is not there"),
        (artifacts.features(RUN), "train/clip/c/0", cut, r"train/clip is damaged \(\w+\)"),
        (artifacts.scores(RUN), "scores/zarr.json", cut, r"scores is damaged \(\w+\)"),
    ],
)
def test_without_checksums_what_cannot_be_read_is_named(
    path: Path, name: str, damage: Callable[[Path], None], said: str
) -> None:
    damage(path / name)
    assert re.fullmatch(said, refusal(path))


@pytest.mark.usefixtures("_old")
def test_without_checksums_another_shape_is_named() -> None:
    path = artifacts.features(RUN)
    described = path / "train" / "features" / "zarr.json"
    text = described.read_text()
    assert re.search(r'"shape": \[\s+2,', text)
    described.write_text(re.sub(r'("shape": \[\s+)2,', r"\g<1>5000,", text, count=1))
    assert re.fullmatch(r"train/features.* is (not there|damaged).*", refusal(path))

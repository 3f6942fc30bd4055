"""Files that are there whole or not at all."""

from pathlib import Path

import pytest

from machine.host import atomic


def test_a_file_is_replaced_and_a_hard_link_to_the_old_one_left_alone(tmp_path: Path) -> None:
    cached, path = tmp_path / "cached", tmp_path / "folder/run.pt"
    cached.write_bytes(b"old")
    path.parent.mkdir()
    path.hardlink_to(cached)
    atomic.write(path, b"new")
    assert (path.read_bytes(), cached.read_bytes()) == (b"new", b"old")
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_writer_that_fails_leaves_what_was_there(
    error: type[BaseException], tmp_path: Path
) -> None:
    path = tmp_path / "run.pt"
    path.write_bytes(b"old")

    def write() -> None:
        with atomic.file(path) as beside:
            beside.write_bytes(b"half")
            raise error

    with pytest.raises(error):
        write()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_unfinished_file_matches_no_pattern_of_finished_ones(tmp_path: Path) -> None:
    with atomic.file(tmp_path / "run.pt") as beside:
        beside.touch()
        assert not list(tmp_path.glob("*.pt"))

"""Write files and folders whole or not at all, at whatever moment a run is killed.

There is one writer of each at a time, so the names of unfinished ones are fixed: the next run
overwrites them.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def file(path: Path) -> Iterator[Path]:
    """Yield the path of a new file beside `path` that the caller writes; rename it to `path` at the
    end, or remove it if the caller fails. The folders above are made.

    What was at `path` is not written to: it may be a hard link to a cache's.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}-unfinished")
    try:
        yield beside
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def write(path: Path, data: bytes | memoryview) -> None:
    """Write a file, and the folders above it, by a rename."""
    with file(path) as beside:
        beside.write_bytes(data)


def place(folder: Path, output: Path) -> None:
    """Move a finished folder to `output`, by a rename, instead of what is there; through a copy
    beside it if it is on another file system.

    Raises OSError, and leaves `folder` as it is, when the disk is full.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    new, old = (output.with_name(f".{output.name}.{state}") for state in ("new", "old"))
    for left in (new, old):  # by a run that was killed here
        shutil.rmtree(left, ignore_errors=True)
    finished = folder
    if folder.stat().st_dev != output.parent.stat().st_dev:
        try:
            finished = shutil.copytree(folder, new)
        except BaseException:
            shutil.rmtree(new, ignore_errors=True)
            raise
    if output.exists():
        os.rename(output, old)
    os.rename(finished, output)
    shutil.rmtree(old, ignore_errors=True)


def reason(error: OSError, default: Path) -> str:
    """The file that an error of the system names, else `default`, and what was wrong with it."""
    if isinstance(error, shutil.Error):  # of copying, with a list of all that went wrong
        return str(error.args[0][0][2])
    return f"{error.filename or default}: {error.strerror or error}"

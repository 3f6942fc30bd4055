"""Paths that go on inside a zip file: `mine.zip/inner/folder`."""

from pathlib import Path, PurePath, PurePosixPath


def split(path: PurePath | str) -> tuple[Path, PurePosixPath]:
    """The zip file of a path and the folder inside it: `mine.zip` and `inner/folder`.

    A path without a part that ends in `.zip`, in either case, is returned whole with `.` inside.
    A folder on the disk is no zip file, whatever its name.
    """
    path = Path(path)
    for part in (*reversed(path.parents), path):
        if part.suffix.lower() == ".zip" and not part.is_dir():
            return part, PurePosixPath(path.relative_to(part).as_posix())
    return path, PurePosixPath()

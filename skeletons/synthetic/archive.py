"""Archives of synthetic recordings, written."""

import zipfile
from contextlib import ExitStack
from pathlib import Path

from skeletons.archives import archive


class Archive:
    """An archive that is being written, named as in a dataset's description: a zip, a zip and a
    folder inside it, or a folder. `inner` is the folder inside the zip where its name states none
    (None: the zip's own name). The `stack` closes it."""

    def __init__(self, folder: Path, name: str, inner: str | None, stack: ExitStack) -> None:
        file, below = archive.split_path(name)
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        self._zip = None
        if path.suffix.lower() == ".zip":
            self._zip = stack.enter_context(zipfile.ZipFile(path, "w"))
            self._inner = str(below) if below.name else inner or path.stem
            self.add("", b"")
        else:
            self._folder = path
            path.mkdir(exist_ok=True)

    def add(self, name: str, data: bytes) -> None:
        """Write a file."""
        if self._zip is None:
            (self._folder / name).write_bytes(data)
            return
        # A fixed date, system and mode: the same bytes wherever and whenever it is written.
        info = zipfile.ZipInfo(f"{self._inner}/{name}", date_time=(2016, 1, 1, 0, 0, 0))
        info.create_system = 3
        info.external_attr = 0o644 << 16
        self._zip.writestr(info, data, zipfile.ZIP_DEFLATED, compresslevel=1)

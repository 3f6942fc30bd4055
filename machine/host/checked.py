"""Groups of arrays on disk, zarr's, of which a read sees what was lost, cut or changed.

zarr takes a lost chunk for zeros and a byte that changed in one for another number. So a group's
attribute `checksums` has the CRC-32 of each of its files, by name; for its own `zarr.json`, of all
that this says besides. Groups written before there were checksums are read where no chunk is lost.
"""

import json
from itertools import product
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import zarr
from isal import isal_zlib
from numpy.typing import NDArray

from errors import UserError

_CHECKSUMS, _OWN = "checksums", "zarr.json"
_BLOCK = 1 << 18  # bytes that are read at a time: they stay in the processor's cache


def seal(folder: Path) -> None:
    """Add the checksums to a group of which everything else is written."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    found = {path.relative_to(folder).as_posix(): _checksum(path) for path in files}
    del found[_OWN]
    own = json.loads((folder / _OWN).read_bytes())
    own["attributes"][_CHECKSUMS] = found
    found[_OWN] = _checksum_of(own)
    zarr.open_group(folder, mode="r+").attrs[_CHECKSUMS] = found


class Group:
    """A group to read: its `attributes`, and its arrays by name.

    Raises UserError, here and when it is read, for a file that is not as it was written.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        try:
            found = json.loads((self.path / _OWN).read_bytes())
            self.attributes: dict[str, Any] = found["attributes"]
            self._checksums: dict[str, int] | None = self.attributes.get(_CHECKSUMS)
            sound = self._checksums is None or self._checksums.pop(_OWN) == _checksum_of(found)
        except FileNotFoundError:
            raise self._error(_OWN, "is not there") from None
        except (ValueError, TypeError, KeyError, AttributeError):
            sound = False
        if not sound:
            raise self._error(_OWN, "is damaged")

    def read(self, name: str, rows: slice = slice(None)) -> NDArray[Any]:
        """An array, or consecutive rows of it, for which no other files are read."""
        self._check(f"{name}/zarr.json", due=True)
        try:
            array: Any = zarr.open_array(self.path / name, mode="r")
            start, stop, _ = rows.indices(array.shape[0])
            of = array.shards or array.chunks
            places = [range(-(-length // n)) for length, n in zip(array.shape, of, strict=True)]
            places[0] = range(start // of[0], -(-stop // of[0]))
            for place in product(*places):
                # zarr writes no file of a chunk that is all zero, as columns may be.
                self._check("/".join([name, "c", *map(str, place)]), due=len(place) > 1)
            return np.asarray(array[rows])
        except (UserError, OSError, MemoryError):
            raise
        except Exception as error:  # of zarr and its codecs, which are of many kinds
            raise self._error(name, f"is damaged ({type(error).__name__})") from error

    def names(self, folder: str) -> list[str]:
        """The names of the arrays in a folder of the group, sorted; none where it is not there."""
        files = self._checksums or [
            path.relative_to(self.path).as_posix() for path in self.path.glob(f"{folder}/*/*")
        ]
        found = (PurePosixPath(file) for file in files)
        return sorted(path.parts[1] for path in found if path.match(f"{folder}/*/zarr.json"))

    def _check(self, name: str, *, due: bool) -> None:
        """Raise UserError for a file that is changed or lost; without checksums, if it is `due`."""
        file, there = self.path / name, (self.path / name).exists()
        if self._checksums is not None:
            due = name in self._checksums
        if due and not there:
            raise self._error(name, "is not there")
        if there and self._checksums is not None and self._checksums.get(name) != _checksum(file):
            raise self._error(name, "is damaged")

    def _error(self, name: str, fault: str) -> UserError:
        return UserError(f"{self.path / name} {fault}: dvc checkout {self.path} --force")


def _checksum(path: Path) -> int:
    found, block = 0, memoryview(bytearray(_BLOCK))
    with path.open("rb", buffering=0) as file:
        while read := file.readinto(block):
            found = isal_zlib.crc32(block[:read], found)
    return found


def _checksum_of(value: Any) -> int:
    return isal_zlib.crc32(json.dumps(value, sort_keys=True).encode())

"""Arrays of many clips, read where they lie: an .npy file, or a stored member of an .npz.

Only the header of an array is read here. A clip of it is a `Member` of its bytes' place, which
`archive.read` reads when it is due, so that memory does not grow with the array.
"""

import io
import math
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from skeletons.archives import archive
from skeletons.archives.archive import ArchiveError, Member
from skeletons.archives.recordings import OTHER_SENSOR, BrokenClip
from skeletons.clips.layout import Layout

_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
    (3, 0): np.lib.format.read_array_header_2_0,  # differs in names of fields alone
}
_LONGEST = 12 + 10_000  # bytes of a header, of which NumPy reads no longer ones
_CHUNK = 1 << 20  # bytes read at a time for a checksum
_MOST = 10**9  # along an axis


class Array(NamedTuple):
    """An array in a file: its `name` for messages, where its first byte is, and what it holds."""

    file: str
    name: str
    stamp: int
    start: int
    dtype: np.dtype
    shape: tuple[int, ...]

    def __len__(self) -> int:
        return self.shape[0]

    def values(self) -> NDArray:
        """The whole array, mapped from the file."""
        if not math.prod(self.shape):  # of which nothing can be mapped
            return np.empty(self.shape, self.dtype)
        return np.memmap(self.file, self.dtype, "r", self.start, self.shape)

    def clip(self, index: int, name: str) -> Member:
        """The place of one clip, along the first axis."""
        size = math.prod(self.shape[1:]) * self.dtype.itemsize
        return Member(
            self.file,
            name,
            size,
            self.stamp,
            self.start + index * size,
            array=(self.dtype.str, self.shape[1:]),
        )


def open_npy(path: Path) -> Array:
    """The array of an .npy file. Raises ArchiveError when it is none, or cut short."""
    try:
        status = path.stat()
        with path.open("rb") as file:
            return _array(file, str(path), path, status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise ArchiveError(f"{path}: {error.strerror}") from None


def open_npz(path: Path) -> dict[str, Array]:
    """The arrays of an .npz file, by name. Raises ArchiveError when it is none, damaged, or packed,
    as by `np.savez_compressed`: what is packed has no place of its own in the file.
    """
    found = {}
    for member in archive.members(path, ".npy"):
        if member.fault or member.deflated:
            raise ArchiveError(
                f"{member.place}: {member.fault or 'compressed'}; load the arrays and write them "
                "again by np.savez, which does not"
            )
        with path.open("rb") as file:
            try:
                archive.enter(file, member)
            except ArchiveError as error:
                raise ArchiveError(f"{member.place}: {error}") from None
            start, crc = file.tell(), 0
            found[member.stem] = _array(file, member.place, path, start + member.size, member.stamp)
            file.seek(start)
            for left in range(member.size, 0, -_CHUNK):
                crc = isal_zlib.crc32(file.read(min(left, _CHUNK)), crc)
            if crc != member.stamp:
                raise ArchiveError(f"{member.place}: {archive.DAMAGED}")
    return found


def held(data: bytes, file: str, name: str, dtype: np.dtype, shape: tuple[int, ...]) -> Member:
    """A clip whose bytes are in memory, as an array's in a file is given by `Array.clip`."""
    crc = isal_zlib.crc32(data)
    return Member(file, name, len(data), crc, array=(dtype.str, shape), held=data)


def numbers(data: bytes, member: Member) -> NDArray[np.float64]:
    """The numbers of a clip, in the shape of `Member.array`, from its bytes.

    Raises BrokenClip when they are not that many, or not all are finite.
    """
    if member.array is None:
        raise BrokenClip("not the place of a clip in an array")
    dtype, shape = np.dtype(member.array[0]), member.array[1]
    due = math.prod(shape) * dtype.itemsize
    if len(data) != due:
        raise BrokenClip(f"{len(data):,} bytes where {due:,} are due; get the archive again")
    with np.errstate(invalid="ignore"):  # of a signalling NaN
        values = np.frombuffer(data, dtype).reshape(shape).astype(np.float64)
    if not np.isfinite(values).all():
        raise BrokenClip("a coordinate is NaN or infinite")
    return values


def check_joints(member: Member, joints: int, layout: Layout) -> None:
    """Raise ArchiveError unless the clips of an array have the joints of the layout."""
    if joints != layout.joints:
        raise ArchiveError(
            f"{member.archive}: {joints} joints, where layout {layout.name} has {layout.joints}; "
            f"{OTHER_SENSOR}"
        )


def header(data: bytes) -> tuple[tuple[int, ...], bool, np.dtype, int]:
    """The shape, whether in Fortran's order, the type and the first byte of the array of an npy
    file, whose first bytes or all are `data`, as `numpy.lib.format` reads them.

    Raises BrokenClip for what is no such header.
    """
    if not data.startswith(np.lib.format.MAGIC_PREFIX):
        raise BrokenClip("not an npy file, which numpy.save writes")
    start = 10 if data[6:7] == b"\1" else 12  # after the header's length
    return _parse(data[: start + int.from_bytes(data[8:start], "little")])


@lru_cache(1 << 12)  # many clips of a dataset have the same
def _parse(data: bytes) -> tuple[tuple[int, ...], bool, np.dtype, int]:
    """As `header`, of no other bytes than a header's."""
    file = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(file)
        shape, fortran, dtype = _HEADERS[version](file)
    except Exception as error:  # a damaged header is an expression that may be anything
        reason = " ".join(str(error).split())
        raise BrokenClip(f"its npy header cannot be read ({reason})") from None
    if not all(0 <= length < _MOST for length in shape):
        raise BrokenClip(f"its npy header has the shape {shape}")
    return tuple(map(int, shape)), fortran, dtype, file.tell()


def _array(file: BinaryIO, name: str, path: Path, end: int, stamp: int) -> Array:
    """The array that begins here in an open file, and must end before byte `end`."""
    start = file.tell()
    try:
        shape, fortran, dtype, length = header(file.read(_LONGEST))
    except BrokenClip as error:
        raise ArchiveError(f"{name}: {error.reason}") from None
    if fortran and len(shape) > 1:
        raise ArchiveError(f"{name}: in Fortran's order; write np.ascontiguousarray of it again")
    start += length
    due, there = math.prod(shape) * dtype.itemsize, end - start
    if there < due:
        raise ArchiveError(
            f"{name}: cut short: {there:,} bytes where an array of shape {shape} has {due:,}; get "
            "it again"
        )
    return Array(str(path), name, stamp, start, dtype, shape)

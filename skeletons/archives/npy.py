"""Arrays of many clips, read where they lie: an .npy file, or a stored member of an .npz.

Only the header of an array is read here. A clip of it is a `Member` of its bytes' place, which
`archive.read` reads when it is due, so that memory does not grow with the array.
"""

import math
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from skeletons.archives import archive
from skeletons.archives.archive import ArchiveError, Member
from skeletons.archives.recordings import BrokenClip
from skeletons.clips.layout import Layout

_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


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
            return _header(file, str(path), path, status.st_size, status.st_mtime_ns)
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
            end = file.tell() + member.size
            found[member.stem] = _header(file, member.place, path, end, member.stamp)
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
    values = np.frombuffer(data, dtype).reshape(shape).astype(np.float64)
    if not np.isfinite(values).all():
        raise BrokenClip("a coordinate is NaN or infinite")
    return values


def check_joints(member: Member, joints: int, layout: Layout) -> None:
    """Raise ArchiveError unless the clips of an array have the joints of the layout."""
    if joints != layout.joints:
        raise ArchiveError(
            f"{member.archive}: {joints} joints, where layout {layout.name} has {layout.joints}; "
            "is it the right archive?"
        )


def _header(file: BinaryIO, name: str, path: Path, end: int, stamp: int) -> Array:
    """The array that begins here in an open file, and must end before byte `end`."""
    try:
        version = np.lib.format.read_magic(file)
        if version not in _HEADERS:
            raise ArchiveError(f"{name}: an .npy of version {version}; write it by np.save")
        shape, fortran, dtype = _HEADERS[version](file)
    except ValueError as error:
        if isinstance(error, ArchiveError):
            raise
        reason = " ".join(str(error).split())
        raise ArchiveError(f"{name}: not an array of NumPy ({reason})") from None
    if fortran and len(shape) > 1:
        raise ArchiveError(f"{name}: in Fortran's order; write np.ascontiguousarray of it again")
    start = file.tell()
    due, there = math.prod(shape) * dtype.itemsize, end - start
    if there < due:
        raise ArchiveError(
            f"{name}: cut short: {there:,} bytes where an array of shape {shape} has {due:,}; get "
            "it again"
        )
    return Array(str(path), name, stamp, start, dtype, shape)

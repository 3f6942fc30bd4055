"""Archives of raw files, read in place: a zip file or a folder, never unpacked."""

import os
import struct
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from isal import isal_zlib

LARGEST = 64 << 20  # bytes of a member: hours of frames, yet small beside a machine's memory
_LOCAL_HEADER = struct.Struct(
    "<4s22xHH"
)  # signature, ..., lengths of the name and of the extra field
_STORED, _DEFLATED = 0, 8
_ENCRYPTED = 0x1


class ArchiveError(ValueError):
    """An archive that cannot be read, or a damaged member of it; the message says which and what to
    do.
    """


class Member(NamedTuple):
    """A file of an archive, `name` being its path inside. `start` and `packed` place it in a zip;
    None in a folder.

    `stamp` tells two versions of the file apart: its CRC-32 in a zip, its time of change (ns) in a
    folder.
    """

    archive: str
    name: str
    size: int
    stamp: int
    start: int | None = None
    packed: int = 0
    deflated: bool = False
    fault: str = ""

    @property
    def place(self) -> str:
        """The member's name for messages: archive and path inside."""
        return f"{self.archive}/{self.name}"

    @property
    def stem(self) -> str:
        """The member's file name without its suffix."""
        return PurePosixPath(self.name).stem


def members(source: Path, suffix: str) -> list[Member]:
    """The files of an archive whose names end in `suffix`, sorted by name.

    `source` is a zip file, a folder, or a path that goes on inside a zip (`mine.zip/inner/folder`),
    which restricts it to the files below. Hidden files and macOS's `__MACOSX` copies are not
    listed.

    Raises ArchiveError when there is no such archive, it is damaged, not a zip, or names a path
    outside itself.
    """
    path, inside = source, PurePosixPath()
    while not path.exists() and path != path.parent:
        path, inside = path.parent, PurePosixPath(path.name) / inside
    if path.is_dir() and inside == PurePosixPath():
        found = _folder(path, suffix)
    elif path.is_file():
        found = _zip(path, suffix)
    else:
        raise ArchiveError(f"{source}: no such archive or folder")
    if inside != PurePosixPath():
        found = [member for member in found if inside in PurePosixPath(member.name).parents]
    if not found:
        raise ArchiveError(f"{source}: holds no *{suffix} file; is it the right archive?")
    return sorted(found, key=lambda member: member.name)


def read(member: Member, root: Path = Path()) -> bytes:
    """The bytes of a member; `root` is the folder that its archive's relative path starts from.

    Raises ArchiveError when it is damaged, encrypted or larger than `LARGEST`.
    """
    if member.fault:
        raise ArchiveError(member.fault)
    if member.size > LARGEST:
        raise ArchiveError(
            f"holds {member.size / 1e6:,.0f} MB where {LARGEST / 1e6:,.0f} MB is the most; "
            "cut the recording into shorter ones"
        )
    if member.start is None:
        return (root / member.archive / member.name).read_bytes()
    with open(root / member.archive, "rb", buffering=0) as source:
        if member.start < 0 or member.start + member.packed > os.fstat(source.fileno()).st_size:
            raise ArchiveError("damaged in the archive (outside of it); get the archive again")
        source.seek(member.start)
        header = source.read(_LOCAL_HEADER.size)
        if len(header) < _LOCAL_HEADER.size or not header.startswith(b"PK\3\4"):
            raise ArchiveError("damaged in the archive (no header); get the archive again")
        _, name, extra = _LOCAL_HEADER.unpack(header)
        source.seek(name + extra, os.SEEK_CUR)
        data = source.read(member.packed)
    if member.deflated:
        inflate = isal_zlib.decompressobj(-isal_zlib.MAX_WBITS).decompress
        try:
            data = inflate(data, member.size + 1)  # no more, whatever it says of itself
        except isal_zlib.error as error:  # type: ignore[misc] # its stub says that it is no class
            raise ArchiveError(f"damaged in the archive ({error}); get the archive again") from None
    if len(data) != member.size or isal_zlib.crc32(data) != member.stamp:
        raise ArchiveError("damaged in the archive (wrong checksum); get the archive again")
    return data


def texts(sources: Sequence[Path], suffix: str) -> list[tuple[Member, str]]:
    """The small text files of several archives, with their contents."""
    found = []
    for member in (member for source in sources for member in members(source, suffix)):
        try:
            found.append((member, read(member).decode("utf-8-sig")))
        except (ArchiveError, UnicodeDecodeError) as error:
            raise ArchiveError(f"{member.place}: {error}") from None
    return found


def _folder(path: Path, suffix: str) -> list[Member]:
    found = []
    for folder, _, names in os.walk(path):
        for name in names:
            file = Path(folder, name)
            inside = file.relative_to(path).as_posix()
            if _listed(inside, suffix):
                status = file.stat()
                found.append(Member(str(path), inside, status.st_size, status.st_mtime_ns))
    return found


def _zip(path: Path, suffix: str) -> list[Member]:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError) as error:
        with path.open("rb") as file:
            if file.read(6) == b"7z\xbc\xaf\x27\x1c":
                raise ArchiveError(
                    f"{path}: a 7z archive; unpack it and give the folder, or a zip of it"
                ) from None
        raise ArchiveError(f"{path}: not a whole zip archive ({error}); get it again") from None
    found = []
    for entry in entries:
        name = PurePosixPath(entry.filename)
        if ".." in name.parts or name.is_absolute():
            raise ArchiveError(f"{path}: the name {entry.filename!r} leads out of the archive")
        if entry.is_dir() or not _listed(entry.filename, suffix):
            continue
        fault = ""
        if entry.flag_bits & _ENCRYPTED:
            fault = "encrypted; make the archive without a password"
        elif entry.compress_type not in (_STORED, _DEFLATED):
            fault = f"compressed by method {entry.compress_type}; make the archive with deflate"
        found.append(
            Member(
                str(path),
                entry.filename,
                entry.file_size,
                entry.CRC,
                entry.header_offset,
                entry.compress_size,
                entry.compress_type == _DEFLATED,
                fault,
            )
        )
    return found


def _listed(name: str, suffix: str) -> bool:
    hidden = (part.startswith(".") or part == "__MACOSX" for part in name.split("/") if part != ".")
    return name.endswith(suffix) and not any(hidden)

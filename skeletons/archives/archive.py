"""Archives of raw files, read in place: a zip file or a folder, never unpacked."""

import codecs
import hashlib
import os
import re
import shutil
import struct
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePath, PurePosixPath
from typing import BinaryIO, NamedTuple

from isal import isal_zlib

from errors import UserError, printable

LARGEST = 64 << 20  # bytes of a member: hours of frames, yet small beside a machine's memory
_LOCAL_HEADER = struct.Struct(
    "<4s22xHH"
)  # signature, ..., lengths of the name and of the extra field
_LONGEST_END = 22 + (1 << 16)  # bytes of the record at the end with its comment
_STORED, _DEFLATED = 0, 8
_METHODS = {9: "Deflate64", 12: "bzip2", 14: "LZMA", 93: "Zstandard", 95: "xz", 98: "PPMd"}
_ENCRYPTED = 0x1
DAMAGED = "damaged in the archive (wrong checksum); get the archive again"

_ACCEPTED = "an archive is a zip file, or a folder, of the dataset's raw files"
# How files begin (or go on, at a place) that are taken for archives.
_PACKED = (
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (0, b"Rar!", "a RAR archive"),
    (0, b"\x1f\x8b", "a gzip file"),
    (0, b"BZh", "a bzip2 file"),
    (0, b"\xfd7zXZ\0", "an xz file"),
    (0, b"\x28\xb5\x2f\xfd", "a Zstandard file"),
    (257, b"ustar", "a tar archive"),
)
_ZIP, _PICKLE, _NPY = "a zip archive", "a pickle of Python", "an array of NumPy (.npy)"
_READ_BY = {
    _PICKLE: "; `format: pyskl` reads pyskl's, `agcn` a folder with AGCN's",
    _NPY: "; `format: agcn` and `arrays` read folders of arrays",
}
_OTHERS = (
    (0, b"PK", _ZIP),
    (0, b"\x93NUMPY", _NPY),
    (0, b"\x89HDF", "an HDF5 file"),
    (0, b"\x80", _PICKLE),
    (0, b"version https://git-lfs", "a Git LFS pointer, not the file itself"),
    (0, b"<", "a web page or XML"),
)


class ArchiveError(UserError):
    """An archive that cannot be read, or a damaged member of it; the message says which and what to
    do.
    """


class Member(NamedTuple):
    """A file of an archive, `name` being its path inside. `start` and `packed` place it in a zip;
    None in a folder.

    `stamp` tells two versions of the file apart: its CRC-32 in a zip, its time of change (ns) in a
    folder.

    Or a clip of an array of many, of which `array` is the type and the shape: then `archive` is the
    file, `name` the clip's, and the `size` bytes begin at `start` of the file, or are `held`.
    """

    archive: str
    name: str
    size: int
    stamp: int
    start: int | None = None
    packed: int = 0
    deflated: bool = False
    fault: str = ""
    array: tuple[str, tuple[int, ...]] | None = None
    held: bytes | None = None

    @property
    def place(self) -> str:
        """The member's name for messages: archive and path inside."""
        return f"{self.archive}/{self.name}"

    @property
    def stem(self) -> str:
        """The member's file name without its suffix."""
        return PurePosixPath(self.name).stem


def split_path(path: PurePath | str) -> tuple[Path, PurePosixPath]:
    """The zip file of a path and the folder inside it: `mine.zip` and `inner/folder`.

    A path without a part that ends in `.zip`, in either case, is returned whole with `.` inside.
    A folder on the disk is no zip file, whatever its name.
    """
    path = Path(path)
    for part in (*reversed(path.parents), path):
        if part.suffix.lower() == ".zip" and not part.is_dir():
            return part, PurePosixPath(path.relative_to(part).as_posix())
    return path, PurePosixPath()


def members(source: Path, suffix: str) -> list[Member]:
    """The files of an archive whose names end in `suffix`, in either case, sorted by name.

    `source` is a zip file, a folder, or a path that goes on inside a zip (`mine.zip/inner/folder`),
    which restricts it to the files below. Hidden files and macOS's `__MACOSX` copies are not
    listed.

    Raises ArchiveError when there is no such archive, it is damaged, not a zip, or names a path
    outside itself.
    """
    found = _files(source, suffix)
    if not found:
        kind = f"*{suffix} file{_instead(source)}" if suffix else "file"
        raise ArchiveError(f"{source}: holds no {kind}")
    return sorted(found, key=lambda member: member.name)


def check(source: Path, *, pickled: bool = False) -> None:
    """Raise ArchiveError unless the path is that of an archive as above, or of a pickle if
    `pickled`; no member is read.
    """
    if not pickled:
        _files(source, "")
    elif not source.is_file():
        raise ArchiveError(f"{source}: not a file, where {_PICKLE} is due")
    elif (kind := _kind(source)) != _PICKLE:
        raise ArchiveError(f"{source}: {kind}, where {_PICKLE} is due")


def check_md5(path: Path, md5: str) -> None:
    """Raise ArchiveError unless a file has this md5, in hexadecimal."""
    if path.is_dir():
        raise ArchiveError(f"archives.md5 has {path.name}, a folder: only files are checked")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "md5").hexdigest()
    if found != md5:
        raise ArchiveError(f"{path.name}: its md5 is {found}, not the stated {md5}: get it anew")


def link(origin: Path, copy: Path) -> None:
    """Hard link an archive, or a folder's files; copy where the file system cannot.

    A folder's mode is not copied: what is read-only there can be removed here.
    """
    if origin.is_dir():
        copy.mkdir(parents=True, exist_ok=True)
        for entry in origin.iterdir():
            link(entry, copy / entry.name)
        return
    copy.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(origin.resolve(), copy)
    except OSError:
        shutil.copyfile(origin, copy)


def read(member: Member, root: Path = Path()) -> bytes:
    """The bytes of a member; `root` is the folder that its archive's relative path starts from.

    Raises ArchiveError when it is damaged, encrypted or larger than `LARGEST`.
    """
    if member.fault:
        raise ArchiveError(member.fault)
    if member.held is not None:
        return member.held
    if member.size > LARGEST:
        raise ArchiveError(
            f"holds {member.size / 1e6:,.0f} MB where {LARGEST / 1e6:,.0f} MB is the most; "
            "cut the recording into shorter ones"
        )
    if member.start is None:
        return (root / member.archive / member.name).read_bytes()
    with open(os.path.join(root, member.archive), "rb", buffering=0) as source:
        if member.array is not None:
            source.seek(member.start)
            return source.read(member.size)
        enter(source, member)
        data = source.read(member.packed)
    if member.deflated:
        inflate = isal_zlib.decompressobj(-isal_zlib.MAX_WBITS).decompress
        try:
            data = inflate(data, member.size + 1)  # no more, whatever it would inflate to
        except isal_zlib.error as error:  # type: ignore[misc] # its stub says that it is no class
            raise ArchiveError(f"damaged in the archive ({error}); get the archive again") from None
    if len(data) != member.size or isal_zlib.crc32(data) != member.stamp:
        raise ArchiveError(DAMAGED)
    return data


def enter(source: BinaryIO, member: Member) -> None:
    """Go to the first byte of a member's data, packed or not, in its open zip file.

    Raises ArchiveError when the file does not have it there.
    """
    assert member.start is not None
    if member.start < 0 or member.start + member.packed > os.fstat(source.fileno()).st_size:
        raise ArchiveError("damaged in the archive (outside of it); get the archive again")
    source.seek(member.start)
    header = source.read(_LOCAL_HEADER.size)
    if len(header) < _LOCAL_HEADER.size or not header.startswith(b"PK\3\4"):
        raise ArchiveError("damaged in the archive (no header); get the archive again")
    _, name, extra = _LOCAL_HEADER.unpack(header)
    source.seek(name + extra, os.SEEK_CUR)


def texts(sources: Sequence[Path], suffix: str) -> list[tuple[Member, str]]:
    """The small text files of several archives, with their contents."""
    found = (member for source in sources for member in members(source, suffix))
    return [(member, text(member)) for member in found]


def text(member: Member) -> str:
    """The contents of a small text file in UTF-8; ArchiveError when it cannot be read."""
    try:
        return _decode(read(member))
    except ArchiveError as error:
        raise ArchiveError(f"{member.place}: {error}") from None


def text_of(path: Path) -> str:
    """As `text`, of a file in no archive."""
    try:
        return _decode(path.read_bytes())
    except OSError as error:
        raise ArchiveError(f"{path}: {error.strerror}") from None
    except ArchiveError as error:
        raise ArchiveError(f"{path}: {error}") from None


def _decode(data: bytes) -> str:
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in data:
        raise ArchiveError("in UTF-16, or no text; save it as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ArchiveError(f"line {line} is not UTF-8; save it as UTF-8") from None


def _files(source: Path, suffix: str) -> list[Member]:
    """As `members`, in any order, and possibly none."""
    if source.is_dir():
        return _folder(source, suffix)
    path, inside = split_path(source)
    if not path.is_file():
        raise ArchiveError(f"{source}: no such archive or folder")
    found = _zip(path, suffix)
    if inside == PurePosixPath():
        return found
    return [member for member in found if inside in PurePosixPath(member.name).parents]


def _instead(source: Path) -> str:
    """Say what an archive holds instead of the files that were looked for, and what to do."""
    names = sorted(member.name for member in _files(source, ""))
    zips = [name for name in names if name.lower().endswith(".zip")]
    if zips and source.is_dir():
        return f", but zip files: name each of them as an archive, as {source.name}/{zips[0]}"
    if zips:
        return f", but zip files: unpack it and name each of them as an archive, as {zips[0]}"
    kinds = sorted({PurePosixPath(name).suffix or "no suffix" for name in names})
    hint = "; formats agcn, arrays and ctrgcn read arrays" if ".npy" in kinds else ""
    return (
        f" but *{', *'.join(kinds[:3])}; is it the right archive?{hint}"
        if kinds
        else ", nor any other"
    )


def _folder(path: Path, suffix: str) -> list[Member]:
    found = []
    for folder, _, names in os.walk(path):
        for name in names:
            file = Path(folder, name)
            inside = file.relative_to(path).as_posix()
            if _listed(inside, suffix):
                status, name = file.stat(), printable(inside)
                fault = "" if name == inside else "a name with characters to be escaped; rename it"
                entry = Member(str(path), name, status.st_size, status.st_mtime_ns, fault=fault)
                found.append(entry)
    return found


def _zip(path: Path, suffix: str) -> list[Member]:
    """As `members` for a zip file, where folders' names may end in backslashes."""
    if part := _part(path):
        raise ArchiveError(f"{path}: {part}; join all of them (zip -s 0 it.zip --out whole.zip)")
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError) as error:
        raise ArchiveError(f"{path}: {_fault(path, error)}") from None
    found = []
    for entry in entries:
        name = printable(entry.filename.replace("\\", "/"))
        if ".." in name.split("/") or name.startswith("/"):
            raise ArchiveError(f"{path}: the name {entry.filename!r} leads out of the archive")
        if not name or name.endswith("/") or not _listed(name, suffix):
            continue
        fault = ""
        if entry.flag_bits & _ENCRYPTED:
            fault = "encrypted; make the archive without a password"
        elif entry.compress_type not in (_STORED, _DEFLATED):
            method = _METHODS.get(entry.compress_type, "method")
            fault = (
                f"compressed by {method} ({entry.compress_type}), which is not read; unpack the "
                "archive and pack it with deflate (zip -r)"
            )
        found.append(
            Member(
                str(path),
                name,
                entry.file_size,
                entry.CRC,
                entry.header_offset,
                entry.compress_size,
                entry.compress_type == _DEFLATED,
                fault,
            )
        )
    return found


def _fault(path: Path, error: Exception) -> str:
    """Say what a file is that cannot be read as a zip, and what to do."""
    kind = _kind(path)
    if kind == _ZIP:
        return f"not a whole zip archive ({error}); get it again"
    if kind in (packed for _, _, packed in _PACKED):
        return f"{kind}; unpack it and give the folder, or a zip of it"
    return f"{kind}; {_ACCEPTED}{_READ_BY.get(kind, '')}"


def _part(path: Path) -> str:
    """Name the part of a split zip that a file is; empty for a file that is none."""
    with path.open("rb") as file:
        start = file.read(4)
        file.seek(max(os.fstat(file.fileno()).st_size - _LONGEST_END, 0))
        _, found, end = file.read().rpartition(b"PK\5\6")
    if start == b"PK\7\x08" or re.search(r"\.(z\d\d|\d\d\d)$", path.name, re.IGNORECASE):
        return "a part of a split zip"
    last = found and end[:2] not in (b"\0\0", b"\xff\xff")  # the number of this part
    return "the last part of a split zip" if last else ""


def _kind(path: Path) -> str:
    """Name the kind of a file by its first bytes."""
    with path.open("rb") as file:
        start = file.read(512)
    for place, signature, kind in (*_PACKED, *_OTHERS):
        if start[place:].startswith(signature):
            return kind
    text = start.isascii() and start.decode().replace("\n", "").replace("\r", "").isprintable()
    return "an empty file" if not start else "a text file" if text else "not a zip archive"


def _listed(name: str, suffix: str) -> bool:
    hidden = (part.startswith(".") or part == "__MACOSX" for part in name.split("/") if part != ".")
    return name.lower().endswith(suffix) and not any(hidden)

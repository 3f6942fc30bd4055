"""Archives are read in place, and whatever is wrong with one is said in one line."""

import gzip
import os
import pickle
import struct
import zipfile
from pathlib import Path, PurePosixPath

import pytest

from skeletons.archives import archive
from skeletons.archives.archive import ArchiveError

CLIPS = {"b/S2.skeleton": b"two\r\n" * 50, "a/S1.skeleton": b"one", "a/notes.txt": b"x"}


@pytest.fixture
def make(tmp_path):
    """A function that writes a zip of files and gives its path."""

    def write(files=CLIPS, method=zipfile.ZIP_DEFLATED):
        path = tmp_path / "clips.zip"
        with zipfile.ZipFile(path, "w", method) as file:
            for name, data in files.items():
                file.writestr(name, data)
        return path

    return write


def members(path):
    return archive.members(path, ".skeleton")


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip_is_read_in_place(make, method):
    found = members(make(method=method))
    assert [(m.name, m.stem, archive.read(m)) for m in found] == [
        ("a/S1.skeleton", "S1", CLIPS["a/S1.skeleton"]),
        ("b/S2.skeleton", "S2", CLIPS["b/S2.skeleton"]),
    ]


def test_a_folder_is_read_like_a_zip_of_it(make, tmp_path):
    folder = tmp_path / "folder"
    with zipfile.ZipFile(make()) as file:
        file.extractall(folder)
    assert [(m.name, archive.read(m)) for m in members(folder)] == [
        (m.name, archive.read(m)) for m in members(make())
    ]


def test_a_path_inside_a_zip_restricts_it(make):
    assert [m.name for m in members(make() / "b")] == ["b/S2.skeleton"]
    with pytest.raises(ArchiveError, match=r"clips.zip/c: holds no \*.skeleton file"):
        members(make() / "c")


def test_a_zip_is_read_after_other_data_and_beyond_an_extra_field(make, tmp_path):
    path = tmp_path / "extra.zip"
    with zipfile.ZipFile(path, "w") as file:
        info = zipfile.ZipInfo("S1.skeleton")
        info.extra = struct.pack("<HH8s", 0x9999, 8, b"whatever")
        file.writestr(info, b"one")
    path.write_bytes(b"a self-extracting program" + path.read_bytes())
    assert archive.read(members(path)[0]) == b"one"


def test_copies_that_macos_adds_are_not_clips(make):
    files = {"S1.skeleton": b"", "__MACOSX/._S1.skeleton": b"", "__MACOSX/S1.skeleton": b""}
    assert [m.name for m in members(make(files))] == ["S1.skeleton"]


def test_folders_in_a_zip_may_end_in_backslashes(make):
    path = make({"a\\S1.skeleton": b"one", "__MACOSX\\S1.skeleton": b"", "a\\": b""})
    assert [(m.name, m.stem) for m in members(path)] == [("a/S1.skeleton", "S1")]
    assert [m.name for m in members(path / "a")] == ["a/S1.skeleton"]


def test_names_are_on_one_line_and_may_be_empty(make, tmp_path):
    name = "S1\n\x1b.skeleton"
    (member,) = archive.members(make({name: b"one", "x": b""}), ".skeleton")
    assert (member.name, archive.read(member)) == ("S1\\n\\x1b.skeleton", b"one")
    path = make({"x": b""})
    edited(edited(path, CENTRAL, 28, b"\0\0"), CENTRAL, 30, b"\1\0")  # the name is an extra field
    with pytest.raises(ArchiveError, match=r"clips.zip: holds no .*, nor any other"):
        members(path)
    for file in (name, os.fsdecode(b"S\xff.skeleton")):
        (tmp_path / "folder").mkdir(exist_ok=True)
        (tmp_path / "folder" / file).write_bytes(b"one")
    for member in members(tmp_path / "folder"):
        assert member.name.isprintable()
        with pytest.raises(ArchiveError, match="a name with characters to be escaped; rename it"):
            archive.read(member)


@pytest.mark.parametrize(
    "name", ["../S1.skeleton", "a/../../S1.skeleton", "/S1.skeleton", "..\\S1.skeleton"]
)
def test_a_name_that_leads_out_is_refused(make, name):
    with pytest.raises(ArchiveError, match=r"clips.zip: the name '.*' leads out of the archive"):
        members(make({name: b""}))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "an empty file; an archive is a zip file, or a folder, of the dataset's raw files"),
        (b"PK\3\4 some of it", "not a whole zip archive"),
        (b"7z\xbc\xaf\x27\x1c more", "a 7z archive; unpack it and give the folder"),
        (gzip.compress(b"clips", mtime=0), "a gzip file; unpack it and give the folder"),
        (bytes(257) + b"ustar" + bytes(250), "a tar archive; unpack it and give the folder"),
        (pickle.dumps([1, 2]), "a pickle of Python; an archive is a zip .* `format: pyskl` reads"),
        (b"\x93NUMPY\1\0", "an array of NumPy .*; an archive is a zip .*agcn` and `arrays` re"),
        (b"PK\7\10PK\3\4 some", "a part of a split zip; join all of them"),
        (b"more" + b"PK\5\6\2" + bytes(17), "the last part of a split zip; join all of them"),
        (b"1\r\n0\r\n", "a text file; an archive is a zip file, or a folder"),
        (b"<!DOCTYPE html>", "a web page or XML; an archive is a zip file, or a folder"),
        (b"\xff\xfe what", "not a zip archive; an archive is a zip file, or a folder"),
        (b"PK\5\6" + bytes(18), r"holds no \*.skeleton file, nor any other"),
    ],
)
def test_what_is_not_a_zip_with_clips_is_refused(tmp_path, data, message):
    path = tmp_path / "clips.zip"
    path.write_bytes(data)
    with pytest.raises(ArchiveError, match=rf"clips.zip: {message}"):
        members(path)
    if data[:4] != b"PK\5\6":
        with pytest.raises(ArchiveError, match=rf"clips.zip: {message}"):
            archive.check(path)


def test_upper_case_suffixes_are_the_same(make, tmp_path):
    files = {"S1.SKELETON": b"", "S2.Skeleton": b"", "S3.skeletons": b""}
    path = make(files).rename(tmp_path / "CLIPS.ZIP")
    assert [m.stem for m in members(path)] == ["S1", "S2"]
    with zipfile.ZipFile(path) as file:
        file.extractall(tmp_path / "folder")
    assert [m.stem for m in members(tmp_path / "folder")] == ["S1", "S2"]


@pytest.mark.parametrize(
    ("path", "file", "inside"),
    [
        ("mine.zip", "mine.zip", "."),
        ("a/mine.zip/b/c", "a/mine.zip", "b/c"),
        ("mine.ZIP/sub", "mine.ZIP", "sub"),
        ("a.zip/b.zip/c", "a.zip", "b.zip/c"),
        ("nturgb.zipped", "nturgb.zipped", "."),
        ("my.zip_files/part", "my.zip_files/part", "."),
        ("folder", "folder", "."),
    ],
)
def test_a_path_is_split_at_its_zip_file(path, file, inside):
    assert archive.split_path(path) == (Path(file), PurePosixPath(inside))


def test_a_folder_is_no_zip_file_whatever_its_name(tmp_path):
    folder = tmp_path / "my.zip" / "part"
    folder.mkdir(parents=True)
    (folder / "S1.skeleton").write_bytes(b"one")
    (tmp_path / "my.zip" / "S2.skeleton").write_bytes(b"two")
    assert [m.stem for m in members(folder)] == ["S1"]
    assert archive.split_path(folder) == (folder, PurePosixPath())


def test_zips_inside_an_archive_are_said_with_their_names(make, tmp_path):
    path = make({"part/b.zip": b"", "part/a.ZIP": b"", "readme.txt": b""})
    with pytest.raises(
        ArchiveError, match=r"clips.zip: holds .*, but zip files: unpack it and name"
    ):
        members(path)
    with zipfile.ZipFile(path) as file:
        file.extractall(tmp_path / "folder")
    with pytest.raises(ArchiveError, match=r"zip files: name each of them .*folder/part/a.ZIP$"):
        members(tmp_path / "folder")
    with pytest.raises(ArchiveError, match=r"holds no \*.skeleton file but \*.npy, \*.txt; is it"):
        members(make({"a.npy": b"", "b.txt": b""}))


def test_an_archive_is_checked_without_its_members(make, tmp_path):
    archive.check(make())
    archive.check(make() / "b")
    archive.check(tmp_path)


def test_a_truncated_zip_is_refused(make):
    path = make()
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ArchiveError, match=r"clips.zip: not a whole zip archive"):
        members(path)


def test_a_missing_archive_is_refused(tmp_path):
    with pytest.raises(ArchiveError, match=r"clips.zip: no such archive"):
        members(tmp_path / "clips.zip")


def edited(path, signature, offset, value):
    """The zip with other bytes in each record of this signature."""
    data = bytearray(path.read_bytes())
    place = data.find(signature)
    while place >= 0:
        data[place + offset : place + offset + len(value)] = value
        place = data.find(signature, place + 1)
    path.write_bytes(data)
    return path


CENTRAL, LOCAL = b"PK\1\2", b"PK\3\4"


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            (CENTRAL, 16, b"\0\0\0\0"),
            "damaged in the archive .wrong checksum.; get the archive again",
        ),
        ((CENTRAL, 24, struct.pack("<I", 10)), "damaged in the archive .wrong checksum."),
        ((CENTRAL, 20, struct.pack("<I", 3)), "damaged in the archive"),
        ((CENTRAL, 42, struct.pack("<I", 7)), "damaged in the archive .no header."),
        ((LOCAL, 0, b"PK\3\7"), "damaged in the archive .no header."),
        ((LOCAL, 26, struct.pack("<H", 60)), "damaged in the archive"),
        ((CENTRAL, 8, b"\1\0"), "encrypted; make the archive without a password"),
        ((CENTRAL, 10, b"\x0c\0"), r"compressed by bzip2 .12., .* pack it with deflate .zip -r."),
        ((CENTRAL, 10, b"\x09\0"), r"compressed by Deflate64 .9., which is not read; unpack"),
        ((CENTRAL, 20, struct.pack("<I", 3 << 30)), "damaged in the archive .outside of it."),
        ((CENTRAL, 24, struct.pack("<I", 3 << 30)), "holds 3,221 MB where 67 MB is the most"),
    ],
)
def test_a_damaged_member_is_refused(make, edit, message):
    (member,) = members(edited(make({"S1.skeleton": b"some text " * 30}), *edit))
    with pytest.raises(ArchiveError, match=message):
        archive.read(member)


def test_a_member_that_inflates_to_more_than_it_says_is_refused(make):
    path = make({"S1.skeleton": bytes(1 << 20)})
    (member,) = members(edited(path, CENTRAL, 24, struct.pack("<I", 300)))
    with pytest.raises(ArchiveError, match="damaged in the archive"):
        archive.read(member)

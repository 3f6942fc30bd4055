"""Archives are read in place, and whatever is wrong with one is said in one line."""

import struct
import zipfile

import pytest

from skeletons.reading import archive
from skeletons.reading.archive import ArchiveError

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


@pytest.mark.parametrize("name", ["../S1.skeleton", "a/../../S1.skeleton", "/S1.skeleton"])
def test_a_name_that_leads_out_is_refused(make, name):
    with pytest.raises(ArchiveError, match=r"clips.zip: the name '.*' leads out of the archive"):
        members(make({name: b""}))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a whole zip archive"),
        (b"PK\3\4 some of it", "not a whole zip archive"),
        (b"7z\xbc\xaf\x27\x1c more", "a 7z archive; unpack it and give the folder"),
        (b"PK\5\6" + bytes(18), r"holds no \*.skeleton file"),
    ],
)
def test_what_is_not_a_zip_with_clips_is_refused(tmp_path, data, message):
    path = tmp_path / "clips.zip"
    path.write_bytes(data)
    with pytest.raises(ArchiveError, match=rf"clips.zip: {message}"):
        members(path)


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
        ((CENTRAL, 10, b"\x0c\0"), "compressed by method 12; make the archive with deflate"),
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

"""The neutral form: a table of clips beside arrays of NumPy, read as it was written."""

import contextlib
import csv
import io
import re
import tracemalloc
import zipfile

import numpy as np
import pytest
import specimens
import yaml
from clone import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from layouts import KINECT_V1, KINECT_V2
from specimens import frames

from errors import UserError
from experiment.parameters import params
from skeletons import formats
from skeletons.archives import archive
from skeletons.archives.archive import ArchiveError
from skeletons.archives.npy import open_npy
from skeletons.archives.recordings import BrokenClip, Source
from skeletons.clips import protocols, store
from skeletons.formats import arrays
from skeletons.preparing.job import BrokenClips, Job
from skeletons.preparing.make_clips import Recipe
from skeletons.preparing.normalise import upright
from stages import check, raw
from stages import prepare as prepare_stage

COLUMNS = ("file", "label", "subject", "room", "session", "split")
CLIPS = {
    "anna/walk": (0, 1, "kitchen", 1, "train"),
    "anna/sit": (1, 1, "hall", 2, "test"),
    "ben_walk": (0, 2, "kitchen", 2, "train"),
    "ben_sit": (1, 2, "hall", 3, ""),
}
RNG = np.random.default_rng(0)
FRAMES = {name: RNG.normal(size=(5 + i, 20, 3)) for i, name in enumerate(CLIPS)}


def table(rows=None, columns=COLUMNS):
    """The text of a table, by default that of `CLIPS`."""
    rows = [(f"{name}.npy", *cells) for name, cells in CLIPS.items()] if rows is None else rows
    text = io.StringIO()
    csv.writer(text).writerows([columns, *rows])
    return text.getvalue()


def npy(array, **options):
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def npz(frames):
    file = io.BytesIO()
    np.savez(file, **frames)
    return file.getvalue()


def write(folder, files):
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())
    return folder


def files(text=None):
    return {"clips.csv": text or table()} | {f"{n}.npy": npy(f) for n, f in FRAMES.items()}


def prepared(folder, *sources, layout=KINECT_V1, **options):
    """What `prepare` makes of sources: its report and the clips."""
    return specimens.prepared(folder, Job(Recipe("arrays", layout, 2), sources, **options))


def folder_of_npy(path):
    return write(path / "mine", files())


def folder_of_npz(path):
    return write(path / "mine", {"clips.csv": table(), "clips.npz": npz(FRAMES)})


def folder_of_compressed_npz(path):
    write(path / "mine", {"clips.csv": table()})
    np.savez_compressed(path / "mine" / "clips.npz", **FRAMES)
    return path / "mine"


def zip_of(path, members):
    with zipfile.ZipFile(path / "mine.zip", "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return path / "mine.zip"


def zip_of_npy(path):
    return zip_of(path, {f"mine/{name}": data for name, data in files().items()})


SOURCES = (folder_of_npy, folder_of_npz, folder_of_compressed_npz, zip_of_npy)


@pytest.mark.parametrize("source", SOURCES)
def test_a_clip_is_its_array_normalised_under_the_name_of_its_file(source, tmp_path):
    report, clips = prepared(tmp_path, source(tmp_path))
    assert clips.name.tolist() == sorted(CLIPS)
    assert not report.broken
    for index, name in enumerate(clips.name.tolist()):
        assert (frames(clips, index) == upright(FRAMES[name][None], KINECT_V1)).all()
        row = tuple(clips.columns[c].tolist()[index] for c in ("room", "session", "split"))
        assert (clips.label[index], clips.subject[index], *row) == CLIPS[name]
    assert not clips.camera.any()


def test_arrays_of_any_number_type_order_and_bodies(tmp_path):
    two = RNG.normal(size=(4, 2, 25, 3)).astype(np.float32)
    kinds = {
        "a": two,
        "b": two.astype(">f8"),
        "c": np.asfortranarray(two),
        "d": two[:, 0],
        "e": two.astype(np.float16),
        "f": (10 * two).astype(np.int8),
    }
    text = table([(name, 0) for name in kinds], ("file", "label"))
    for array in kinds.values():
        bodies = arrays.parse(npy(array), joints=25, bodies=2)
        expected = array[:, None] if array.ndim == 3 else array
        assert bodies.dtype == np.float64
        assert (bodies == expected.astype(float).swapaxes(0, 1)).all()
    report, clips = prepared(
        tmp_path,
        write(tmp_path / "mine", {"clips.csv": text, "x.npz": npz(kinds)}),
        layout=KINECT_V2,
    )
    assert report.clips == 6
    assert (clips.frames[0:4] == clips.frames[8:12]).all()
    assert not clips.frames[12:16, 1].any()
    assert clips.columns == {}


# ---- What protocols can speak of -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "train", "test"),
    [
        ({"train": {"split": ["train"]}, "test": {"split": ["test"]}}, 2, 1),
        ({"train": {"split": ["train", "test"]}}, 3, 1),
        ({"train": {"room": ["hall"]}}, 2, 2),
        ({"train": {"session": [1, 3]}}, 2, 2),
        ({"train": {"session": "even"}}, 2, 2),
        ({"train": {"room": ["kitchen"], "subject": [1]}}, 1, 3),
    ],
)
def test_a_protocol_speaks_of_any_column(tmp_path, rule, train, test):
    _, clips = prepared(tmp_path, folder_of_npy(tmp_path))
    assert [len(side) for side in protocols.split(clips, rule)] == [train, test]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hall": [1]}, "field 'hall' is none of subject, camera, setup, replication, room, sess"),
        ({"session": ["one"]}, "session has whole numbers, such as 2: list some of them"),
        ({"room": [1]}, "room has words, such as 'hall': list some of them"),
        ({"room": "even"}, "room has words, such as 'hall': list some of them"),
        ({"room": "kitchen"}, "room 'kitchen' is neither a list, 'even' nor 'odd'"),
        ({"room": ["attic"]}, "leaves no training clip of 4"),
    ],
)
def test_a_rule_that_does_not_fit_its_column_is_refused(tmp_path, fields, message):
    _, clips = prepared(tmp_path, folder_of_npy(tmp_path))
    with pytest.raises(UserError, match=message):
        protocols.split(clips, {"train": fields})


# ---- Faults of a table ---------------------------------------------------------------------------

ROW = ("anna/walk.npy", 0, 1, "kitchen", 1, "train")
ROW_FAULTS = {
    "missing": (("anna/run.npy", *ROW[1:]), r"there is no array anna/run.npy beside the table"),
    "no file": (("", *ROW[1:]), "no file is named"),
    "outside": (("../walk.npy", *ROW[1:]), r"there is no array ../walk.npy beside"),
    "word": ((ROW[0], "walk", *ROW[2:]), "label is 'walk', not a whole number"),
    "fraction": ((ROW[0], "0.0", *ROW[2:]), "label is '0.0', not a whole number"),
    "negative": ((ROW[0], -1, *ROW[2:]), "label is '-1', not a whole number"),
    "huge": ((ROW[0], "9" * 50, *ROW[2:]), r"label is '9{40}', not a whole number"),
    "counted from 1": ((ROW[0], 2, *ROW[2:]), "label is 2: the dataset has 0 to 1"),
    "no label": ((ROW[0], "", *ROW[2:]), "label is '', not a whole number"),
    "subject": ((ROW[0], 0, "anna", *ROW[3:]), "subject is 'anna', not a whole number"),
    "short": (ROW[:4], "4 cells under 6 columns"),
    "long": ((*ROW, "x"), "7 cells under 6 columns"),
    "one cell": (("anna/walk.npy",), "1 cell under 6 columns"),
}


@pytest.mark.parametrize(("row", "message"), ROW_FAULTS.values(), ids=ROW_FAULTS)
def test_a_faulty_line_is_a_broken_clip(tmp_path, row, message):
    rows = [(f"{name}.npy", *cells) for name, cells in CLIPS.items()][1:]
    source = write(tmp_path / "mine", files(table([*rows, row])))
    recordings, broken = formats.plan("arrays", Source([source], 2))
    assert [recording.clips[0].name for recording in recordings] == sorted(list(CLIPS)[1:])
    (entry,) = [entry for entry in broken if entry.stops]
    assert (entry.file, entry.line) == (f"{source}/clips.csv", 5)
    assert re.match(message, entry.reason)


def test_a_file_that_two_lines_name_is_neither_s_clip(tmp_path):
    rows = [(f"{name}.npy", *cells) for name, cells in CLIPS.items()]
    source = write(tmp_path / "mine", files(table([*rows, ("ben_sit", 0, 1, "hall", 1, "train")])))
    report, clips = prepared(tmp_path, source, on_error="skip")
    assert len(clips) == 3
    assert [entry.line for entry in report.broken] == [5, 6]
    for entry in report.broken:
        assert entry.reason == "lines 5 and 6 name the same file; an array is one clip"


def test_an_array_that_no_line_names_is_left_out_and_said(tmp_path):
    source = write(tmp_path / "mine", files() | {"extra.npy": npy(FRAMES["ben_sit"])})
    report, clips = prepared(tmp_path, source)
    assert len(clips) == 4
    (entry,) = report.broken
    assert (entry.clip, entry.reason) == ("extra", f"{source}/clips.csv has no line for it")


TABLE_FAULTS = {
    "empty": ("", "no column file, but nothing; the first line names the columns, separated by"),
    "no header": ("walk.npy,0\n", "no column file, but walk.npy, 0; the first line names"),
    "no label": ("file,action\nwalk.npy,0\n", "no column label, but file, action;"),
    "semicolons": ("file;label\nwalk.npy;0\n", "no column file, but file;label;"),
    "twice": (
        "file,label,room,room\n",
        "the column 'room' is no short name .*, or stands there twice",
    ),
    "no name": ("file,label,\n", "the column '' is no short name of letters"),
    "sign": ("file,label,my room\n", "the column 'my room' is no short name of letters"),
    "latin-1": ("file,label\né.npy,0\n".encode("latin-1"), "line 2 is not UTF-8; save it"),
    "utf-16": ("file,label\na,0\n".encode("utf-16"), "in UTF-16, or no text; save it as UTF-8"),
    "utf-16, unmarked": ("file,label\na,0\n".encode("utf-16-le"), "in UTF-16, or no text; save it"),
    "line break": ('"fi\nle",label\na,0\n', r"no column file, but fi\\nle, label"),
    "very long": ("file,label," + "x" * 256, "the column 'x+' is no short name of letters"),
    "long cell": ("file,label\n" + "x" * 200_000, "line 2: field larger than field limit"),
}


@pytest.mark.parametrize(("text", "message"), TABLE_FAULTS.values(), ids=TABLE_FAULTS)
def test_a_table_that_is_none_is_refused(tmp_path, text, message):
    source = write(tmp_path / "mine", files() | {"clips.csv": text})
    with pytest.raises(ArchiveError, match=rf"mine/clips.csv(:|,) {message}") as refused:
        prepared(tmp_path, source)
    assert "\n" not in str(refused.value)


def test_folders_in_a_table_may_end_in_backslashes(tmp_path):
    source = write(tmp_path / "mine", files(table().replace("/", "\\")))
    assert prepared(tmp_path, source)[1].name.tolist() == sorted(CLIPS)


def test_a_name_with_a_line_break_is_one_line(tmp_path):
    source = write(tmp_path / "mine", files(table() + '"a\nb",0,1,hall,1,train\n'))
    with pytest.raises(BrokenClips) as error:
        prepared(tmp_path, source)
    assert str(error.value).count("\n") == 1
    assert error.value.broken[0].reason.startswith(r"there is no array a\nb.npy beside")


def test_what_a_spreadsheet_adds_to_a_table_does_no_harm(tmp_path):
    text = "\ufeff" + table().replace("\n", "\r\n").replace(",kitchen", ', "kitchen"') + ",,,,,\r\n"
    _, clips = prepared(tmp_path, write(tmp_path / "mine", files(text)))
    assert set(clips.columns["room"].tolist()) == {"kitchen", "hall"}


def test_an_archive_without_a_table_or_with_two_is_refused(tmp_path):
    source = write(tmp_path / "mine", {"a.npy": b"", "b/c.npy": b""})
    with pytest.raises(ArchiveError, match=r"mine: holds no \*clips.csv file but \*.npy"):
        prepared(tmp_path, source)
    write(source, {"clips.csv": table(), "b/clips.csv": table()})
    with pytest.raises(ArchiveError, match=r"holds b/clips.csv, clips.csv, where one clips.csv is"):
        prepared(tmp_path, source)


def test_two_archives_are_one_dataset_if_their_tables_have_the_same_columns(tmp_path):
    rows = [(f"{name}.npy", *cells) for name, cells in CLIPS.items()]
    for part, own in (("one", rows[:2]), ("two", rows[2:])):
        frames = {f"{row[0]}": npy(FRAMES[row[0][:-4]]) for row in own}
        write(tmp_path / part, {"clips.csv": table(own), **frames})
    _, clips = prepared(tmp_path, tmp_path / "one", tmp_path / "two")
    assert clips.name.tolist() == sorted(CLIPS)
    text = table([row[:3] for row in rows[2:]], COLUMNS[:3])
    write(tmp_path / "two", {"clips.csv": text})
    message = r"two/clips.csv: its columns are file, label, subject, but those of .*one/clips.csv"
    with pytest.raises(ArchiveError, match=message):
        prepared(tmp_path, tmp_path / "one", tmp_path / "two")


def test_the_same_clip_twice_is_refused(tmp_path):
    source = write(tmp_path / "mine", files() | {"all.npz": npz({"ben_sit": FRAMES["ben_sit"]})})
    with pytest.raises(ArchiveError, match=r"ben_sit.npy: .*all.npz/ben_sit.npy is ben_sit too"):
        prepared(tmp_path, source)


# ---- Faults of an array --------------------------------------------------------------------------

GOOD = FRAMES["ben_sit"]


def changed(value):
    array = GOOD.copy()
    array[2, 4, 1] = value
    return npy(array)


ARRAY_FAULTS = {
    "empty": (b"", "not an npy file, which numpy.save writes"),
    "text": (b"1,2,3\n", "not an npy file"),
    "npz": (npz({"a": GOOD}), "not an npy file"),
    "version": (npy(GOOD).replace(b"NUMPY\1", b"NUMPY\7"), "its npy header cannot be read"),
    "header": (npy(GOOD)[:40], "its npy header cannot be read"),
    "objects": (npy(np.array([GOOD, None], object), allow_pickle=True), "an array of object, not"),
    "words": (npy(GOOD.astype(str)), "an array of <U32, not of numbers"),
    "records": (npy(np.zeros(3, [("x", float)])), "an array of [('x', '<f8')], not of numbers"),
    "complex": (npy(GOOD.astype(complex)), "an array of complex128, not of numbers"),
    "number": (npy(np.float64(3)), "its shape is (), not (frames, 20, 3)"),
    "cut": (
        npy(GOOD)[:-100],
        "3,740 bytes of coordinates, where (8, 20, 3) of float64 takes 3,840; cut short?",
    ),
    "longer": (npy(GOOD) + b"\0", "3,841 bytes of coordinates, where"),
    "2D": (npy(GOOD[..., :2]), "its shape is (8, 20, 2), not (frames, 20, 3), nor (frames, 1, 20"),
    "confidence": (npy(np.pad(GOOD, [(0, 0), (0, 0), (0, 1)])), "its shape is (8, 20, 4), not"),
    "flat": (npy(GOOD.reshape(8, 60)), "its shape is (8, 60), not"),
    "joints": (
        npy(GOOD[:, :17]),
        "its shape is (8, 17, 3), not (frames, 20, 3), nor (frames, 1, 20, 3) with bodies; is it "
        "another sensor (`layout`), or in need of `archives.joints`?",
    ),
    "bodies": (npy(np.stack([GOOD, GOOD], 1)), "its shape is (8, 2, 20, 3), not"),
    "body first": (npy(GOOD[None]), "its shape is (1, 8, 20, 3), not"),
    "agcn": (npy(GOOD.transpose(2, 0, 1)[..., None]), "its shape is (3, 8, 20, 1), not"),
    "5 axes": (npy(GOOD[None, None]), "its shape is (1, 1, 8, 20, 3), not"),
    "no body": (npy(np.zeros((8, 0, 20, 3))), "its shape is (8, 0, 20, 3), not"),
    "no frame": (npy(GOOD[:0]), "0 frames, where 1 to 18000 are allowed"),
    "hours": (npy(np.zeros((18_001, 20, 3), np.int8)), "18001 frames, where 1 to 18000 are"),
    "nan": (
        changed(np.nan),
        "the coordinate nan of joint 5 in frame 3 is no length; a joint",
    ),
    "infinite": (changed(-np.inf), "the coordinate -inf of joint 5 in frame 3 is no length"),
    "millimetres": (changed(185000), "the coordinate 185000 of joint 5 in frame 3 is no length"),
}


@pytest.mark.parametrize(("data", "reason"), ARRAY_FAULTS.values(), ids=ARRAY_FAULTS)
def test_a_faulty_array_is_a_broken_clip(data, reason):
    with pytest.raises(BrokenClip) as refused:
        arrays.parse(data, joints=20, bodies=1)
    assert refused.value.reason.startswith(reason)
    assert "\n" not in refused.value.reason


HEADERS = {
    "open bracket": npy(GOOD).replace(b"3), }", b"3 , }"),
    "keys of two types": npy(GOOD).replace(b"'shape'", b"5555555"),
    "negative": npy(GOOD).replace(b"(8, 20, 3)", b"(8, -2, 3)"),
    "deep": npy(GOOD).replace(b"{'descr': '<f8', 'fortran_order'", b"{" + b"(" * 31),
    "longer than the file": npy(GOOD)[:8] + b"\xff\xff" + npy(GOOD)[10:],
    "much longer": b"\x93NUMPY\2\0\xff\xff\xff\xff" + npy(GOOD)[10:],
}


@pytest.mark.parametrize("data", HEADERS.values(), ids=HEADERS)
def test_a_damaged_header_is_said_in_a_line_wherever_it_is_read(tmp_path, data):
    with pytest.raises(BrokenClip) as error:
        arrays.parse(data, joints=20, bodies=1)
    assert re.fullmatch("its npy header (cannot be read|has the shape) .+", error.value.reason)
    (tmp_path / "a.npy").write_bytes(data)
    with pytest.raises(ArchiveError) as refused:
        open_npy(tmp_path / "a.npy")
    assert str(refused.value) == f"{tmp_path}/a.npy: {error.value.reason}"


@settings(max_examples=300, deadline=None)
@given(specimens.damaged(st.just(npy(GOOD[:1])[:160])) | specimens.damaged(st.just(npy(GOOD[:1]))))
def test_any_bytes_are_what_numpy_reads_or_the_one_error(data):
    with contextlib.suppress(BrokenClip):
        bodies = arrays.parse(data, joints=20, bodies=1)
        again = np.load(io.BytesIO(data), allow_pickle=False)
        assert (bodies == again.reshape(1, 1, 20, 3)).all()


# ---- npz -----------------------------------------------------------------------------------------


def test_an_npz_that_cannot_be_read_in_place_is_refused(tmp_path):
    source = zip_of(tmp_path, {"clips.csv": table(), "clips.npz": npz(FRAMES)})
    message = r"mine.zip/clips.npz: inside a zip; unpack the zip and name the folder"
    with pytest.raises(ArchiveError, match=message):
        prepared(tmp_path, source)
    for data in (npz(FRAMES)[:-50], b"PK"):
        source = write(tmp_path / "folder", {"clips.csv": table(), "clips.npz": data})
        with pytest.raises(ArchiveError, match=rf"{source}/clips.npz: not a whole zip archive"):
            prepared(tmp_path, source)


def test_a_damaged_array_in_an_npz_is_a_broken_clip(tmp_path):
    source = folder_of_npz(tmp_path)
    data = bytearray((source / "clips.npz").read_bytes())
    at = data.find(FRAMES["ben_sit"].tobytes())
    data[at] ^= 1
    (source / "clips.npz").write_bytes(data)
    report, clips = prepared(tmp_path, source, on_error="skip")
    assert len(clips) == 3
    (entry,) = report.broken
    assert entry.file == f"{source}/clips.npz/ben_sit.npy"
    assert entry.reason.startswith("damaged in the archive (wrong checksum)")


def test_memory_does_not_grow_with_the_npz(tmp_path):
    peaks = []
    for count in (3, 30):
        names = [f"{number:02}" for number in range(count)]
        clip = np.ones((500, 2, 25, 3))  # 600 kB
        rows = table([(name, 0) for name in names], ("file", "label"))
        source = write(
            tmp_path / names[-1],
            {"clips.csv": rows, "clips.npz": npz(dict.fromkeys(names, clip))},
        )
        tracemalloc.start()
        recordings, _ = formats.plan("arrays", Source([source], 1))
        for recording in recordings:
            arrays.parse(archive.read(recording.member), joints=25, bodies=2)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]


# ---- As docs/bring.md says -----------------------------------------------------------------------


def test_the_pages_script_and_dataset_run_through_the_stages(tmp_path, monkeypatch):
    page = (ROOT / "docs/bring.md").read_text()
    script = re.search(r"^```python\n(import csv\n.*?)^```$", page, re.DOTALL | re.MULTILINE)[1]
    described = re.search(r"^```yaml file=datasets/own.yaml\n(.*?)^```$", page, re.DOTALL | re.M)[1]
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    exec(script, {})
    p = yaml.safe_load((ROOT / "params.yaml").read_text())
    p |= {"sources": {"own": "archives"}, "runs": {}, "transfers": {}, "ensembles": {}}
    write(tmp_path, {"params.yaml": yaml.safe_dump(p), "datasets/own.yaml": described})
    for stage in (check, raw, prepare_stage):
        stage.main(*["own"] * (stage is not check))
    clips = store.read("data/own.zarr")
    assert len(clips) == 10
    rules = params.read().datasets["own"].protocols
    sides = {name: protocols.split(clips, rule.rule) for name, rule in rules.items()}
    sizes = {name: (len(train), len(test)) for name, (train, test) in sides.items()}
    assert sizes == {"xsub": (6, 4), "official": (6, 4), "rooms": (5, 5)}

"""UTKinect's text and label file: clips as labelled, each fault with its message; the real ones."""

import contextlib
import sys
import zipfile
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layouts import KINECT_V1
from real import REAL, prepared
from specimens import damaged, frames
from test_pages import blocks

from skeletons import formats
from skeletons.archives import archive
from skeletons.archives.archive import ArchiveError, Member
from skeletons.archives.recordings import LARGEST_RAW, BrokenClip, Clip, Recording, Source
from skeletons.clips import protocols
from skeletons.clips.layout import Layout
from skeletons.formats import utkinect
from skeletons.preparing.normalise import upright

JOINTS = 2
PAIR = Layout("pair", JOINTS, 1, ((1, 0),), (0, 1), 0, (0, 1), (0, 1), ())


def rows(*numbers, joints=JOINTS):
    """A recording: the frame in row t, from 1, has t in all coordinates."""
    lines = [[number, *[f"{t:.6f}"] * (3 * joints)] for t, number in enumerate(numbers, 1)]
    return "".join("  ".join(map(str, line)) + "  \n" for line in lines).encode()


@pytest.fixture
def source(tmp_path):
    """A function that writes recordings and their label file to one zip, and plans."""

    def write(labels, names=("joints_s01_e01",), classes=10):
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
            for name in names:
                file.writestr(f"joints/{name}.txt", rows(2, 4))
            file.writestr("joints/actionLabel.txt", labels)
            file.writestr("joints/actionLabel_modified.txt", "other")
        paths = [tmp_path / "a.zip"]
        return formats.plan("utkinect", Source(paths, classes, paths))

    return write


def read(data, *spans):
    clips = tuple(
        Clip(f"c{i}", 0, rows=(first, last + 1), file="actionLabel.txt", line=i)
        for i, (first, last) in enumerate(spans, 1)
    )
    recording = Recording(Member("a", "r.txt", 0, 0), clips)
    kinds = {"layout": PAIR, "classes": 10}
    return [outcome for _, outcome in formats.read("utkinect", data, recording, **kinds)]


def shown(outcome):
    """Which rows a clip has."""
    assert outcome.shape == (1, outcome.shape[1], JOINTS, 3)
    return outcome[0, :, 0, 0].tolist()


def test_clips_are_those_of_the_label_file(source):
    labels = "s01_e01\nwalk: 2 4\nclapHands:  4 4 \n\ns10_e02\r\nsitDown: 2 4\ns03_e01\npull: 2 2\n"
    recordings, broken = source(labels, ("joints_s10_e02", "joints_s01_e01"))
    assert not broken  # a block without a recording: the user has a part of the dataset
    place = recordings[0].member.place.replace("joints_s01_e01", "actionLabel")
    clips = [clip for recording in recordings for clip in recording.clips]
    assert clips == [
        Clip("s01_e01_clapHands", 9, 1, replication=1, rows=(4, 5), file=place, line=3),
        Clip("s01_e01_walk", 0, 1, replication=1, rows=(2, 5), file=place, line=2),
        Clip("s10_e02_sitDown", 1, 10, replication=2, rows=(2, 5), file=place, line=6),
    ]


def test_the_label_file_may_be_elsewhere(tmp_path):
    (tmp_path / "joints").mkdir()
    (tmp_path / "joints/joints_s01_e01.txt").write_bytes(rows(2, 4))
    (tmp_path / "labels").mkdir()
    source = Source([tmp_path / "joints"], 10, [tmp_path / "labels"])
    with pytest.raises(ArchiveError, match=r"labels: holds no \*actionlabel.txt file"):
        formats.plan("utkinect", source)
    (tmp_path / "labels/actionLabel.txt").write_text("s01_e01\nthrow: 2 4")
    (recording,), broken = formats.plan("utkinect", source)
    assert [clip.name for clip in recording.clips] == ["s01_e01_throw"]
    assert not broken


def test_the_owners_typo_is_mended_and_no_other_line(source):
    labels = "s03_e01\npush: 2556 3622\npull: 2556 3622\ns03_e02\npush: 2556 3622"
    recordings, _ = source(labels, ("joints_s03_e01", "joints_s03_e02"))
    found = {clip.name: clip.rows for recording in recordings for clip in recording.clips}
    assert found == {
        "s03_e01_push": (3556, 3623),
        "s03_e01_pull": (2556, 3623),
        "s03_e02_push": (2556, 3623),
    }


def test_an_action_without_frames_is_left_out_and_said(source):
    (recording,), (left_out,) = source("s01_e01\nwalk: 2 4\ncarry:  NaN NaN\n")
    assert [clip.name for clip in recording.clips] == ["s01_e01_walk"]
    assert (left_out.line, left_out.reason, left_out.stops) == (3, "it has no frames", False)


LABEL_FAULTS = {
    "action": ("dance: 2 4", "unknown action 'dance': there are walk, sitDown, "),
    "class": ("clapHands: 2 4", "unknown action 'clapHands': there are walk, sitDown"),
    "order": ("push: 4 2", "first 4 is after last 2"),
    "half": ("push: NaN 4", "'push: NaN 4' has one frame number; it needs both"),
    "text": ("push", "'push' is not action: first last, below a line sSS_eEE"),
    "number": ("push: 2 4.5", "is not action: first last"),
    "more": ("push: 2 4 6", "is not action: first last"),
    "twice": ("walk: 3 4", "line 3 has this clip too"),
}


@pytest.mark.parametrize(("line", "reason"), LABEL_FAULTS.values(), ids=LABEL_FAULTS)
def test_a_broken_label_is_reported_and_the_others_are_kept(source, line, reason):
    recordings, broken = source(f"\ns01_e01\nwalk: 2 4\n{line}\nthrow: 2 4\n", classes=9)
    names = [clip.name for recording in recordings for clip in recording.clips]
    assert names == ["s01_e01_throw", "s01_e01_walk"]
    ((name, file, number, found, stops),) = broken
    assert name == f"s01_e01_{line.partition(':')[0]}"
    assert (file[-15:], number, stops) == ("actionLabel.txt", 4, True)
    assert reason in found


def test_what_belongs_to_no_recording_or_has_no_clips_is_reported(source):
    recordings, broken = source("walk: 2 4\ns01_e02", ("joints_s01_e01", "joints_s1_e1", "mine"))
    assert not recordings
    assert [(entry.clip, entry.reason) for entry in broken] == [
        ("_walk", "'walk: 2 4' is not action: first last, below a line sSS_eEE"),
        ("joints_s01_e01", "no clip of it in actionLabel.txt"),
        ("joints_s1_e1", "the name is not joints_sSS_eEE"),
        ("mine", "the name is not joints_sSS_eEE"),
    ]


def test_frames_are_found_by_number_the_nearest_where_there_is_none():
    data = rows(10, 12, 12, 16, 22, 22)  # the rows 1, 2, 4 and 5 count
    assert [shown(clip) for clip in read(data, (10, 22), (12, 12), (13, 20), (14, 19))] == [
        [1, 2, 4, 5],
        [2],
        [2, 4, 5],
        [2, 4],
    ]


def test_a_clip_beyond_its_recording_is_broken_and_the_others_are_not():
    before, good, behind = read(rows(10, 12), (9, 12), (10, 12), (10, 13))
    assert shown(good) == [1, 2]
    for broken, line in ((before, 1), (behind, 3)):
        assert broken.reason == "the recording has frames 10 to 12"
        assert (broken.file, broken.line) == ("actionLabel.txt", line)


GOOD = rows(10, 12)
FAULTS = {
    "empty": (b"", 1, "0 frames"),
    "blank": (b"\n \n", 1, "0 frames"),
    "short": (GOOD + b"14 1 2\n", 3, "3 values where 7 are due"),
    "blank line": (GOOD + b"\n" + GOOD, 3, "0 values where 7 are due"),
    "cut": (GOOD[:-20], 2, "6 values where 7 are due"),
    "order": (GOOD + rows(11), 3, "'11' is not a frame number, or below the one before"),
    "negative": (rows(-4, 2), 1, "'-4' is not a frame number"),
    "no number": (rows("nan", 2), 1, "'nan' is not a frame number"),
    "text": (GOOD.replace(b"1.000000", b"one", 1), 1, "the coordinate 'one' is no length"),
    "nan": (GOOD.replace(b"2.000000", b"nan", 1), 2, "the coordinate 'nan' is no length"),
    "far": (GOOD.replace(b"2.000000", b"198000.5", 1), 2, "the coordinate '198000.5' is no length"),
}


@pytest.mark.parametrize(("data", "line", "reason"), FAULTS.values(), ids=FAULTS)
def test_a_broken_recording_breaks_its_clips_with_the_reason_and_the_line(data, line, reason):
    first, second = read(data, (10, 12), (12, 12))
    assert reason in first.reason
    assert (first.line, second.line) == (line, line)


values = st.sampled_from(
    [b"1", b"2.5", b"-7", b"nan", b"1_0", b"1e2", b"99.5", b"\xff", b"12", b""]
)
tables = st.lists(st.lists(values, min_size=6, max_size=8).map(b" ".join), max_size=4)


@settings(max_examples=300, deadline=None)
@given(tables.map(b"\n".join) | damaged(st.just(GOOD)))
def test_any_bytes_are_a_valid_recording_or_the_one_error(data):
    found = None
    with contextlib.suppress(BrokenClip):
        numbers, body = utkinect.parse(data, joints=JOINTS)
        metres = body.reshape(-1, 3 * JOINTS).tolist()
        found = dict(zip(numbers.tolist(), metres, strict=True))
    assert found == plain(data)


GAPS = bytes(32 if byte < 32 and byte != 10 else byte for byte in range(256))  # spaces for all


def plain(data):
    """The coordinates of each frame number, by checks of one value at a time; None if invalid."""
    found, last = {}, 0.0
    lines = [line.split() for line in data.translate(GAPS).split(b"\n")]
    while lines and not lines[-1]:
        lines.pop()
    for words in lines:
        if len(words) != 1 + 3 * JOINTS or b"_" in b"".join(words):
            return None
        try:
            number, *metres = map(float, words)
        except ValueError:
            return None
        if not number >= last or not all(abs(x) < LARGEST_RAW for x in metres):
            return None
        found.setdefault(number, metres)
        last = number
    return found or None


# ---- The reader of the page ----------------------------------------------------------------------


@pytest.fixture
def shown_reader(monkeypatch):
    """The name of the module that docs/formats.md shows."""
    code = dict(blocks("docs/formats.md", "python"))["file=skeletons/formats/mine.py"]
    assert code.count("\n") <= 55
    module = ModuleType("mine")
    exec(compile(code, "docs/formats.md", "exec"), vars(module))
    monkeypatch.setattr(formats, "NAMES", (*formats.NAMES, "mine"))
    monkeypatch.setitem(sys.modules, "skeletons.formats.mine", module)
    return "mine"


def every_clip(name, paths):
    """The clips of archives by a format; and what cannot be used."""
    recordings, broken = formats.plan(name, Source(paths, 10, paths))
    found = []
    for recording in recordings:
        data = archive.read(recording.member)
        found += formats.read(name, data, recording, layout=KINECT_V1, classes=10)
    return found, {(entry.file, entry.line, entry.stops) for entry in broken}


def same(module, paths):
    """Whether a module and the bundled one find the same, of all clips but the mended one."""
    (ours, kept), (theirs, left_out) = (every_clip(m, paths) for m in ("utkinect", module))
    assert left_out == kept
    assert [clip._replace(rows=None) for clip, _ in theirs] == [
        clip._replace(rows=None) for clip, _ in ours
    ]
    for (clip, one), (_, other) in zip(ours, theirs, strict=True):
        if isinstance(one, BrokenClip):
            assert (other.reason, other.line) == (one.reason, one.line)
        elif clip.name != "s03_e01_push":
            np.testing.assert_array_equal(other, one)
    return len(ours)


def test_the_reader_of_the_page_reads_what_the_bundled_one_does(shown_reader, tmp_path):
    labels = "s01_e01\nwalk: 3 5\npull: 2 5\ncarry:  NaN NaN\ndance: 2 3\n\ns02_e01\nthrow: 2 2\n"
    (tmp_path / "actionLabel.txt").write_text(labels)
    (tmp_path / "joints_s01_e01.txt").write_bytes(rows(2, 2, 5, 8, joints=20))
    (tmp_path / "joints_s02_e01.txt").write_bytes(rows(2, joints=19))
    (tmp_path / "other.txt").touch()
    assert same(shown_reader, [tmp_path]) == 3


def test_the_reader_of_the_page_reads_the_real_clips(shown_reader):
    path = REAL / "utkinect/UTKinect.zip"
    if not path.exists():
        pytest.skip(f"no {path}")
    assert same(shown_reader, [path]) == 199


# ---- The real clips ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    return prepared("utkinect", tmp_path_factory.mktemp("real"))


def test_the_real_archive_has_the_published_sizes(real):
    clips, rules = real
    assert len(clips) == 199
    assert clips.frames.shape[1:] == (1, 20, 3)
    sides = {name: protocols.split(clips, rule) for name, rule in rules.items()}
    assert [len(side) for side in sides["xsub"]] == [100, 99]
    assert sorted(np.concatenate(sides["val"])) == sides["xsub"][0].tolist()
    assert not set(clips.subject[sides["val"][0]]) & set(clips.subject[sides["val"][1]])
    # each of ten people does each of ten actions twice, but one
    done = np.stack([clips.label, clips.subject, clips.replication], axis=1)
    assert len(np.unique(done, axis=0)) == 199
    assert np.bincount(clips.label).tolist() == [20, 20, 20, 20, 19, 20, 20, 20, 20, 20]


@pytest.mark.parametrize(
    ("name", "first", "last", "label"),
    [("s03_e01_push", 3556, 3622, 6), ("s01_e02_walk", 154, 192, 0)],
)
def test_a_real_clip_is_prepared_by_the_rules_one_by_one(real, name, first, last, label):
    clips, _ = real
    with zipfile.ZipFile(REAL / "utkinect/UTKinect.zip") as file:
        table = np.loadtxt(
            file.read(f"UTKinect/joints/joints_{name[:7]}.txt").decode().splitlines()
        )
    rows = {}
    for number, *metres in table:
        rows.setdefault(number, metres)
    nearest = [min(rows, key=lambda n: (abs(n - due), n)) for due in (first, last)]
    metres = [rows[n] for n in sorted(rows) if nearest[0] <= n <= nearest[1]]
    at = clips.name.tolist().index(name)
    expected = upright(np.reshape(metres, (1, -1, 20, 3)), KINECT_V1)
    np.testing.assert_allclose(frames(clips, at), expected, rtol=0, atol=2e-5)
    assert clips.label[at] == label

"""PKU-MMD videos, label files and split lists: clips as labelled, each fault with its message."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layouts import KINECT_V2
from specimens import damaged

from skeletons import formats
from skeletons.archives.archive import ArchiveError, Member
from skeletons.archives.recordings import (
    LARGEST_RAW,
    BrokenClip,
    Clip,
    EmptyClip,
    Recording,
    Source,
)
from skeletons.clips.layout import Layout
from skeletons.formats import pku

JOINTS = 2
PAIR = Layout("pair", JOINTS, 2, ((1, 0),), (0, 1), 0, (0, 1), (0, 1), ())
VALUES = 2 * JOINTS * 3


def video(frames, first=0.0):
    """A video: frame t has t + first in all coordinates of body 1 and t in those of body 2."""
    return "".join(
        " " + " ".join([f"{t + first:.6f}"] * (VALUES // 2) + [f"{t:.6f}"] * (VALUES // 2)) + "\n"
        for t in range(frames)
    ).encode()


@pytest.fixture
def source(tmp_path):
    """A function that writes a folder of videos and one of label files."""

    def write(videos, labels):
        for folder, files in (("videos", videos), ("labels", labels)):
            (tmp_path / folder).mkdir()
            for name, content in files.items():
                data = content if isinstance(content, bytes) else content.encode()
                (tmp_path / folder / f"{name}.txt").write_bytes(data)
        return [tmp_path / "videos"], [tmp_path / "labels"]

    return write


def plan(source, **options):
    return formats.plan("pku", Source(source[0], 51, source[1], options=options))


def test_clips_are_named_by_video_and_place_and_know_their_subject_and_view(source):
    recordings, broken = plan(
        source(
            {"A10N08-L": video(9), "0002-R": video(9), "0002-M": video(9)},
            {
                "A10N08-L": "3,1,4,1\n\n51,2,9,2\n",
                "0002-R": "1,0,1,1",
                "0002-M": "1,0,1,1\r\n2,5,6,1\r\n",
                "0003-L": "1,0,1,1",  # no such video: the user has a part of the dataset
            },
        )
    )
    assert not broken
    clips = [(*clip[:6], clip.rows) for recording in recordings for clip in recording.clips]
    assert clips == [
        ("0002-M-000", 0, 0, 2, 0, 0, (0, 1)),
        ("0002-M-001", 1, 0, 2, 0, 0, (5, 6)),
        ("0002-R-000", 0, 0, 3, 0, 0, (0, 1)),
        ("A10N08-L-000", 2, 8, 1, 0, 0, (1, 4)),
        ("A10N08-L-001", 50, 8, 1, 0, 0, (2, 9)),
    ]


def test_an_inclusive_interval_counts_from_one(source):
    recordings, _ = plan(
        source({"0002-M": video(9)}, {"0002-M": "1,1,9,1\n1,4,4,1"}), interval="inclusive"
    )
    assert [clip.rows for clip in recordings[0].clips] == [(0, 9), (3, 4)]


LABEL_FAULTS = {
    "action": ("52,1,4,1", "unknown action 52: the dataset has 51"),
    "action 0": ("0,1,4,1", "unknown action 0"),
    "order": ("1,4,4,1", "start 4 is not before end 4"),
    "before": ("1,-1,4,1", "starts at frame -1, before the video"),
    "text": ("one,1,4,1", "'one,1,4,1' is not action,start,end,confidence"),
    "short": ("1,1", "is not action,start,end,confidence"),
    "underscore": ("1_0,1,4,1", "'1_0,1,4,1' is not action,start,end,confidence"),
    "header": ("action,start,end,confidence", "a header line, which label files do not have"),
}


@pytest.mark.parametrize(("line", "reason"), LABEL_FAULTS.values(), ids=LABEL_FAULTS)
def test_a_broken_label_is_reported_and_the_others_are_kept(source, line, reason):
    recordings, broken = plan(source({"0002-M": video(9)}, {"0002-M": f"1,0,9,1\n{line}\n2,0,9,1"}))
    assert [clip.name for clip in recordings[0].clips] == ["0002-M-000", "0002-M-002"]
    ((name, file, number, found, _),) = broken
    assert (name, number) == ("0002-M-001", 2)
    assert file.endswith("labels/0002-M.txt")
    assert reason in found


def test_a_label_file_without_an_action_is_reported(source):
    recordings, broken = plan(source({"0002-M": video(2)}, {"0002-M": "\n"}))
    ((name, file, number, reason, stops),) = broken
    assert (recordings, name, number, stops) == ([], "0002-M", None, True)
    assert file.endswith("labels/0002-M.txt")
    assert reason == "no action in this label file"


def test_two_label_files_of_a_video_are_refused(tmp_path):
    for folder in ("videos", "labels", "others"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "0002-M.txt").write_text("1,0,1,1")
    labels = [tmp_path / "labels", tmp_path / "others"]
    with pytest.raises(ArchiveError, match=r"others/0002-M.txt: .*labels/0002-M.txt has this name"):
        plan(([tmp_path / "videos"], labels))


def test_videos_without_labels_or_with_other_names_are_reported(source):
    _, broken = plan(source({"0002-M": video(2), "film": video(2)}, {"0001-M": "1,0,1,1"}))
    assert [(entry.clip, entry.reason) for entry in broken] == [
        ("0002-M", "no label file of this name"),
        ("film", "the name is not NNNN-V or AxxNyy-V"),
    ]


def read(data, *rows):
    clips = tuple(
        Clip(f"c{i}", 0, rows=row, file="l.txt", line=i + 1) for i, row in enumerate(rows)
    )
    recording = Recording(Member("a", "v.txt", 0, 0), clips)
    return list(formats.read("pku", data, recording, layout=PAIR, classes=51))


def test_clips_are_cut_from_the_video():
    (_, a), (_, b) = read(video(20, first=30), (3, 6), (1, 20))
    assert a.shape == (2, 3, JOINTS, 3)
    assert a[:, :, 0, 0].tolist() == [[33, 34, 35], [3, 4, 5]]
    assert b[1, :, 0, 0].tolist() == list(range(1, 20))


def test_a_clip_that_ends_after_the_video_is_broken_at_its_label():
    (_, good), (clip, error) = read(video(5), (1, 5), (1, 6))
    assert good.shape[1] == 4
    assert (error.reason, error.file, error.line) == (
        "ends at frame 6, after the video's 5",
        clip.file,
        clip.line,
    )


def test_a_bad_number_breaks_only_the_clips_that_hold_it():
    data = video(9).replace(b"4.000000", b"nan", 1)
    (_, error), (_, good) = read(data, (3, 6), (5, 9))
    assert (error.reason, error.line) == ("the coordinate 'nan' is no length", 5)
    assert good.shape[1] == 4


def test_a_clip_without_a_body_is_left_out_without_being_an_error():
    (_, empty), (_, good) = read(video(5), (0, 1), (0, 2))
    assert isinstance(empty, EmptyClip)
    assert good.any()


FAULTS = {
    "empty": (b"", 1, "0 frames"),
    "blank": (b"\n\n", 1, "0 frames"),
    "short line": (video(3)[:-20], 3, "values where 12 are due"),
    "blank line": (video(1) + b"\n" + video(1), 2, "0 values where 12 are due"),
    "text": (b"a video", 1, "2 values where 12 are due"),
}


@pytest.mark.parametrize(("data", "line", "reason"), FAULTS.values(), ids=FAULTS)
def test_a_broken_video_is_refused_with_the_line_and_the_reason(data, line, reason):
    with pytest.raises(BrokenClip) as error:
        pku.parse(data, PAIR)
    assert reason in error.value.reason
    assert error.value.line == line
    assert [type(outcome) for _, outcome in read(data, (0, 1), (0, 2))] == [BrokenClip] * 2


numbers = st.sampled_from(["0", "1.5", "-0.25", "+3e-05", "nan", "x", "12345.6789012345678"])
lines = st.lists(numbers, min_size=VALUES - 1, max_size=VALUES + 1).map(" ".join)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(lines | st.just(""), max_size=4).map("\n".join).map(str.encode)
    | damaged(st.just(video(3)))
)
def test_any_bytes_are_a_valid_video_or_the_one_error(data):
    spaced = bytes(byte if byte > 32 or byte == 10 else 32 for byte in data)
    rows = [line.split() for line in spaced.split(b"\n")]
    while rows and not rows[-1]:
        rows.pop()
    try:
        expected = np.array([[float(word) for word in row] for row in rows])
        expected = expected.reshape(len(rows), 2, JOINTS, 3).swapaxes(0, 1)
        valid = len(rows) > 0 and (np.abs(expected) < LARGEST_RAW).all()
    except ValueError:
        valid = False
    if valid:
        assert np.array_equal(pku.parse(data, PAIR), expected)
    else:
        with pytest.raises(BrokenClip, match=r"^.+$"):
            pku.parse(data, PAIR)


def test_a_split_list_is_read_with_its_quirks(tmp_path):
    text = "\ufeffTraining videos:\r\n0002-L, 0002-M, \r\n\nValidataion videos:\n 0003-L,0003-R,\n"
    (tmp_path / "list.txt").write_text(text)
    sides = pku.split_list(tmp_path / "list.txt")
    assert sides == {"0002-L": 1, "0002-M": 1, "0003-L": 0, "0003-R": 0}


@pytest.mark.parametrize(
    "text", ["", "Training\na\nb\n", "a\nb\nc\nd\n", "Training\na\nValid\na\n", "\xe9"]
)
def test_what_is_not_a_split_list_is_refused(tmp_path, text):
    (tmp_path / "list.txt").write_bytes(text.encode("latin-1"))
    message = r"list.txt: (not a split list|a is in both lists|line 1 is not UTF-8)"
    with pytest.raises(ArchiveError, match=message):
        pku.split_list(tmp_path / "list.txt")
    with pytest.raises(ArchiveError, match=r"none.txt: No such file"):
        pku.split_list(tmp_path / "none.txt")


REAL = Path(__file__).parents[2] / "shared" / "real" / "pku" / "A10N08-L.txt"


@pytest.mark.skipif(not REAL.exists(), reason=f"no {REAL}")
def test_a_real_video_is_read_as_by_numpy():
    bodies = pku.parse(REAL.read_bytes(), KINECT_V2)
    expected = np.loadtxt(REAL).reshape(-1, 2, 25, 3).swapaxes(0, 1)
    assert np.array_equal(bodies, expected)

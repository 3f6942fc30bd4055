"""`.skeleton` files: read as by a plain reader, and every fault with its message."""

import contextlib
import io
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from specimens import damaged

from skeletons.archives.recordings import BrokenClip
from skeletons.formats import ntu

EDGE = Path(__file__).parent / "golden" / "edge"
BODY = "72057594037931101 0 1 1 1 1 0 0.02 0.05 2"
JOINTS = 3


def joint(x, y, z):
    return f"{x} {y} {z} 277.4 191.8 1036.2 519.1 -0.2 0.05 0.9 -0.1 2"


def text(frames, joints=JOINTS, newline="\n"):
    """The file of frames, lists of bodies, lists of joints (x, y, z) as words."""
    lines = [str(len(frames))]
    for bodies in frames:
        lines.append(str(len(bodies)))
        for body in bodies:
            lines += [BODY, str(joints), *(joint(*place) for place in body)]
    return newline.join([*lines, ""]).encode()


def one(x=1):
    """A body all of whose coordinates are the same."""
    return [(x, x, x)] * JOINTS


def plain(data, joints):
    """A reader of a line and a word at a time."""
    spaced = bytes(byte if byte > 32 or byte == 10 else 32 for byte in data)
    lines = io.BytesIO(spaced)
    frames = int(lines.readline())
    bodies = np.zeros((4, frames, joints, 3))
    for t in range(frames):
        for m in range(int(lines.readline())):
            lines.readline()
            for j in range(int(lines.readline())):
                place = [float(word) for word in lines.readline().split()[:3]]
                if m < 4:
                    bodies[m, t, j] = place
    return bodies


@pytest.mark.parametrize("path", sorted(EDGE.glob("*.skeleton")), ids=lambda path: path.stem)
def test_files_are_read_as_by_a_plain_reader(path):
    data = path.read_bytes()
    bodies, expected = ntu.parse(data, joints=25), plain(data, 25)
    assert np.array_equal(bodies, expected[: len(bodies)])
    assert not expected[len(bodies) :].any()


@pytest.mark.parametrize("newline", ["\n", "\r\n", " \n", "\r\n\r"])
def test_bodies_come_and_go_by_their_place_in_the_frame(newline):
    data = text([[], [one(1), one(2)], [one(3)], [one(4), one(5), one(6)]], newline=newline)
    bodies = ntu.parse(data, joints=JOINTS)
    assert bodies.shape == (3, 4, JOINTS, 3)
    assert bodies[:, :, 0, 0].tolist() == [[0, 1, 3, 4], [0, 2, 0, 5], [0, 0, 0, 6]]


def test_bodies_after_the_fourth_are_left_out():
    bodies = ntu.parse(text([[one(m) for m in range(1, 7)]]), joints=JOINTS)
    assert bodies[:, 0, 0, 0].tolist() == [1, 2, 3, 4]


def replaced(line, words):
    """A good file with another text for a line, counted from 1; None leaves the line out."""
    lines = text([[one()], [one()]]).decode().splitlines()
    lines[line - 1 : line] = [] if words is None else [words]
    return "\n".join([*lines, ""]).encode()


FAULTS = {
    "empty": (b"", 1, "not skeleton text"),
    "picture": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", 1, "not skeleton text"),
    "0 frames": (b"0\n", 1, "0 frames"),
    "2 hours": (replaced(1, "216000"), 1, "216000 frames, where 18000 is the most"),
    "no body": (text([[], []]), None, "no body in any frame"),
    "10 bodies": (text([[one()] * 10]), 2, "10 bodies in frame 1, where 6 is the most"),
    "number of bodies": (replaced(8, "x"), 8, "no number of bodies for frame 2"),
    "body": (replaced(3, "1 2 3"), 3, "3 values where 10 are due"),
    "joint count": (replaced(4, "26"), 4, "26 joints where the layout has 3"),
    "joint count word": (replaced(4, "x"), 4, "'x' is not the number of joints, 3"),
    "joint count text": (replaced(4, "3 3"), 4, "2 values where 1 are due"),
    "joint": (replaced(6, joint(1, 2, 3) + " 5"), 6, "13 values where 12 are due"),
    "nan": (replaced(6, joint(1, "nan", 3)), 6, "the coordinate 'nan' is no length"),
    "word": (replaced(7, joint(1, 2, "1.2.3")), 7, "the coordinate '1.2.3' is no length"),
    "far": (replaced(7, joint("1e300", 2, 3)), 7, "the coordinate '1e300' is no length"),
    "far behind": (replaced(7, joint(1, 2, "-1e300")), 7, "'-1e300' is no length"),
    "millimetres": (
        replaced(7, joint(310500, 2, 3)),
        7,
        "the coordinate '310500' is no length",
    ),
    "underscore": (replaced(6, joint(1, "1_0.5", 3)), 6, "the coordinate '1_0.5' is no length"),
    "missing joint": (replaced(6, None), 7, "1 value where 12 are due"),
    "truncated frame": (text([[one()]])[:-40], 7, "values where 12 are due"),
    "truncated body": (b"\n".join(replaced(1, "2").split(b"\n")[:10]), 10, "ends within frame 2"),
    "truncated clip": (replaced(1, "3"), 13, "ends after 2 of 3 frames"),
    "more": (text([[one()]]) + b"\n1\n", 9, "more text after the last of 1 frames"),
    "blank line": (replaced(3, ""), 3, "0 values where 10 are due"),
}


@pytest.mark.parametrize(("data", "line", "reason"), FAULTS.values(), ids=FAULTS)
def test_a_broken_file_is_refused_with_the_line_and_the_reason(data, line, reason):
    with pytest.raises(BrokenClip) as error:
        ntu.parse(data, joints=JOINTS)
    assert reason in error.value.reason
    assert error.value.line == line


words = st.sampled_from(
    ["0", "1", "2", "3", "6", "7", "25", "-1", "nan", "1e9", "+.5", "x", "\xe9"]
)
lines = st.sampled_from([BODY, joint(1, 2, 3), joint("-0", "1e-5", "+7"), "3", "1", "0", "", "\r"])
almost = st.lists(lines | words | st.lists(words, max_size=13).map(" ".join), max_size=30)


clips = st.sampled_from([text([[one()], [], [one(2), one(3)]], newline=n) for n in ("\n", "\r\n")])


@settings(max_examples=500, deadline=None)
@given(almost.map("\n".join).map(str.encode) | damaged(clips))
@example(b"18000\n" + b"0\n" * 18000)
@example(b"9" * 5000)
def test_any_bytes_are_a_valid_clip_or_the_one_error(data):
    start = time.process_time()
    with contextlib.suppress(BrokenClip):
        bodies = ntu.parse(data, joints=JOINTS)
        assert bodies.shape[0] <= 4
        assert np.isfinite(bodies).all()
        assert np.array_equal(bodies, plain(data, JOINTS)[: len(bodies)])
    # some hundred bytes: whatever they say, nothing runs away
    assert time.process_time() - start < 1

"""The `.skeleton` text of NTU RGB+D 60 and 120 (and of recordings in the same form): one file a
clip.

A file is a line with the number of frames; a frame is a line with the number of bodies; a body is a
line of 10 values, a line with the number of joints and a line of 12 values a joint, of which the
first three are x, y, z in metres (Kinect for Windows SDK 2.0). The name is `SsssCcccPpppRrrrAaaa`:
setup, camera, subject, replication and action (from 1).

A clip is valid when all these lines are there with their numbers of values, nothing but blank lines
follows, the counts agree with the layout and the sensor, all coordinates are numbers within
`FARTHEST` and a body is present in some frame. The other values are counted, not read: nothing uses
them. That goes for body IDs too; a body is known by its place.
"""

import re
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from skeletons.archives.recordings import (
    LONGEST,
    OTHER_SENSOR,
    Broken,
    BrokenClip,
    Clip,
    Outcome,
    Recording,
    Source,
    counted,
)
from skeletons.archives.text import Words, coordinates
from skeletons.clips.layout import Layout

BODIES = "energy"  # a sensor's ghosts hardly move
MOST_BODIES = 6  # the sensor tracks no more
BODIES_READ = 4  # the first of a frame; the others are left out
_NAME = re.compile(r"S(\d{3})C(\d{3})P(\d{3})R(\d{3})A(\d{3})", re.ASCII)
_BODY_VALUES, _JOINT_VALUES = 10, 12


def plan(source: Source) -> Iterator[Recording | Broken]:
    """The recordings of the archives, and those whose names tell that they cannot be used."""
    for member in source.members(".skeleton"):
        name = member.stem
        numbers = _NAME.fullmatch(name)
        if not numbers:
            yield Broken(name, member.place, None, "the name is not SsssCcccPpppRrrrAaaa")
        elif not 1 <= (action := int(numbers[5])) <= source.classes:
            reason = f"unknown action {action}: the dataset has {source.classes}"
            yield Broken(name, member.place, None, reason)
        else:
            yield Recording(member, (named(name, action - 1),))


def named(name: str, label: int) -> Clip:
    """A clip of this label with what its name states; 0 where it is not a name of this form."""
    numbers = _NAME.fullmatch(name)
    if numbers is None:
        return Clip(name, label)
    setup, camera, subject, replication, _ = map(int, numbers.groups())
    return Clip(name, label, subject, camera, setup, replication)


def read(data: bytes, recording: Recording, *, layout: Layout, classes: int) -> Iterator[Outcome]:
    """The recording's clip with its bodies (M, T, V, 3)."""
    yield recording.clips[0], parse(data, joints=layout.joints)


def parse(data: bytes, *, joints: int) -> NDArray[np.float64]:
    """The bodies of a file by their place in each frame: (M, T, V, 3) metres, M at most
    `BODIES_READ`, absent ones 0.

    Raises BrokenClip, and nothing else, for whatever is not a valid clip.
    """
    words = Words(data)
    integers = words.integers()
    frames = integers.item(0) if words.lines else -1
    if frames < 0:
        raise BrokenClip("not skeleton text: the first line is not a number of frames", 1)
    if frames == 0:
        raise BrokenClip("0 frames", 1)
    if frames > LONGEST:
        raise BrokenClip(f"{frames} frames, where {LONGEST} is the most; cut it into clips", 1)

    numbers, ending = _bodies_of_frames(words, integers, frames, joints)
    each = np.array(numbers, np.int64)
    frame = np.repeat(np.arange(len(each)), each)
    place = np.arange(len(frame)) - np.repeat(np.cumsum(each) - each, each)
    # The first line of a body: after the number of frames, a line each frame until then, and the
    # bodies until then.
    head = 2 + frame + np.arange(len(frame)) * (2 + joints)
    lines = head[:, None] + np.arange(2 + joints)
    _check_lines(words, integers, lines, joints)
    if ending:
        raise ending
    if not len(frame):
        raise BrokenClip("no body in any frame")

    metres = coordinates(words, *words.leading(lines[:, 2:], 3))
    bodies = np.zeros((max(numbers), frames, joints, 3))
    bodies[place, frame] = metres
    return bodies[:BODIES_READ]


def _bodies_of_frames(
    words: Words, integers: NDArray[np.int64], frames: int, joints: int
) -> tuple[list[int], BrokenClip | None]:
    """The number of bodies of each frame, up to where the text stops being such frames, and then
    what is wrong.
    """
    numbers: list[int] = []
    line = 1
    for frame in range(1, frames + 1):
        if line >= words.lines:
            return numbers, BrokenClip(f"ends after {frame - 1} of {frames} frames", words.lines)
        bodies = integers.item(line)
        if bodies < 0:
            return numbers, BrokenClip(f"no number of bodies for frame {frame}", line + 1)
        if bodies > MOST_BODIES:
            reason = f"{bodies} bodies in frame {frame}, where {MOST_BODIES} is the most"
            return numbers, BrokenClip(reason, line + 1)
        line += 1 + bodies * (2 + joints)
        if line > words.lines:
            return numbers, BrokenClip(f"ends within frame {frame} of {frames}", words.lines)
        numbers.append(bodies)
    if words.first[-1] > words.first[line]:
        reason = f"more text after the last of {frames} frames"
        return numbers, BrokenClip(reason, line + 1 + int(np.argmax(words.counts[line:] > 0)))
    return numbers, None


def _check_lines(
    words: Words, integers: NDArray[np.int64], lines: NDArray[np.int64], joints: int
) -> None:
    """Raise BrokenClip for the first line of the bodies, `lines` (N, 2 + V), that is not what it
    must be.
    """
    expected = np.array([_BODY_VALUES, 1] + [_JOINT_VALUES] * joints)
    wrong = words.counts[lines] != expected
    wrong[:, 1] |= integers[lines[:, 1]] != joints
    if wrong.any():
        body, row = np.argwhere(wrong)[0]
        line = int(lines[body, row])
        reason = f"{counted(int(words.counts[line]), 'value')} where {expected[row]} are due"
        if row == 1 and integers[line] >= 0:
            number = counted(int(integers[line]), "joint")
            reason = f"{number} where the layout has {joints}; {OTHER_SENSOR}"
        elif row == 1 and words.counts[line] == 1:
            ((start,), (end,)) = words.leading(np.array(line), 1)
            reason = f"{words.quote(start, end)} is not the number of joints, {joints}"
        raise BrokenClip(reason, line + 1)

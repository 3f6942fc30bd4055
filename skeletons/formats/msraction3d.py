"""The text of MSR-Action3D's skeletons in metres: one file a clip, one body.

A file `aAA_sSS_eEE_skeleton3D.txt` (action from 1, subject, execution) has a line a joint, frame
after frame: x, y, z in metres and a confidence, which is not read. The 20 joints are those of
Kinect v1 in another order.

A clip is valid when all its lines are whole and make whole frames, at most `LONGEST`, and all
coordinates are numbers within `LARGEST_RAW`.
"""

import re
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from skeletons.archives.recordings import (
    LONGEST,
    Broken,
    BrokenClip,
    Clip,
    Outcome,
    Recording,
    Source,
    counted,
)
from skeletons.archives.text import coordinates, table
from skeletons.clips.layout import Layout

BODIES = "file"
# By place in layout kinect-v1, the joint's place in a frame of the file, both from 0. The file has
# shoulders, hips and the middle first, then elbows and wrists, knees and ankles.
JOINTS = (6, 3, 2, 19, 0, 7, 9, 11, 1, 8, 10, 12, 4, 13, 15, 17, 5, 14, 16, 18)
_NAME = re.compile(r"(a(\d{2})_s(\d{2})_e(\d{2}))_skeleton3D", re.ASCII)


def plan(source: Source) -> Iterator[Recording | Broken]:
    """The recordings of the archives, and those whose names tell that they cannot be used."""
    for member in source.members("skeleton3d.txt"):
        name = _NAME.fullmatch(member.stem)
        if not name:
            reason = "the name is not aAA_sSS_eEE_skeleton3D"
            yield Broken(member.stem, member.place, None, reason)
            continue
        action, subject, execution = map(int, name.groups()[1:])
        if not 1 <= action <= source.classes:
            reason = f"unknown action {action}: the dataset has {source.classes}"
            yield Broken(name[1], member.place, None, reason)
        else:
            clip = Clip(name[1], action - 1, subject, replication=execution)
            yield Recording(member, (clip,))


def read(data: bytes, recording: Recording, *, layout: Layout, classes: int) -> Iterator[Outcome]:
    """The recording's clip with its body (1, T, 20, 3)."""
    yield recording.clips[0], parse(data)[None]


def parse(data: bytes) -> NDArray[np.float64]:
    """The body (T, 20, 3) of a file in metres, its joints in the order of layout kinect-v1.

    Raises BrokenClip, and nothing else, for whatever is not a valid clip.
    """
    words, starts, ends = table(data, 4)
    frames, rest = divmod(len(starts), len(JOINTS))
    if rest:
        raise BrokenClip(
            f"ends after {counted(rest, 'joint')} of a frame's {len(JOINTS)}", len(starts)
        )
    if frames > LONGEST:
        raise BrokenClip(f"{frames} frames, where {LONGEST} is the most; cut it into clips")
    metres = coordinates(words, starts[:, :3], ends[:, :3])
    return metres.reshape(frames, len(JOINTS), 3)[:, JOINTS]

"""The JSON of the copy of NW-UCLA that the community uses: one file a clip, one body.

A file `aAA_sSS_eEE_vVV.json` (action, subject, execution and view, which is the camera) is an
object: `label` is the action from 1, `skeletons` a list of frames, a frame a list of joints, a
joint its x, y, z in metres (Kinect v1). Action numbers skip some, so the label is not that of the
name. Other fields are not read.

A clip is valid when it is such an object in UTF-8, its label is one of the dataset's, it has at
most `LONGEST` frames, every frame has the joints of the layout, all coordinates are numbers within
`LARGEST_RAW` and one is not zero.
"""

import json
import re
import reprlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skeletons.archives.recordings import (
    LARGEST_RAW,
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
from skeletons.clips.layout import Layout

BODIES = "file"
_NAME = re.compile(r"a(\d{2})_s(\d{2})_e(\d{2})_v(\d{2})", re.ASCII)
_DIGITS = 18  # of an integer that is read as one


def plan(source: Source) -> Iterator[Recording | Broken]:
    """The recordings of the archives, and those whose names tell that they cannot be used. Labels
    are not known before a recording is read.
    """
    for member in source.members(".json"):
        numbers = _NAME.fullmatch(member.stem)
        if not numbers:
            yield Broken(member.stem, member.place, None, "the name is not aAA_sSS_eEE_vVV")
            continue
        _, subject, execution, view = map(int, numbers.groups())
        clip = Clip(member.stem, 0, subject=subject, camera=view, replication=execution)
        yield Recording(member, (clip,))


def read(data: bytes, recording: Recording, *, layout: Layout, classes: int) -> Iterator[Outcome]:
    """The recording's clip with its label and its body (1, T, V, 3)."""
    label, body = parse(data, joints=layout.joints, classes=classes)
    yield recording.clips[0]._replace(label=label), body[None]


def parse(data: bytes, *, joints: int, classes: int) -> tuple[int, NDArray[np.float64]]:
    """The label (0-based) and the body (T, V, 3) in metres of a file.

    Raises BrokenClip, and nothing else, for whatever is not a valid clip.
    """
    # Lists and objects within lists take many times the memory of their text.
    if data.count(b"[") + data.count(b"{") > LONGEST * (joints + 2):
        raise BrokenClip(f"more lists than {LONGEST} frames have, the most; cut it into clips")
    clip = _load(data)
    if not isinstance(clip, dict):
        raise BrokenClip("not an object with label and skeletons")
    for field in ("label", "skeletons"):
        if field not in clip:
            raise BrokenClip(f"no {field}")
    label = clip["label"]
    if type(label) is not int or not 1 <= label <= classes:  # True is an int
        raise BrokenClip(f"unknown label {reprlib.repr(label)}: the dataset has 1 to {classes}")
    body = _body(clip["skeletons"], joints)
    if not body.any():
        raise BrokenClip("no body: all coordinates are zero")
    return label - 1, body


def _load(data: bytes) -> Any:
    """Load JSON, a number of very many digits as a float; BrokenClip if it is not JSON."""
    try:
        return json.loads(
            data.decode("utf-8-sig"),
            parse_int=lambda digits: int(digits) if len(digits) <= _DIGITS else float(digits),
        )
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise BrokenClip("not JSON: not UTF-8", line) from None
    except json.JSONDecodeError as error:
        raise BrokenClip(f"not JSON: {error.msg}", error.lineno) from None
    except RecursionError:
        raise BrokenClip("not JSON of a clip: lists within too many lists") from None


def _body(frames: Any, joints: int) -> NDArray[np.float64]:
    """Frames of joints of x, y, z as (T, V, 3); BrokenClip names the first that is not."""
    if not isinstance(frames, list) or not frames:
        raise BrokenClip("0 frames" if frames == [] else "skeletons is not a list of frames")
    if len(frames) > LONGEST:
        raise BrokenClip(f"{len(frames)} frames, where {LONGEST} is the most; cut it into clips")
    for t, frame in enumerate(frames, 1):
        if not isinstance(frame, list):
            raise BrokenClip(f"frame {t} is not a list of joints")
        if len(frame) != joints:
            number = counted(len(frame), "joint")
            raise BrokenClip(f"{number} in frame {t} where the layout has {joints}; {OTHER_SENSOR}")
        for j, joint in enumerate(frame, 1):
            if not isinstance(joint, list) or len(joint) != 3:
                raise BrokenClip(f"joint {j} in frame {t} is not x, y, z")
    values = [value for frame in frames for joint in frame for value in joint]
    numbers = np.array([v if type(v) in (int, float) else np.nan for v in values])
    valid = np.abs(numbers) < LARGEST_RAW  # NaN compares as False
    if not valid.all():
        first = int(np.argmin(valid))
        place = f"joint {first // 3 % joints + 1} in frame {first // 3 // joints + 1}"
        raise BrokenClip(f"the coordinate {reprlib.repr(values[first])} of {place} is no length")
    return numbers.reshape(len(frames), joints, 3)

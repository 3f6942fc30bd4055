"""Checks of what a format module yields, where clips enter.

Users write format modules. A fault of one is said in one line that names the module, the clip and
the file; an exception raised inside a module is not caught, so that its traceback is seen.
"""

from collections.abc import Iterator
from itertools import zip_longest

import numpy as np
from numpy.typing import NDArray

from errors import UserError
from skeletons.archives.archive import ArchiveError
from skeletons.archives.recordings import FARTHEST, BrokenClip, Clip, Recording
from skeletons.clips.layout import Layout

_NUMBERS = ("label", "subject", "camera", "setup", "replication")


def check_plan(format: str, recordings: list[Recording]) -> None:
    """Raise UserError unless every recording has clips, sorted by name, no name twice, with whole
    numbers, sides of split lists, and columns of the same names and kinds; ArchiveError for a clip
    that two files hold.
    """
    places: dict[str, str] = {}
    kinds: dict[str, str] | None = None
    last = ""
    for recording in recordings:
        place = recording.member.place
        if not recording.clips:
            raise UserError(f"format module {format}: {place}: plan gives it no clip")
        for clip in recording.clips:
            first = places.setdefault(clip.name, place)
            if first is not place:
                raise ArchiveError(f"{place}: clip {clip.name} is in {first} too; remove one")
            if clip.name == last:
                raise _fault(format, clip, place, "plan gives it twice")
            if clip.name < last:
                raise _fault(format, clip, place, f"plan gives it after {last}; sort by name")
            _check_numbers(format, clip, place)
            for side in clip.sides:
                if not _is_side(side):
                    reason = f"its side {side!r} is not a split list's name and 1 or 0"
                    raise _fault(format, clip, place, reason)
            found = {name: _kind(value) for name, value in clip.columns}
            kinds = found if kinds is None else kinds
            if found != kinds or "" in kinds.values():
                reason = f"its columns are {dict(clip.columns)!r}, not whole numbers or words"
                raise _fault(format, clip, place, f"{reason} as those of the clips before")
            last = clip.name


def check_clips(
    found: Iterator[tuple[Clip, NDArray[np.float64] | BrokenClip]],
    format: str,
    recording: Recording,
    *,
    layout: Layout,
    classes: int,
    rule: str,
) -> Iterator[tuple[Clip, NDArray[np.float64] | BrokenClip]]:
    """What a module's `read` yields of a recording, checked; a clip with a joint farther from the
    sensor than `FARTHEST` is broken.

    Raises UserError unless it is the recording's clips in their order, each broken or with its
    bodies (M, T, V, 3): float64, finite, at least one frame, the joints of the layout and, where
    the module's rule is "file", no more bodies than the layout has; and a label below `classes`.
    """
    place = recording.member.place
    for planned, item in zip_longest(recording.clips, found):
        if planned is None:
            raise _fault(format, item[0], place, "read yields it, which plan did not give")
        if item is None:
            raise _fault(format, planned, place, "read does not yield it")
        clip, bodies = item
        if clip.name != planned.name:
            raise _fault(format, clip, place, f"read yields it where {planned.name} is due")
        if isinstance(bodies, BrokenClip):
            yield clip, bodies
            continue
        _check_numbers(format, clip, place)
        if not 0 <= clip.label < classes:
            reason = f"its label is {clip.label}, allowed: 0 to {classes - 1}"
            raise _fault(format, clip, place, reason)
        if not isinstance(bodies, np.ndarray) or bodies.dtype != np.float64:
            kind = getattr(bodies, "dtype", type(bodies).__name__)
            raise _fault(format, clip, place, f"read yields {kind}, not an array of float64")
        most = layout.bodies if rule == "file" else len(bodies)
        due = f"(bodies, frames, {layout.joints}, 3) of layout {layout.name}"
        if bodies.ndim != 4 or bodies.shape[2:] != (layout.joints, 3) or not len(bodies):
            raise _fault(format, clip, place, f"its shape is {bodies.shape}, not {due}")
        if len(bodies) > most:
            reason = f"it has {len(bodies)} bodies, where layout {layout.name} has {most}"
            raise _fault(format, clip, place, f'{reason}; BODIES = "energy" keeps the largest')
        if not bodies.shape[1]:
            raise _fault(format, clip, place, "it has 0 frames")
        if max(bodies.max(), -bodies.min()) < FARTHEST / 2:  # as nearly always; NaN is not
            yield clip, bodies
            continue
        if not np.isfinite(bodies).all():
            raise _fault(format, clip, place, "a coordinate is NaN or infinite")
        distance = np.linalg.norm(bodies, axis=-1)
        if distance.max() <= FARTHEST:
            yield clip, bodies
            continue
        _, frame, joint = np.unravel_index(int(distance.argmax()), distance.shape)
        far = f"joint {joint + 1} in frame {frame + 1} is {distance.max():,.0f} m"
        yield clip, BrokenClip(f"{far} from the sensor, where {FARTHEST:.0f} m is the most")


def _is_side(side: object) -> bool:
    """Whether it is the name of a split list, which is a name in the store, and 1 or 0."""
    if not isinstance(side, tuple) or len(side) != 2:
        return False
    name, value = side
    return isinstance(name, str) and bool(name) and "/" not in name and value in (0, 1)


def _kind(value: object) -> str:
    """What a value is that a protocol can speak of; empty for any other."""
    number = type(value) is int and 0 <= value < 2**31
    return "number" if number else "word" if isinstance(value, str) else ""


def _check_numbers(format: str, clip: Clip, place: str) -> None:
    for field in _NUMBERS:
        value = getattr(clip, field)
        if _kind(value) != "number":
            raise _fault(format, clip, place, f"its {field} is {value!r}, not a whole number")


def _fault(format: str, clip: Clip, place: str, what: str) -> UserError:
    return UserError(f"format module {format}: clip {clip.name} of {place}: {what}")

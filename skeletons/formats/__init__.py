"""The raw formats, a module each: what its archives hold and how they are read.

A module in this folder is a format under its own name; nothing else lists the formats. Users write
some, so that all that a module gives is checked here: a fault of one is said in a line that names
the module, the clip and the file. An exception raised inside a module is not caught, so that its
traceback is seen.
"""

import importlib
import pkgutil
from collections.abc import Iterator
from itertools import zip_longest
from typing import Protocol, cast

import numpy as np

from errors import UserError, printable
from skeletons.archives.archive import ArchiveError
from skeletons.archives.recordings import (
    FARTHEST,
    Broken,
    BrokenClip,
    Clip,
    Outcome,
    Recording,
    Source,
    unit_doubt,
)
from skeletons.clips.layout import Layout


class Format(Protocol):
    """Module of a raw format.

    `BODIES` says which bodies a prepared clip has when a recording may have more than the layout:
    "energy", those of the largest energy, or "file", the first in the order of the file.

    Three more are false where a module does not have them: `PREPARED`, the clips are in normal form
    already, so that they are cut and not normalised again; `SPLITS`, the archives themselves state
    sides of protocols (`Clip.sides`); `COLUMNS`, the clips have columns of their own
    (`Clip.columns`).
    """

    BODIES: str
    COLUMNS: bool

    def plan(self, source: Source) -> Iterator[Recording | Broken]:
        """The recordings of the archives with their clips, in any order, and what names and labels
        tell that it cannot be used. No recording is read, unless all are one file that must be read
        whole. A label that only the recording states is 0.

        Raises ArchiveError for an unreadable archive.
        """
        ...

    def read(
        self, data: bytes, recording: Recording, *, layout: Layout, classes: int
    ) -> Iterator[Outcome]:
        """The clips of a recording, whose bytes are `data`, in their order: each with its bodies
        (M, T, V, 3) in metres from the sensor, absent ones 0, or why it is broken. Clips without
        `rows` are the whole recording.

        T is at least 1, M at most the layout's bodies where `BODIES` is "file". Raises BrokenClip,
        which is then that of all clips that are left, and nothing else whatever the bytes are;
        ArchiveError where all clips of an archive are of another layout.
        """
        ...


RULES = ("energy", "file")
NAMES = tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))
_NUMBERS = ("label", "subject", "camera", "setup", "replication")


def is_prepared(name: str) -> bool:
    """True if the clips of a format are in normal form already."""
    return bool(getattr(load(name), "PREPARED", False))


def states_splits(name: str) -> bool:
    """True if archives of a format themselves state sides of protocols."""
    return bool(getattr(load(name), "SPLITS", False))


def has_columns(name: str) -> bool:
    """True if protocols can speak of more than subject, camera, setup and replication; UserError
    as for `load`.
    """
    return bool(getattr(load(name), "COLUMNS", False))


def load(name: str) -> Format:
    """The module of a format; UserError when there is none of this name or it lacks a part."""
    if name not in NAMES:
        raise UserError(f"unknown format {name!r}: there are {', '.join(NAMES)}")
    module = importlib.import_module(f"{__name__}.{name}")
    lacking = [part for part in ("BODIES", "plan", "read") if not hasattr(module, part)]
    if lacking:
        raise UserError(f"format module {name} lacks {', '.join(lacking)}")
    if module.BODIES not in RULES:
        raise UserError(f"format module {name}: BODIES is {module.BODIES!r}, not one of {RULES}")
    return cast(Format, module)


def plan(name: str, source: Source) -> tuple[list[Recording], list[Broken]]:
    """The recordings of the archives, sorted by clip, each with its clips sorted by name, and what
    cannot be used.

    Raises ArchiveError for an unreadable archive and a clip that two files hold; UserError for a
    recording without clips, and for clips without whole numbers, sides of split lists and columns
    of the same names and kinds.
    """
    recordings: list[Recording] = []
    broken: list[Broken] = []
    for entry in load(name).plan(source):
        if isinstance(entry, Broken):
            called, file, reason = map(printable, (entry.clip, entry.file, entry.reason))
            broken.append(Broken(called, file, entry.line, reason, entry.stops))
        elif not entry.clips:
            raise UserError(f"format module {name}: {entry.member.place}: plan gives it no clip")
        elif any(clip.name != printable(clip.name) for clip in entry.clips):
            place, reason = printable(entry.member.place), "a name with control characters"
            broken += [Broken(printable(clip.name), place, None, reason) for clip in entry.clips]
        else:
            clips = sorted(entry.clips, key=lambda clip: clip.name)
            recordings.append(entry._replace(clips=tuple(clips)))
    recordings.sort(key=lambda recording: recording.clips[0].name)
    places: dict[str, str] = {}
    kinds: dict[str, str] | None = None
    for recording in recordings:
        place = recording.member.place
        for clip in recording.clips:
            if clip.name in places:
                first = places[clip.name]
                if first is place:
                    raise _fault(name, clip, place, "plan gives it twice")
                raise ArchiveError(f"{place}: clip {clip.name} is in {first} too; remove one")
            places[clip.name] = place
            _check_numbers(name, clip, place)
            for side in clip.sides:
                if not _is_side(side):
                    reason = f"its side {side!r} is not a split list's name and 1, 0 or -1"
                    raise _fault(name, clip, place, reason)
            found = {column: _kind(value) for column, value in clip.columns}
            kinds = found if kinds is None else kinds
            if found != kinds or "" in kinds.values() or not all(map(_is_key, kinds)):
                reason = f"its columns are {dict(clip.columns)!r}, not whole numbers or words"
                raise _fault(name, clip, place, f"{reason} as those of the clips before")
    return recordings, broken


def read(
    name: str,
    data: bytes,
    recording: Recording,
    *,
    layout: Layout,
    classes: int,
    metres: float = 1.0,
) -> Iterator[Outcome]:
    """The clips of a recording, each with its bodies (M, T, V, 3) in units of so many `metres`, or
    why it is broken; a clip with a joint farther from the sensor than `FARTHEST` is.

    Raises UserError unless the module gives the recording's clips in their order, their labels
    below `classes` and their bodies float64, finite, of at least one frame, with the joints of the
    layout and, where its rule is "file", no more bodies than the layout has.
    """
    module, place = load(name), recording.member.place
    found = _until_broken(
        module.read(data, recording, layout=layout, classes=classes), recording.clips
    )
    for planned, item in zip_longest(recording.clips, found):
        if planned is None:
            raise _fault(name, item[0], place, "read yields it, which plan did not give")
        if item is None:
            raise _fault(name, planned, place, "read does not yield it")
        clip, bodies = item
        if clip.name != planned.name:
            raise _fault(name, clip, place, f"read yields it where {planned.name} is due")
        if isinstance(bodies, BrokenClip):
            yield clip, bodies
            continue
        _check_numbers(name, clip, place)
        if not 0 <= clip.label < classes:
            reason = f"its label is {clip.label}, allowed: 0 to {classes - 1}"
            raise _fault(name, clip, place, reason)
        if not isinstance(bodies, np.ndarray) or bodies.dtype != np.float64:
            kind = getattr(bodies, "dtype", type(bodies).__name__)
            raise _fault(name, clip, place, f"read yields {kind}, not an array of float64")
        most = layout.bodies if module.BODIES == "file" else len(bodies)
        due = f"(bodies, frames, {layout.joints}, 3) of layout {layout.name}"
        if bodies.ndim != 4 or bodies.shape[2:] != (layout.joints, 3) or not len(bodies):
            raise _fault(name, clip, place, f"its shape is {bodies.shape}, not {due}")
        if len(bodies) > most:
            reason = f"it has {len(bodies)} bodies, where layout {layout.name} has {most}"
            raise _fault(name, clip, place, f'{reason}; BODIES = "energy" keeps the largest')
        if not bodies.shape[1]:
            raise _fault(name, clip, place, "it has 0 frames")
        if max(bodies.max(), -bodies.min()) * metres < FARTHEST / 2:  # as nearly always; not NaN
            yield clip, bodies
            continue
        if not np.isfinite(bodies).all():
            raise _fault(name, clip, place, "a coordinate is NaN or infinite")
        distance = np.linalg.norm(bodies, axis=-1) * metres
        if distance.max() <= FARTHEST:
            yield clip, bodies
            continue
        body, frame, joint = np.unravel_index(int(distance.argmax()), distance.shape)
        far = f"joint {joint + 1} in frame {frame + 1} is {distance.max():,.0f} m"
        place = bodies[body, frame]
        away = np.median(np.linalg.norm(place - np.median(place, axis=0), axis=1))
        height = 4 * float(away) * metres  # about
        reason = f"{far} from the sensor, where {FARTHEST:.0f} m is the most"
        if doubt := unit_doubt(height):
            reason += f"; a body is about {height:,.4g} m high, {doubt}"
        yield clip, BrokenClip(reason)


def _until_broken(found: Iterator[Outcome], clips: tuple[Clip, ...]) -> Iterator[Outcome]:
    """Outcomes of clips; a BrokenClip that ends them is that of all clips that are left."""
    left = list(clips)
    try:
        for outcome in found:
            del left[:1]
            yield outcome
    except BrokenClip as error:
        yield from ((clip, error) for clip in left)


def _is_side(side: object) -> bool:
    """True for the name of a split list and 1, 0 or -1."""
    return isinstance(side, tuple) and len(side) == 2 and _is_key(side[0]) and side[1] in (0, 1, -1)


def _is_key(name: object) -> bool:
    """True for what can name an array of the store, whose folder then has this name."""
    if not isinstance(name, str) or name != printable(name) or "/" in name:
        return False
    return 0 < len(name.encode()) < 256 and name not in (".", "..", "zarr.json")


def _kind(value: object) -> str:
    """The kind of a value that a protocol can speak of; empty for any other."""
    number = type(value) is int and 0 <= value < 2**31
    return "number" if number else "word" if isinstance(value, str) else ""


def _check_numbers(name: str, clip: Clip, place: str) -> None:
    for field in _NUMBERS:
        value = getattr(clip, field)
        if _kind(value) != "number":
            raise _fault(name, clip, place, f"its {field} is {value!r}, not a whole number")


def _fault(name: str, clip: Clip, place: str, what: str) -> UserError:
    return UserError(f"format module {name}: clip {clip.name} of {place}: {what}")

"""From a recording to its clips in normal form: the one way, for `prepare`, whose workers make
groups of them, and for whatever else takes recordings.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numcodecs.bitround import BitRound
from numpy.typing import NDArray

from machine.host.memory import keep_freed_memory
from skeletons import formats
from skeletons.archives import archive
from skeletons.archives.archive import ArchiveError
from skeletons.archives.recordings import (
    Broken,
    BrokenClip,
    Clip,
    EmptyClip,
    Outcome,
    Recording,
)
from skeletons.clips.layout import Layout
from skeletons.preparing.normalise import choose_bodies, normalise

_KEPT = 64 << 20  # bytes of freed memory: several times the largest array of a parsed text


class Recipe(NamedTuple):
    """Settings by which clips are made of a dataset's recordings.

    `format` names the module that reads them. `joints` are, for each joint of the recordings in
    their order, its number in the layout (None: it has no such joint); empty when they have the
    layout's joints in its order. `normal_form` is one of `NORMAL_FORMS`; `metres` is the unit of
    coordinates, and `axes` are those of the recordings, numbered from 1 and negative for the
    opposite direction, that are x, y and z. Of a clip of more than `max_frames` the centre is kept.
    `keepbits` keeps that many of the 23 bits of each float's mantissa, None all.
    """

    format: str
    layout: Layout
    classes: int
    joints: tuple[int | str | None, ...] = ()
    normal_form: str = "upright"
    metres: float = 1.0
    axes: tuple[int, int, int] = (1, 2, 3)
    max_frames: int = 300
    keepbits: int | None = None


class Window(NamedTuple):
    """A clip, or a part of it: `start` and `end` are frames of it (from 0, the last excluded), of
    `raw_frames` in all; `frames` (T, M, V, 3) are in normal form, made of the `bodies` (M, T, V, 3)
    that are kept, where `dropped` others are.
    """

    clip: Clip
    start: int
    end: int
    raw_frames: int
    dropped: int
    bodies: NDArray[np.float64]
    frames: NDArray[np.float32]


def make_clips(
    recording: Recording, recipe: Recipe, *, root: Path = Path(), every: int | None = None
) -> Iterator[Window | Broken]:
    """The clips of a recording in normal form, each whole or its central frames, or why it is
    broken; `root` is the folder that the archive's relative path starts from.

    With `every`, the windows of so many frames instead that follow one another in a clip; one with
    nobody in it has no frames.
    """
    layout, place = recipe.layout, recording.member.place
    rule = formats.load(recipe.format).BODIES
    normal_form = None if formats.is_prepared(recipe.format) else recipe.normal_form
    for clip, bodies in _read(recording, recipe, root):
        if isinstance(bodies, BrokenClip):
            stops = not isinstance(bodies, EmptyClip)
            yield Broken(clip.name, bodies.file or place, bodies.line, bodies.reason, stops)
            continue
        if recipe.joints:
            bodies = bodies[:, :, layout.order_of(recipe.joints)]
        if recipe.metres != 1 or recipe.axes != (1, 2, 3):
            axes = np.array(recipe.axes)
            bodies = bodies[..., abs(axes) - 1] * (np.sign(axes) * recipe.metres)
        raw_frames = bodies.shape[1]
        for start, end in _cut(raw_frames, recipe.max_frames, every):
            central = bodies[:, start:end]
            kept = choose_bodies(central, rule, layout.bodies)
            if kept.any():
                try:
                    frames = normalise(kept, layout, normal_form)
                except BrokenClip as error:
                    yield Broken(clip.name, clip.file or place, clip.line, error.reason)
                    continue
                if recipe.keepbits is not None:
                    frames = BitRound(recipe.keepbits).encode(frames).view(np.float32)
                dropped = _present(central) - _present(kept) if len(central) > len(kept) else 0
                yield Window(clip, start, end, raw_frames, dropped, kept, frames)
            elif every is not None:
                nothing = np.empty((0, layout.bodies, layout.joints, 3), np.float32)
                yield Window(clip, start, end, raw_frames, 0, kept, nothing)
            elif end - start < raw_frames:
                reason = f"no body in frames {start + 1} to {end} of {raw_frames:,}"
                yield Broken(clip.name, clip.file or place, clip.line, reason, stops=False)
            else:
                yield Broken(clip.name, place, None, "no body: all coordinates are zero")


def _read(recording: Recording, recipe: Recipe, root: Path) -> Iterator[Outcome]:
    """The clips of a recording with their bodies, as the format gives them."""
    try:
        data = archive.read(recording.member, root)
    except ArchiveError as error:
        return iter([(clip, BrokenClip(str(error))) for clip in recording.clips])
    layout = recipe.layout
    if recipe.joints:
        layout = replace(layout, joints=len(recipe.joints))
    return formats.read(
        recipe.format,
        data,
        recording,
        layout=layout,
        classes=recipe.classes,
        metres=recipe.metres,
    )


def _cut(frames: int, max_frames: int, every: int | None) -> list[tuple[int, int]]:
    """The first frames of windows of a clip and those after their last."""
    if every is None:
        start = max(frames - max_frames, 0) // 2
        return [(start, min(start + max_frames, frames))]
    return [(start, min(start + every, frames)) for start in range(0, frames, every)]


def _present(bodies: NDArray[np.float64]) -> int:
    """Count the bodies (M, T, V, 3) that are in some frame."""
    return int(bodies.any(axis=(1, 2, 3)).sum())


# ---- Groups --------------------------------------------------------------------------------------


class Counts(NamedTuple):
    """Counts that only the recordings tell: bodies of clips that are kept and not kept, frames
    without one that is kept, and for each joint whether any clip has it.
    """

    kept: int
    dropped: int
    empty_frames: int
    seen: list[bool]

    def plus(self, other: "Counts") -> "Counts":
        """Those of both."""
        return Counts(
            self.kept + other.kept,
            self.dropped + other.dropped,
            self.empty_frames + other.empty_frames,
            [mine or others for mine, others in zip(self.seen, other.seen, strict=True)],
        )


class Group(NamedTuple):
    """The clips of a group with their numbers of frames in the recording and in the store, the
    broken ones, and what was counted of the former.
    """

    clips: list[tuple[Clip, int, int]]
    broken: list[Broken]
    counts: Counts

    @property
    def frames(self) -> int:
        return sum(frames for _, _, frames in self.clips)


def read_group(
    recordings: list[Recording], recipe: Recipe, root: Path, keep: bool
) -> tuple[Group, NDArray[np.float32]]:
    """A group of recordings and the frames (F, M, V, 3) of its clips, one clip after the other;
    unless `keep`, only its broken clips.
    """
    keep_freed_memory(_KEPT)
    layout = recipe.layout
    clips: list[tuple[Clip, int, int]] = []
    broken: list[Broken] = []
    counts = Counts(0, 0, 0, [False] * layout.joints)
    prepared = formats.is_prepared(recipe.format) or recipe.normal_form == "upright"
    if prepared and isinstance(layout.centre, int):
        counts.seen[layout.centre] = True  # the origin, without which `upright` has no clip
    parts = [np.empty((0, layout.bodies, layout.joints, 3), np.float32)]
    for recording in recordings:
        for made in make_clips(recording, recipe, root=root):
            if isinstance(made, Broken):
                broken.append(made)
            elif keep:
                counts = counts.plus(_count(made, counts.seen))
                parts.append(made.frames)
                clips.append((made.clip, made.raw_frames, len(made.frames)))
    return Group(clips, broken, counts), np.concatenate(parts)


def _count(made: Window, seen: list[bool]) -> Counts:
    """The counts of a clip; joints are not looked for once all are `seen`. In the recording or in
    normal form, for a joint may be the origin of either.
    """
    present = np.asarray(made.bodies.any(axis=(2, 3)))
    if not all(seen):
        recorded, formed = (np.asarray(x.any(axis=(0, 1, 3))) for x in (made.bodies, made.frames))
        seen = (recorded | formed).tolist()
    empty_frames = present.shape[1] - int(np.count_nonzero(present.any(axis=0)))
    return Counts(int(np.count_nonzero(present.any(axis=1))), made.dropped, empty_frames, seen)

"""Read a group of recordings and normalise their clips: the task of a worker."""

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
from skeletons.archives.recordings import Broken, BrokenClip, Clip, EmptyClip, Recording, counted
from skeletons.clips.layout import Layout
from skeletons.preparing import format_checks
from skeletons.preparing.normalise import arrange, choose_bodies, normalise

_KEPT = 64 << 20  # bytes of freed memory: several times the largest array of a parsed text


class Task(NamedTuple):
    """What all groups share. `root` is the folder that relative paths of archives start from;
    `joints` are as in a dataset.
    """

    root: Path
    format: str
    layout: Layout
    classes: int
    max_frames: int
    keepbits: int | None
    joints: tuple[int | None, ...] = ()


class Counts(NamedTuple):
    """What only the recordings tell of clips: bodies that are kept and not kept of them, frames
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
    task: Task, recordings: list[Recording], keep: bool
) -> tuple[Group, NDArray[np.float32]]:
    """A group of recordings and the frames (F, M, V, 3) of its clips, one clip after the other;
    unless `keep`, only its broken clips.
    """
    keep_freed_memory(_KEPT)
    layout, module = task.layout, formats.load(task.format)
    prepared = formats.is_prepared(task.format)
    clips: list[tuple[Clip, int, int]] = []
    broken: list[Broken] = []
    counts = Counts(0, 0, 0, [False] * layout.joints)
    counts.seen[layout.centre] = prepared  # there it is the origin
    parts = [np.empty((0, layout.bodies, layout.joints, 3), np.float32)]
    for recording in recordings:
        for clip, outcome in _clips(task, module, recording):
            if isinstance(outcome, BrokenClip):
                stops = not isinstance(outcome, EmptyClip)
                file = outcome.file or recording.member.place
                broken.append(Broken(clip.name, file, outcome.line, outcome.reason, stops))
            elif keep:
                raw_frames, dropped, bodies = outcome
                counts = counts.plus(_count(dropped, bodies, counts.seen))
                part = arrange(bodies) if prepared else normalise(bodies, layout)
                if task.keepbits is not None:
                    part = BitRound(task.keepbits).encode(part).view(np.float32)
                parts.append(part)
                clips.append((clip, raw_frames, len(part)))
    return Group(clips, broken, counts), np.concatenate(parts)


def _count(dropped: int, bodies: NDArray[np.float64], seen: list[bool]) -> Counts:
    """The counts of a clip of which `bodies` (M, T, V, 3) are kept; joints are not looked for once
    all are `seen`.
    """
    present = np.asarray(bodies.any(axis=(2, 3)))
    if not all(seen):
        seen = np.asarray(bodies.any(axis=(0, 1, 3))).tolist()
    empty_frames = present.shape[1] - int(np.count_nonzero(present.any(axis=0)))
    return Counts(int(np.count_nonzero(present.any(axis=1))), dropped, empty_frames, seen)


def _present(bodies: NDArray[np.float64]) -> int:
    """How many of the bodies (M, T, V, 3) are in some frame."""
    return int(bodies.any(axis=(1, 2, 3)).sum())


def _clips(
    task: Task, module: formats.Format, recording: Recording
) -> Iterator[tuple[Clip, tuple[int, int, NDArray[np.float64]] | BrokenClip]]:
    """The clips of a recording, each with its number of frames, the number of bodies that are not
    kept of it, and those (M, T, V, 3) that are, or why it is broken.
    """
    try:
        data = archive.read(recording.member, task.root)
    except ArchiveError as error:
        for clip in recording.clips:
            yield clip, BrokenClip(str(error))
        return
    layout = replace(task.layout, joints=len(task.joints)) if task.joints else task.layout
    found = module.read(data, recording, layout=layout, classes=task.classes)
    for clip, bodies in format_checks.check_clips(
        found, task.format, recording, layout=layout, classes=task.classes, rule=module.BODIES
    ):
        if isinstance(bodies, BrokenClip):
            yield clip, bodies
            continue
        if task.joints:
            bodies = bodies[:, :, task.layout.order_of(task.joints)]
        frames = bodies.shape[1]
        start = max(frames - task.max_frames, 0) // 2
        central = bodies[:, start : start + task.max_frames]
        kept = choose_bodies(central, module.BODIES, task.layout.bodies)
        if kept.any():
            dropped = _present(central) - _present(kept) if len(central) > len(kept) else 0
            yield clip, (frames, dropped, kept)
        elif frames > task.max_frames:
            reason = f"no body in the central {task.max_frames} of {counted(frames, 'frame')}"
            yield clip, EmptyClip(reason, clip.line, clip.file)
        else:
            yield clip, BrokenClip("no body: all coordinates are zero")

"""Clips that are in no store, made of recordings as the stage prepare does, without labels."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from errors import UserError
from experiment.parameters.schema import Dataset
from learning.training.device_clips import DeviceClips
from skeletons import formats
from skeletons.archives import archive, zip_path
from skeletons.archives.archive import ArchiveError, Member
from skeletons.archives.recordings import Broken, BrokenClip, Clip, Recording
from skeletons.clips.layout import Layout
from skeletons.preparing import format_checks
from skeletons.preparing.normalise import choose_bodies, normalise
from skeletons.sensors import LAYOUTS


class Window(NamedTuple):
    """A recording, or a part of it: `start` and `end` are frames of it (from 0, the last excluded),
    `frames` (T, M, V, 3) the normalised clip.
    """

    recording: str
    start: int
    end: int
    frames: NDArray[np.float32]


def members(paths: Iterable[Path]) -> list[Member]:
    """The recordings that paths name: each is a recording, or an archive of nothing else.

    Raises UserError for a path that is neither.
    """
    found = []
    for path in paths:
        zipped, _ = zip_path.split(path)
        if path.is_dir() or zipped.suffix.lower() == ".zip":
            found += archive.members(path, "")
        elif path.is_file():
            status = path.stat()
            found.append(Member(str(path.parent), path.name, status.st_size, status.st_mtime_ns))
        else:
            raise UserError(f"{path}: no such recording or archive")
    return found


def windows(
    members: Iterable[Member], dataset: Dataset, *, max_frames: int, every: int | None
) -> Iterator[Window | Broken]:
    """The recordings as clips, each whole or its central `max_frames` frames, or why it is broken.

    With `every`, the windows of so many frames instead that follow one another, each a clip of its
    own; not those in which there is nobody.
    """
    module, layout = formats.load(dataset.format), LAYOUTS[dataset.layout]
    for member in members:
        recording = Recording(member, (Clip(member.stem, 0),))
        place = Path(member.place).as_posix()
        try:
            data = archive.read(member)
        except ArchiveError as error:
            yield Broken(member.stem, place, None, str(error))
            continue
        found = module.read(data, recording, layout=layout, classes=dataset.classes)
        for clip, bodies in format_checks.check_clips(
            found,
            dataset.format,
            recording,
            layout=layout,
            classes=dataset.classes,
            rule=module.BODIES,
        ):
            if isinstance(bodies, BrokenClip):
                yield Broken(clip.name, place, bodies.line, bodies.reason)
                continue
            for start, end in _cut(bodies.shape[1], max_frames, every):
                kept = choose_bodies(bodies[:, start:end], module.BODIES, layout.bodies)
                if kept.any():
                    yield Window(place, start, end, normalise(kept, layout))
                elif every is None:
                    yield Broken(clip.name, place, None, "no body: all coordinates are zero")


def _cut(frames: int, max_frames: int, every: int | None) -> list[tuple[int, int]]:
    if every is None:
        start = max(frames - max_frames, 0) // 2
        return [(start, min(start + max_frames, frames))]
    return [(start, min(start + every, frames)) for start in range(0, frames, every)]


def pack(clips: Sequence[NDArray[np.float32]], layout: Layout) -> DeviceClips:
    """Normalised clips (T, M, V, 3), on the CPU; their labels are unknown, and 0."""
    lengths = [0, *(len(clip) for clip in clips)]
    return DeviceClips(
        frames=torch.from_numpy(np.concatenate(clips)),
        offsets=torch.tensor(lengths).cumsum(0),
        labels=torch.zeros(len(clips), dtype=torch.int64),
        classes=1,
        layout=layout,
        device=torch.device("cpu"),
    )

"""Arrays as the generators of AGCN, and of SCD-Net and others after it, write them: a folder a
protocol, of clips that are prepared already.

Of a side of the protocol, `train` or `val`, there are `<side>_data_joint.npy`, float32 of the shape
(clips, 3, frames, joints, bodies), metres in normal form; `<side>_label.pkl`, the names of the
clips and their labels from 0; and `<side>_num_frame.npy`, the frames of each, beyond which its
bodies are repeated up to the array's. A side may be missing.

A name `SsssCcccPpppRrrrAaaa.skeleton` states setup, camera, subject and replication. The folder's
own sides are a split list of the folder's name.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from einops import rearrange

from skeletons.archives import npy, pickled
from skeletons.archives.archive import ArchiveError
from skeletons.archives.recordings import Broken, EmptyClip, Outcome, Recording, Source
from skeletons.clips.layout import Layout
from skeletons.formats.ntu import named

BODIES = "file"
PREPARED = True
SPLITS = True
_SIDES = {"train": 1, "val": 0}


def plan(source: Source) -> Iterator[Recording | Broken]:
    """The clips of the folders, and those whose label or frames are none.

    Raises ArchiveError for a folder that lacks a file, and a file that is not as above.
    """
    for folder in source.skeletons:
        sides = [side for side in _SIDES if any(folder.glob(f"{side}_*"))]
        if not sides:
            raise ArchiveError(
                f"{folder}: holds no train_data_joint.npy and no val_data_joint.npy; name the "
                "unpacked folder of one protocol"
            )
        for side in sides:
            yield from _side(folder, side, source.classes)


def read(data: bytes, recording: Recording, *, layout: Layout, classes: int) -> Iterator[Outcome]:
    """The recording's clip with its bodies (M, T, V, 3), as they are.

    Raises ArchiveError where the array has other joints or bodies than the layout.
    """
    (clip,) = recording.clips
    values = npy.numbers(data, recording.member)
    npy.check_joints(recording.member, values.shape[2], layout)
    if values.shape[3] > layout.bodies:
        raise ArchiveError(
            f"{recording.member.archive}: {values.shape[3]} bodies, where layout {layout.name} has "
            f"{layout.bodies}"
        )
    start, end = clip.rows or (0, values.shape[1])
    bodies = rearrange(values[:, start:end], "c t v m -> m t v c")
    if not bodies.any():
        raise EmptyClip("no body: all coordinates are zero")
    yield clip, bodies


def _side(folder: Path, side: str, classes: int) -> Iterator[Recording | Broken]:
    """The clips of one side of a folder."""
    path = folder / f"{side}_data_joint.npy"
    array = npy.open_npy(path)
    if array.dtype != np.float32 or len(array.shape) != 5 or array.shape[1] != 3:
        raise ArchiveError(
            f"{path}: {array.dtype} of shape {array.shape}, not float32 (clips, 3, frames, joints, "
            "bodies)"
        )
    names, numbers = _labels(folder / f"{side}_label.pkl")
    frames = _frames(folder / f"{side}_num_frame.npy")
    if not len(array) == len(names) == len(numbers) == len(frames):
        raise ArchiveError(
            f"{path}: {len(array)} clips, where its label file has {len(names)} names and "
            f"{len(numbers)} labels, and {side}_num_frame.npy {len(frames)} numbers"
        )
    for index, (name, label, count) in enumerate(zip(names, numbers, frames, strict=True)):
        member = array.clip(index, name)
        if not 0 <= label < classes:
            reason = f"unknown label {label}: the dataset has 0 to {classes - 1}"
            yield Broken(name, member.place, None, reason)
        elif count < 1:
            yield Broken(name, member.place, None, f"{count} frames")
        else:
            clip = named(name, label)._replace(
                rows=(0, min(count, array.shape[2])), sides=((folder.name, _SIDES[side]),)
            )
            yield Recording(member, (clip,))


def _labels(path: Path) -> tuple[list[str], list[int]]:
    """The names, without `.skeleton`, and the labels of a label file."""
    held = pickled.load(path)
    if not isinstance(held, tuple | list) or len(held) != 2:
        raise ArchiveError(f"{path}: not a pair, of names and labels")
    names, labels = (
        part.values().tolist() if isinstance(part, pickled.Array) else part for part in held
    )
    for values, kind, called in ((names, str, "names"), (labels, int, "whole numbers")):
        if not isinstance(values, list | tuple) or any(type(value) is not kind for value in values):
            raise ArchiveError(f"{path}: not a pair of names and labels: no list of {called}")
    return [name.removesuffix(".skeleton") for name in names], labels


def _frames(path: Path) -> list[int]:
    """The clips' numbers of frames."""
    if not path.exists():
        raise ArchiveError(
            f"{path}: no such file, and the arrays do not tell where a clip ends; the generator of "
            "SCD-Net or CTR-GCN's writes it"
        )
    array = npy.open_npy(path)
    if array.dtype.kind not in "iu" or len(array.shape) != 1:
        raise ArchiveError(f"{path}: {array.dtype} of shape {array.shape}, not integers (clips,)")
    return [int(count) for count in array.values()]

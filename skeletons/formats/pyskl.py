"""The pickle of pyskl and MMAction2 1.x with 3D skeletons: one file for all protocols.

It is a dict: `annotations` is a list of dicts, a clip each, of which are read `frame_dir`, the
name, `label`, the action from 0, and `keypoint`, a float array (bodies, frames, joints, 3) of
metres from the sensor, absent ones 0; an annotation may be None. `split` has lists of names, by
`xsub_train`, `xsub_val` and the like.

A name `SsssCcccPpppRrrrAaaa` states setup, camera, subject and replication. The pickle's own lists
are split lists, as `xsub`.
"""

import re
import reprlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from skeletons.archives import npy, pickled
from skeletons.archives.archive import ArchiveError
from skeletons.archives.recordings import (
    Broken,
    BrokenClip,
    Clip,
    EmptyClip,
    Outcome,
    Recording,
    Source,
)
from skeletons.clips.layout import Layout
from skeletons.formats.ntu import named

BODIES = "energy"  # the tool orders them by rules of its own
SPLITS = True
_LIST = re.compile(r"(?:(?P<name>[^/]+)_)?(?P<side>train|val|test)")


def plan(source: Source) -> Iterator[Recording | Broken]:
    """The clips of the pickles, and those that cannot be used. A pickle is read whole, and what it
    holds stays in memory.

    Raises ArchiveError for a file that is not as above.
    """
    for path in source.skeletons:
        content = pickled.load(path)
        if isinstance(content, list):
            old = any(isinstance(clip, dict) and "keypoint" in clip for clip in content[:1])
            raise ArchiveError(
                f"{path}: a list, as MMAction2 before 1.0 wrote it, of clips that are normalised "
                "already; get the pickle with split and annotations"
                if old
                else f"{path}: a list; is it raw_skes_data.pkl of CTR-GCN's tool, or the like? "
                "`format: ctrgcn` reads the npz that the tool makes of it"
            )
        if not isinstance(content, dict) or not isinstance(content.get("annotations"), list):
            raise ArchiveError(f"{path}: not a dict with a list of annotations")
        sides = _sides(path, content.get("split", {}))
        for index, annotation in enumerate(content["annotations"]):
            place = f"annotations[{index}]"
            if annotation is None:
                yield Broken(place, str(path), None, "its annotation is None", stops=False)
                continue
            try:
                clip, keypoint = _clip(path, place, annotation, source.classes)
            except BrokenClip as error:
                yield Broken(place, str(path), None, error.reason)
                continue
            clip = clip._replace(sides=tuple(sides.get(clip.name, {}).items()))
            member = npy.held(keypoint.data, str(path), clip.name, keypoint.dtype, keypoint.shape)
            yield Recording(member, (clip,))


def read(data: bytes, recording: Recording, *, layout: Layout, classes: int) -> Iterator[Outcome]:
    """The recording's clip with its bodies (M, T, V, 3).

    Raises ArchiveError where it has other joints than the layout.
    """
    bodies = npy.numbers(data, recording.member)
    npy.check_joints(recording.member, bodies.shape[2], layout)
    if not bodies.any():
        raise EmptyClip("no body: all coordinates are zero")
    yield recording.clips[0], bodies


def _sides(path: Path, lists: Any) -> dict[str, dict[str, int]]:
    """The side, 1 train or 0 test, of each clip by the split lists that have it."""
    sides: dict[str, dict[str, int]] = {}
    if not isinstance(lists, dict):
        raise ArchiveError(f"{path}: its split is not a dict of lists of names")
    for key, names in lists.items():
        form = _LIST.fullmatch(key) if isinstance(key, str) else None
        if not form or not isinstance(names, list | tuple):
            continue
        if not all(isinstance(name, str) for name in names):
            raise ArchiveError(f"{path}: its split {key} is not a list of names")
        split, side = form["name"] or path.name, int(form["side"] == "train")
        for name in names:
            if sides.setdefault(name, {}).setdefault(split, side) != side:
                raise ArchiveError(f"{path}: {name} is on both sides of the split {split}")
    return sides


def _clip(path: Path, place: str, annotation: Any, classes: int) -> tuple[Clip, pickled.Array]:
    """A clip and its keypoints. Raises ArchiveError where the file is of another kind, BrokenClip
    where only this annotation is at fault.
    """
    if not isinstance(annotation, dict):
        raise BrokenClip("its annotation is not a dict")
    name, label = annotation.get("frame_dir"), annotation.get("label")
    keypoint = annotation.get("keypoint")
    if not isinstance(name, str) or not name:
        raise BrokenClip("its annotation has no frame_dir, the clip's name")
    if type(label) is not int or not 0 <= label < classes:
        raise BrokenClip(
            f"unknown label {reprlib.repr(label)} of {name}: the dataset has 0 to {classes - 1}"
        )
    if not isinstance(keypoint, pickled.Array) or keypoint.dtype.kind != "f":
        raise BrokenClip(f"the keypoint of {name} is not an array of floats")
    shape = keypoint.shape
    if "keypoint_score" in annotation or (len(shape) == 4 and shape[-1] == 2 and shape[0] != 3):
        raise ArchiveError(
            f"{path}: {place} ({name}) has 2D keypoints, found in pictures; skeletons have x, y, z"
        )
    if len(shape) == 4 and shape[0] == 3 and shape[-1] in (1, 2):
        raise ArchiveError(
            f"{path}: {place} ({name}) has keypoints {shape}, as MMAction2 before 1.0 wrote them, "
            "normalised already; get the pickle whose keypoints are (bodies, frames, joints, 3)"
        )
    if len(shape) != 4 or shape[-1] != 3 or 0 in shape:
        raise BrokenClip(f"the keypoint of {name} is {shape}, not (bodies, frames, joints, 3)")
    return named(name, label), keypoint

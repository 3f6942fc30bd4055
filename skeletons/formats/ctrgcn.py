"""Arrays as CTR-GCN's generator, and those after it, write them: one npz a protocol.

It holds, not compressed, `x_train`, `y_train`, `x_test` and `y_test`: x is float32 of the shape
(clips, frames, values), in a frame x, y, z in metres of the joints of two bodies, zeros when
absent, less the spine of the first body in its first frame; y is one-hot (clips, classes). A side
may have no clip. Frames after a clip's last are zero.

Names of clips are lost. They are called by file, side and place, `NTU60_CS-train-000017`; the
file's own sides are a split list of the file's name.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from einops import rearrange
from numpy.typing import NDArray

from skeletons.archives import npy
from skeletons.archives.archive import ArchiveError
from skeletons.archives.recordings import Broken, BrokenClip, Clip, EmptyClip, Recording
from skeletons.clips.layout import Layout

BODIES = "energy"  # the generator orders them by rules of its own
SPLITS = True
_SIDES = {"train": 1, "test": 0}
_PEOPLE = 2
_AWAY = np.array([0.0, 0.0, 3.0])  # metres: a person before a sensor


def plan(
    skeletons: Sequence[Path], labels: Sequence[Path], *, classes: int, interval: str
) -> tuple[list[Recording], list[Broken]]:
    """The clips of the files, sorted by name, and those without a label.

    `labels` and `interval` are for other formats. Raises ArchiveError for a file that is not as
    above.
    """
    recordings, broken = [], []
    for path in sorted(skeletons, key=lambda path: path.stem):
        arrays = npy.open_npz(path)
        for side in ("test", "train"):  # as names are sorted
            array, classes_of = _side(path, arrays, side, classes)
            for index, label in enumerate(classes_of):
                name = f"{path.stem}-{side}-{index:06}"
                member = array.clip(index, name)
                if label is None:
                    reason = f"no label: y_{side}[{index}] is not one-hot"
                    broken.append(Broken(name, member.place, None, reason))
                    continue
                clip = Clip(name, label, sides=((path.name, _SIDES[side]),))
                recordings.append(Recording(member, (clip,)))
    return sorted(recordings, key=lambda recording: recording.clips[0].name), broken


def read(
    data: bytes, recording: Recording, *, layout: Layout, classes: int
) -> Iterator[tuple[Clip, NDArray[np.float64] | BrokenClip]]:
    """The recording's clip with its bodies (2, T, V, 3), or why it is broken.

    They are moved away from the origin, where their first joint is: a joint whose coordinates sum
    to 0 is an absent one. Raises ArchiveError where the array has other joints than the layout.
    """
    (clip,) = recording.clips
    try:
        values = npy.numbers(data, recording.member)
        joints, rest = divmod(values.shape[-1], _PEOPLE * 3)
        if rest:
            raise ArchiveError(
                f"{recording.member.archive}: {values.shape[-1]} values a frame are not x, y, z of "
                f"the joints of {_PEOPLE} bodies"
            )
        npy.check_joints(recording.member, joints, layout)
        bodies = rearrange(values, "t (m v c) -> m t v c", m=_PEOPLE, c=3)
        present = bodies.any(axis=(2, 3))
        if not present.any():
            raise EmptyClip("no body: all coordinates are zero")
    except BrokenClip as error:
        yield clip, error
    else:
        bodies[present] += _AWAY
        yield clip, bodies[:, : np.flatnonzero(present.any(axis=0))[-1] + 1]


def _side(
    path: Path, arrays: dict[str, npy.Array], side: str, classes: int
) -> tuple[npy.Array, list[int | None]]:
    """The clips of one side and their labels, None where there is none."""
    lacking = [name for name in (f"x_{side}", f"y_{side}") if name not in arrays]
    if lacking:
        there = ", ".join(arrays)
        raise ArchiveError(f"{path}: holds no {' and no '.join(lacking)}, but {there}")
    x, y = arrays[f"x_{side}"], arrays[f"y_{side}"]
    if x.dtype != np.float32 or len(x.shape) != 3:
        raise ArchiveError(
            f"{path}: x_{side} is {x.dtype} of shape {x.shape}, not float32 (clips, frames, values)"
        )
    if len(y.shape) != 2 or y.dtype.kind not in "biuf":
        raise ArchiveError(
            f"{path}: y_{side} is {y.dtype} of shape {y.shape}, not one-hot (clips, classes)"
        )
    if len(x) != len(y):
        raise ArchiveError(f"{path}: {len(x)} clips in x_{side} and {len(y)} labels in y_{side}")
    if y.shape[1] != classes:
        raise ArchiveError(
            f"{path}: y_{side} has {y.shape[1]} classes, where the dataset's file says {classes}"
        )
    hot = y.values()
    one = (np.count_nonzero(hot, axis=1) == 1) & (hot.max(axis=1, initial=0) == 1)
    labels = np.where(one, hot.argmax(axis=1), -1).tolist()
    return x, [None if label < 0 else label for label in labels]

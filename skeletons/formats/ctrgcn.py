"""Arrays as CTR-GCN's generator, and those after it, write them: one npz a protocol.

It holds, not compressed, `x_train`, `y_train`, `x_test` and `y_test`: x is float32 of the shape
(clips, frames, values), in a frame x, y, z in metres of the joints of two bodies, zeros when
absent, less the spine of the first body in its first frame; y is one-hot (clips, classes). A side
may have no clip. Frames after a clip's last are zero.

Names of clips are lost. They are called by file, side and place, `NTU60_CS-train-000017`; the
file's own sides are a split list of the file's name.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from einops import rearrange

from skeletons.archives import npy
from skeletons.archives.archive import ArchiveError
from skeletons.archives.recordings import Broken, Clip, EmptyClip, Outcome, Recording, Source
from skeletons.clips.layout import Layout

BODIES = "energy"  # the generator orders them by rules of its own
SPLITS = True
_SIDES = {"train": 1, "test": 0}
_PEOPLE = 2
_AWAY = np.array([0.0, 0.0, 3.0])  # metres: a person before a sensor


def plan(source: Source) -> Iterator[Recording | Broken]:
    """The clips of the files, and those without a label.

    Raises ArchiveError for a file that is not as above.
    """
    for path in source.skeletons:
        arrays = npy.open_npz(path)
        for side, number in _SIDES.items():
            array, labels = _side(path, arrays, side, source.classes)
            for index, label in enumerate(labels):
                name = f"{path.stem}-{side}-{index:06}"
                member = array.clip(index, name)
                if label is None:
                    reason = f"no label: y_{side}[{index}] is not one-hot"
                    yield Broken(name, member.place, None, reason)
                else:
                    yield Recording(member, (Clip(name, label, sides=((path.name, number),)),))


def read(data: bytes, recording: Recording, *, layout: Layout, classes: int) -> Iterator[Outcome]:
    """The recording's clip with its bodies (2, T, V, 3).

    They are moved away from the origin, where their first joint is: a joint whose coordinates sum
    to 0 is an absent one. Raises ArchiveError where the array has other joints than the layout.
    """
    values = npy.numbers(data, recording.member)
    joints, rest = divmod(values.shape[-1], _PEOPLE * 3)
    if rest:
        raise ArchiveError(
            f"{recording.member.archive}: {values.shape[-1]} values a frame are not x, y, z of the "
            f"joints of {_PEOPLE} bodies"
        )
    npy.check_joints(recording.member, joints, layout)
    bodies = rearrange(values, "t (m v c) -> m t v c", m=_PEOPLE, c=3)
    present = bodies.any(axis=(2, 3))
    if not present.any():
        raise EmptyClip("no body: all coordinates are zero")
    bodies[present] += _AWAY
    yield recording.clips[0], bodies[:, : np.flatnonzero(present.any(axis=0))[-1] + 1]


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

"""The raw formats, a module each: what its archives hold and how they are read.

A module in this folder is a format under its own name; nothing else lists the formats.
"""

import importlib
import pkgutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from errors import UserError
from skeletons.archives.recordings import Broken, BrokenClip, Clip, Recording
from skeletons.clips.layout import Layout


class Format(Protocol):
    """What the module of a raw format offers.

    `BODIES` says which bodies a prepared clip has when a recording may have more than the layout:
    "energy", those of the largest energy, or "file", the first in the order of the file.

    Three more are false where a module does not have them: `PREPARED`, the clips are in normal form
    already, so that they are cut and not normalised again; `SPLITS`, the archives themselves state
    sides of protocols (`Clip.sides`); `COLUMNS`, the clips have columns of their own
    (`Clip.columns`).
    """

    BODIES: str
    COLUMNS: bool

    def plan(
        self, skeletons: Sequence[Path], labels: Sequence[Path], *, classes: int, interval: str
    ) -> tuple[list[Recording], list[Broken]]:
        """The recordings of the archives, sorted by clip, and those whose names tell that they
        cannot be used. No recording is read, unless all are one file that must be read whole. A
        label that only the recording states is 0.

        `labels` are archives of label files, where the format has them. `interval` says which rows
        of a long video a label means, "half_open" or "inclusive". Raises ArchiveError for an
        unreadable archive.
        """
        ...

    def read(
        self, data: bytes, recording: Recording, *, layout: Layout, classes: int
    ) -> Iterator[tuple[Clip, NDArray[np.float64] | BrokenClip]]:
        """The clips of a recording, whose bytes are `data`, in their order: each with its bodies
        (M, T, V, 3) in metres from the sensor, absent ones 0, or why it is broken.

        T is at least 1, M at most the layout's bodies where `BODIES` is "file". Raises nothing for
        whatever the bytes are; ArchiveError where all clips of an archive are of another layout.
        """
        ...


RULES = ("energy", "file")
NAMES = tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def is_prepared(name: str) -> bool:
    """Whether the clips of a format are in normal form already."""
    return bool(getattr(load(name), "PREPARED", False))


def states_splits(name: str) -> bool:
    """Whether archives of a format themselves state sides of protocols."""
    return bool(getattr(load(name), "SPLITS", False))


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


def has_columns(name: str) -> bool:
    """Whether protocols can speak of more than subject, camera, setup and replication; UserError
    as for `load`.
    """
    return bool(getattr(load(name), "COLUMNS", False))

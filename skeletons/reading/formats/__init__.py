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

from skeletons.layout import Layout
from skeletons.reading.recording import Broken, BrokenClip, Clip, Recording


class Format(Protocol):
    """What the module of a raw format offers."""

    def plan(
        self, skeletons: Sequence[Path], labels: Sequence[Path], *, classes: int, interval: str
    ) -> tuple[list[Recording], list[Broken]]:
        """The recordings of the archives, sorted by clip, and those whose names tell that they
        cannot be used. No recording is read.

        `labels` are archives of label files, where the format has them. `interval` says which rows
        of a long video a label means, "half_open" or "inclusive". Raises ArchiveError for an
        unreadable archive.
        """
        ...

    def read(
        self, data: bytes, recording: Recording, *, layout: Layout, classes: int, max_frames: int
    ) -> Iterator[tuple[Clip, int, NDArray[np.float64] | BrokenClip]]:
        """The clips of a recording, whose bytes are `data`: each with its number of frames and its
        bodies (M, T, V, 3) in metres, absent ones 0, or why it is broken.

        M is at most the layout's bodies. Of a clip that is cut from a video the central
        `max_frames` are kept. Raises nothing for whatever the bytes are.
        """
        ...


NAMES = tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def load(name: str) -> Format:
    """The module of a format; ValueError when there is none of this name."""
    if name not in NAMES:
        raise ValueError(f"unknown format {name!r}: there are {', '.join(NAMES)}")
    return cast(Format, importlib.import_module(f"{__name__}.{name}"))

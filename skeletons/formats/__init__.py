"""The raw formats, a module each: what its archives hold, how they are read, how they are made up.

A module in this folder is a format under its own name; nothing else lists the formats or tells one
from another.
"""

import importlib
import pkgutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from skeletons import synthetic
from skeletons.layout import Layout
from skeletons.recording import Broken, BrokenClip, Clip, Recording
from skeletons.synthetic import Progress


class Format(Protocol):
    """What the module of a raw format offers.

    `COUNTS` are the numbers that only its made-up archives have, each from 1 to 99, and what they
    mean: parameters of `make_up`, and keys of a dataset's `synthetic` in params.yaml.
    """

    COUNTS: Mapping[str, str]

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

    def make_up(
        self,
        layout: Layout,
        *,
        seed: int,
        actions: int,
        subjects: int,
        cameras: int,
        frames: tuple[int, int],
        noise: float,
        progress: Progress = iter,
        **counts: Any,
    ) -> Iterator[synthetic.Clip]:
        """Made-up recordings, sorted by name.

        There are `actions` done by `subjects` people before `cameras`; `frames` are the least and
        the most of an action, `noise` is the sensor's standard deviation in metres, `counts` are
        those of `COUNTS`. `progress` is given the recordings to make and hands them on. Raises
        ValueError for a number that makes no sense.
        """
        ...

    def write(
        self,
        folder: Path,
        layout: Layout,
        clips: Iterable[synthetic.Clip],
        *,
        skeletons: Sequence[str],
        labels: Sequence[str],
        splits: Sequence[str],
    ) -> None:
        """Write made-up recordings into archives and split lists of these names, which are those
        of a dataset, relative to the folder.
        """
        ...


NAMES = tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def load(name: str) -> Format:
    """The module of a format; ValueError when there is none of this name."""
    if name not in NAMES:
        raise ValueError(f"unknown format {name!r}: there are {', '.join(NAMES)}")
    return cast(Format, importlib.import_module(f"{__name__}.{name}"))

"""Synthetic recordings, and the module of each format that writes them into archives.

A module here other than `figure` generates what the reader of the same name reads; a reader needs
none.
"""

import importlib
import pkgutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

from skeletons.layout import Layout
from skeletons.synthetic.figure import Progress, Take


class Generator(Protocol):
    """What the module of a format offers.

    `COUNTS` are the numbers that only its archives have, each from 1 to 99, and what they mean:
    parameters of `generate`, and keys of a dataset's `synthetic`.
    """

    COUNTS: Mapping[str, str]

    def generate(
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
    ) -> Iterator[Take]:
        """Synthetic recordings, sorted by name.

        There are `actions` done by `subjects` people before `cameras`; `frames` are the least and
        the most of an action, `noise` is the sensor's standard deviation in metres, `counts` are
        those of `COUNTS`. `progress` is given the recordings to generate and hands them on. Raises
        ValueError for a number that makes no sense.
        """
        ...

    def write(
        self,
        folder: Path,
        layout: Layout,
        takes: Iterable[Take],
        *,
        skeletons: Sequence[str],
        labels: Sequence[str],
        splits: Sequence[str],
    ) -> None:
        """Write recordings into archives and split lists of these names, which are those of a
        dataset, relative to the folder.
        """
        ...


NAMES = tuple(sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name != "figure"))


def load(format: str) -> Generator:
    """The generator of a format's archives; ValueError when it has none."""
    if format not in NAMES:
        raise ValueError(f"format {format!r} has no synthetic archives: {', '.join(NAMES)} have")
    return cast(Generator, importlib.import_module(f"{__name__}.{format}"))

"""Synthetic recordings, and the module of each format that writes them into archives.

A module here that is named like a format generates what the reader of that name reads; a reader
needs none. The others are what generators share: a `figure` of a person, its `motion`, the `sensor`
that records it and the `archive` that is written.
"""

import importlib
import pkgutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

from errors import UserError
from skeletons.clips.layout import Layout
from skeletons.synthetic.sensor import Progress, Session, Take


class Generator(Protocol):
    """The module of a format.

    `COUNTS` are the numbers that only its archives have, each from 1 to 99, and what they mean:
    parameters of `generate`, and keys of a dataset's `synthetic`.
    """

    COUNTS: Mapping[str, str]

    def generate(
        self, layout: Layout, session: Session, *, progress: Progress = iter, **counts: Any
    ) -> Iterator[Take]:
        """Recordings of a session, sorted by name; `counts` are those of `COUNTS`.

        `progress` is given the recordings to generate and hands them on. Raises UserError for a
        number that makes no sense.
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
        """Write recordings into archives and split lists of these names, as a dataset has them,
        below a folder; several archives take turns.
        """
        ...


_SHARED = ("archive", "figure", "motion", "sensor")
NAMES = tuple(sorted({m.name for m in pkgutil.iter_modules(__path__)} - set(_SHARED)))


def load(format: str) -> Generator:
    """The generator of a format's archives; UserError when it has none."""
    if format not in NAMES:
        raise UserError(f"format {format!r} has no synthetic archives: {', '.join(NAMES)} have")
    return cast(Generator, importlib.import_module(f"{__name__}.{format}"))

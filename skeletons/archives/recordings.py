"""Clips, the recordings that they are cut from, and broken clips: common to all raw formats."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from skeletons.archives import archive
from skeletons.archives.archive import Member

FARTHEST = 100.0  # metres from the sensor, which sees no skeleton beyond ten
LARGEST_RAW = 1000 * FARTHEST  # which may be in millimetres
OTHER_SENSOR = "is it another sensor (`layout`), or in need of `archives.joints`?"
PERSON = (0.5, 2.5)  # metres from the lowest to the highest joint: a small child to a raised arm
LONGEST = 18_000  # frames of a clip: ten minutes at the sensor's 30 a second


class BrokenClip(Exception):
    """A clip that cannot be used: the reason, the line (from 1) and the file, when it is not the
    recording itself.
    """

    def __init__(self, reason: str, line: int | None = None, file: str = "") -> None:
        super().__init__(reason, line, file)
        self.reason, self.line, self.file = reason, line, file


class EmptyClip(BrokenClip):
    """A clip without a skeleton, which its dataset is known to contain: left out and reported,
    never an error.
    """


class Clip(NamedTuple):
    """One clip and its fields in the dataset. `label` is 0-based; what a format does not know, or
    not before the recording is read, is 0.

    `rows` are the frames of the recording that the clip is cut from (0-based, or by their numbers
    where the format has them; the last excluded), None for all; `file` and `line` say where that
    was read, when not in the recording. `sides` are the split lists that the archives state and the
    clip's side in each: 1 train, 0 test, -1 neither. `columns` are what a protocol can speak of
    besides, whole numbers or words under names of the dataset's own: (name, value) pairs, the same
    names in every clip.
    """

    name: str
    label: int
    subject: int = 0
    camera: int = 0
    setup: int = 0
    replication: int = 0
    rows: tuple[int, int] | None = None
    file: str = ""
    line: int | None = None
    sides: tuple[tuple[str, int], ...] = ()
    columns: tuple[tuple[str, int | str], ...] = ()


class Recording(NamedTuple):
    """A file of an archive, or a clip's place in an array, and the clips that are cut from it."""

    member: Member
    clips: tuple[Clip, ...]


# A clip with its bodies (M, T, V, 3), in metres from the sensor, or why it is broken.
Outcome = tuple[Clip, NDArray[np.float64] | BrokenClip]


@dataclass(frozen=True)
class Source:
    """The archives of a dataset that has so many `classes`: `skeletons` hold the recordings;
    `labels` the label files and `splits` are the split lists, where the format has them. `options`
    are settings of one format, by name.
    """

    skeletons: Sequence[Path]
    classes: int
    labels: Sequence[Path] = ()
    splits: Sequence[Path] = ()
    options: Mapping[str, str] = field(default_factory=dict)

    def members(self, suffix: str) -> Iterator[Member]:
        """The files with recordings, by the ends of their names, as `archive.members`."""
        return (member for path in self.skeletons for member in archive.members(path, suffix))


class Broken(NamedTuple):
    """A clip that was left out, as reported: its file, the line in it (None: the whole file) and
    the reason.
    """

    clip: str
    file: str
    line: int | None
    reason: str
    stops: bool = True

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}, line {self.line}"
        return f"{self.clip}: {place}: {self.reason}"


def listed(broken: Sequence[Broken]) -> list[str]:
    """Broken clips for a message: the first of each reason, a line each, and how many more, whose
    reasons differ in numbers at most.
    """
    same: dict[str, list[Broken]] = {}
    for entry in broken:
        same.setdefault(re.sub(r"[\d.,]*\d", "0", entry.reason), []).append(entry)
    return [
        f"{first}; {len(more):,} more like it" if more else f"{first}"
        for first, *more in same.values()
    ]


def counted(number: int, noun: str) -> str:
    """A number of things for a message: "1 value", "2,000 values"."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def unit_doubt(height: float) -> str:
    """Why a body of this height in metres is no person, and the factor that would make one of it;
    empty where it may be one.
    """
    low, high = PERSON
    if low <= height <= high:
        return ""
    unit = "are these image coordinates?"
    for factor in (10, 100, 1000):
        if low <= height / factor <= high:
            key = {100: "archives.unit: cm", 1000: "archives.unit: mm"}.get(factor, "archives.unit")
            unit = f"divide by {factor:,} ({key})"
        elif low <= height * factor <= high:
            unit = f"multiply by {factor:,} (archives.unit)"
    return f"where a person is {low} to {high} m: {unit}"

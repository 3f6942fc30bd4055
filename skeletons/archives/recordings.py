"""What all raw formats have: clips, the recordings they are cut from, and broken clips."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from skeletons.archives.archive import Member
from skeletons.archives.text import Words

FARTHEST = 100.0  # metres from the sensor, which sees no skeleton beyond ten
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
    was read, when not in the recording. `sides` are the split lists that the archive itself states
    and the clip's side in each, 1 train or 0 test. `columns` are what a protocol can speak of
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
    """A file of an archive, or a clip's place in an array, and the clips that are cut from it,
    sorted by name.
    """

    member: Member
    clips: tuple[Clip, ...]


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


def counted(number: int, noun: str) -> str:
    """A number of things for a message: "1 value", "2,000 values"."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def table(data: bytes, columns: int) -> tuple[Words, NDArray[np.int64], NDArray[np.int64]]:
    """The words of a text of so many words a line, and where each starts and ends: (lines, columns)
    each.

    Raises BrokenClip for a text without a word and for a line of another number of words; blank
    lines may follow the last.
    """
    words = Words(data)
    if not words.first[-1]:
        raise BrokenClip("0 frames", 1)
    counts = words.counts[: int(np.flatnonzero(words.counts)[-1]) + 1]
    wrong = counts != columns
    if wrong.any():
        line = int(np.argmax(wrong))
        number = counted(int(counts[line]), "value")
        raise BrokenClip(f"{number} where {columns} are due", line + 1)
    starts, ends = (places.reshape(-1, columns) for places in words.all)
    return words, starts, ends


def coordinates(
    words: Words, starts: NDArray[np.int64], ends: NDArray[np.int64]
) -> NDArray[np.float64]:
    """These words as metres, of the same shape. Raises BrokenClip for one that is not, or beyond
    `FARTHEST`.
    """
    numbers = words.floats(starts, ends)
    if not max(numbers.max(initial=0), -numbers.min(initial=0)) < FARTHEST:  # NaN is not below
        valid = np.abs(numbers) < FARTHEST
        start, end = (int(places.flat[int(np.argmin(valid))]) for places in (starts, ends))
        reason = f"the coordinate {words.quote(start, end)} is not metres"
        raise BrokenClip(reason, words.line(start))
    return numbers

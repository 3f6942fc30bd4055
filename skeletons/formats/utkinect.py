"""The text of UTKinect-Action3D: one file a recording, clips cut from it by a label file.

A recording `joints_sSS_eEE.txt` (subject, execution) has a line a frame: its number, then x, y, z
in metres of the joints of Kinect v1. Numbers ascend, with gaps; some stand twice, of which the
first counts. `actionLabel.txt` has a block a recording: a line `sSS_eEE`, then lines
`walk: 252 390`, an action with the numbers of its first and its last frame, for which the nearest
ones are taken, or `carry: NaN NaN` for one that is not there. A clip is `sSS_eEE_walk`.

A clip is valid when its line is such a line, within the recording, and all lines of the recording
are whole, with numbers that ascend and coordinates within `LARGEST_RAW`.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from skeletons.archives import archive
from skeletons.archives.recordings import (
    Broken,
    BrokenClip,
    Clip,
    EmptyClip,
    Outcome,
    Recording,
    Source,
)
from skeletons.archives.text import coordinates, table
from skeletons.clips.layout import Layout

BODIES = "file"
ACTIONS = (
    *("walk", "sitDown", "standUp", "pickUp", "carry"),
    *("throw", "push", "pull", "waveHands", "clapHands"),
)
_LABELS = "actionLabel.txt"
_RECORDING = re.compile(r"joints_(s\d\d_e\d\d)", re.ASCII)
_BLOCK = re.compile(r"s(\d\d)_e(\d\d)", re.ASCII)
_LINE = re.compile(r"(\w+):\s*(\d{1,6}|NaN)\s+(\d{1,6}|NaN)", re.ASCII)
_TYPOS = {("s03_e01_push", "2556"): "3556"}  # of the owners' file


def plan(source: Source) -> Iterator[Recording | Broken]:
    """The recordings of the archives with the clips of the label file, and what cannot be used.

    The label file may lie beside the recordings. A block without its recording is passed over.
    """
    clips: dict[str, dict[str, Clip]] = defaultdict(dict)
    for file, number, block, line in _lines(source.labels):
        try:
            clip = _clip(block, line, ACTIONS[: source.classes])._replace(file=file, line=number)
            if clip.name in clips[block]:
                raise BrokenClip(f"line {clips[block][clip.name].line} has this clip too")
        except BrokenClip as error:
            stops = not isinstance(error, EmptyClip)
            name = f"{block}_{line.partition(':')[0]}"
            yield Broken(name, file, number, error.reason, stops)
        else:
            clips[block][clip.name] = clip
    for member in source.members(".txt"):
        stem = _RECORDING.fullmatch(member.stem)
        if stem and clips[stem[1]]:
            yield Recording(member, tuple(clips[stem[1]].values()))
        elif not member.stem.startswith("actionLabel"):
            reason = f"no clip of it in {_LABELS}" if stem else "the name is not joints_sSS_eEE"
            yield Broken(member.stem, member.place, None, reason)


def read(data: bytes, recording: Recording, *, layout: Layout, classes: int) -> Iterator[Outcome]:
    """The recording's clips, each with its body (1, T, V, 3), or why it is broken."""
    numbers, body = parse(data, joints=layout.joints)
    for clip in recording.clips:
        first, last = numbers[[0, -1]] if clip.rows is None else (clip.rows[0], clip.rows[1] - 1)
        if first < numbers[0] or last > numbers[-1]:
            reason = f"the recording has frames {numbers[0]:.0f} to {numbers[-1]:.0f}"
            yield clip, BrokenClip(reason, clip.line, clip.file)
        else:
            start, end = (int(np.abs(numbers - number).argmin()) for number in (first, last))
            yield clip, body[None, start : end + 1]


def parse(data: bytes, *, joints: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The numbers (T) of a recording's frames, each once, and the body (T, V, 3) in metres.

    Raises BrokenClip, and nothing else, for whatever is not a valid recording.
    """
    words, starts, ends = table(data, 1 + 3 * joints)
    numbers = words.floats(starts[:, 0], ends[:, 0])
    follows = np.diff(numbers, prepend=0) >= 0  # NaN compares as False
    if not follows.all():
        row = int(np.argmin(follows))
        number = words.quote(int(starts[row, 0]), int(ends[row, 0]))
        raise BrokenClip(f"{number} is not a frame number, or below the one before", row + 1)
    body = coordinates(words, starts[:, 1:], ends[:, 1:]).reshape(-1, joints, 3)
    numbers, first = np.unique(numbers, return_index=True)
    return numbers, body[first]


def _lines(labels: Sequence[Path]) -> Iterator[tuple[str, int, str, str]]:
    """The lines of the label files in the blocks of recordings: file, number, block and line."""
    for member, text in archive.texts(labels, _LABELS.lower()):
        block = ""
        for number, line in enumerate(map(str.strip, text.splitlines()), 1):
            if _BLOCK.fullmatch(line):
                block = line
            elif line:
                yield member.place, number, block, line


def _clip(block: str, line: str, actions: Sequence[str]) -> Clip:
    """The clip of a line in the block of a recording; BrokenClip when there is none."""
    of, words = _BLOCK.fullmatch(block), _LINE.fullmatch(line)
    if not of or not words:
        raise BrokenClip(f"{line[:40]!r} is not action: first last, below a line sSS_eEE")
    action, first, last = words.groups()
    name = f"{block}_{action}"
    if action not in actions:
        raise BrokenClip(f"unknown action {action!r}: there are {', '.join(actions)}")
    if first == last == "NaN":
        raise EmptyClip("it has no frames")
    first = _TYPOS.get((name, first), first)
    if "NaN" in (first, last):
        raise BrokenClip(f"{line[:40]!r} has one frame number; it needs both")
    if int(first) > int(last):
        raise BrokenClip(f"first {first} is after last {last}")
    subject, execution = map(int, of.groups())
    rows = (int(first), int(last) + 1)
    return Clip(name, actions.index(action), subject, replication=execution, rows=rows)

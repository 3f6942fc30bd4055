"""The text of PKU-MMD phase I and II: one file a long video, clips cut from it by its label file.

A video `NNNN-V.txt` (phase I) or `AxxNyy-V.txt` (phase II: yy is the subject; V is the view L, M or
R, cameras 1 to 3) has a line a frame: x, y, z in metres of the joints of body 1, then of body 2,
zeros when absent. The label file of the same name has lines `action,start,end,confidence`, action
from 1. A clip is named by its video and its place in the label file.

A clip is valid when all lines of its video have their number of values, blank lines at the end
aside, and its own are numbers within `LARGEST_RAW`.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from errors import UserError
from skeletons.archives import archive
from skeletons.archives.archive import ArchiveError
from skeletons.archives.recordings import (
    Broken,
    BrokenClip,
    Clip,
    EmptyClip,
    Outcome,
    Recording,
    Source,
)
from skeletons.archives.text import Words, coordinates, table
from skeletons.clips.layout import Layout

BODIES = "file"
INTERVALS = ("half_open", "inclusive")
_NAME = re.compile(r"(?:\d+|A\d+N(?P<subject>\d+))-(?P<view>[LMR])", re.ASCII)
_VIEWS = "LMR"
_INTEGER = re.compile(r"\s*-?\d{1,9}\s*", re.ASCII)


def plan(source: Source) -> Iterator[Recording | Broken]:
    """The videos of the archives with the clips of their label files, and what cannot be used.

    The option `interval` says which rows of the video `start,end` mean: "half_open" [start, end)
    counted from 0, "inclusive" start to end counted from 1. A label file without its video is
    passed over, as videos may be had in parts. Raises ArchiveError for an unreadable archive, label
    file or split list.
    """
    interval = source.options.get("interval", INTERVALS[0])
    if interval not in INTERVALS:
        raise UserError(f"interval {interval!r} is none of {', '.join(INTERVALS)}")
    files: dict[str, tuple[archive.Member, str]] = {}
    for member, text in archive.texts(source.labels, ".txt"):
        if member.stem in files:
            first = files[member.stem][0].place
            raise ArchiveError(f"{member.place}: {first} has this name too; remove one")
        files[member.stem] = member, text
    lists = {path.name: split_list(path) for path in source.splits}
    for member in source.members(".txt"):
        video = member.stem
        parts = _NAME.fullmatch(video)
        if not parts or video not in files:
            reason = "no label file of this name" if parts else "the name is not NNNN-V or AxxNyy-V"
            yield Broken(video, member.place, None, reason)
            continue
        label_file, text = files[video]
        subject, camera = int(parts["subject"] or 0), _VIEWS.index(parts["view"]) + 1
        sides = tuple((name, of.get(video, -1)) for name, of in lists.items())
        clips = []
        lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
        if not lines:
            yield Broken(video, label_file.place, None, "no action in this label file")
        for index, (number, line) in enumerate(lines):
            name = f"{video}-{index:03}"
            try:
                label, rows = _parse_label(line, classes=source.classes, interval=interval)
            except BrokenClip as error:
                yield Broken(name, label_file.place, number, error.reason)
            else:
                place = label_file.place, number
                clips.append(Clip(name, label, subject, camera, 0, 0, rows, *place, sides))
        if clips:
            yield Recording(member, tuple(clips))


def read(data: bytes, recording: Recording, *, layout: Layout, classes: int) -> Iterator[Outcome]:
    """The recording's clips, each with its bodies (M, T, V, 3), or why it is broken. A clip without
    any body is an EmptyClip.
    """
    words, starts, ends = _table(data, layout)
    for clip in recording.clips:
        start, end = clip.rows or (0, len(starts))
        try:
            if end > len(starts):
                reason = f"ends at frame {end}, after the video's {len(starts)}"
                raise BrokenClip(reason, clip.line, clip.file)
            bodies = coordinates(words, starts[start:end], ends[start:end]).swapaxes(0, 1)
            if not bodies.any():
                raise EmptyClip("no body: all joints are zero", clip.line, clip.file)
        except BrokenClip as error:
            yield clip, error
        else:
            yield clip, bodies


def split_list(path: Path) -> dict[str, int]:
    """The videos of a split list and their sides, 1 train or 0 test.

    It is a header line that contains "Training", a line of names separated by commas, another
    header, a line of names. Raises ArchiveError when it is not that, or a name is on both sides.
    """
    lines = [line.strip() for line in archive.text_of(path).splitlines() if line.strip()]
    if len(lines) != 4 or "Training" not in lines[0] or "Training" in lines[2]:
        raise ArchiveError(
            f"{path}: not a split list: a line with 'Training', names, a second header, names"
        )
    train, test = (
        {name.strip() for name in line.split(",") if name.strip()} for line in lines[1::2]
    )
    if train & test:
        raise ArchiveError(f"{path}: {min(train & test)} is in both lists")
    return {**dict.fromkeys(train, 1), **dict.fromkeys(test, 0)}


def parse(data: bytes, layout: Layout) -> NDArray[np.float64]:
    """The bodies of a video in the order of the file: (M, T, V, 3) metres, absent ones 0.

    Raises BrokenClip, and nothing else, for whatever is not a valid video.
    """
    return coordinates(*_table(data, layout)).swapaxes(0, 1)


def _table(data: bytes, layout: Layout) -> tuple[Words, NDArray[np.int64], NDArray[np.int64]]:
    """The words of a video and where each starts and ends, (T, M, V, 3) each; BrokenClip unless all
    lines are whole.
    """
    shape = (-1, layout.bodies, layout.joints, 3)
    words, starts, ends = table(data, layout.bodies * layout.joints * 3)
    return words, starts.reshape(shape), ends.reshape(shape)


def _parse_label(line: str, *, classes: int, interval: str) -> tuple[int, tuple[int, int]]:
    """The label (0-based) and the rows (0-based, the last excluded) of a line of a label file, or
    BrokenClip.
    """
    values = line.split(",")[:3]
    if len(values) < 3 or not all(map(_INTEGER.fullmatch, values)):
        if len(values) == 3 and not any(character.isdigit() for character in line):
            raise BrokenClip("a header line, which label files do not have; remove it")
        raise BrokenClip(f"{line.strip()[:40]!r} is not action,start,end,confidence")
    action, start, end = map(int, values)
    if not 1 <= action <= classes:
        raise BrokenClip(f"unknown action {action}: the dataset has {classes}")
    first = start - (interval == "inclusive")
    if first < 0:
        raise BrokenClip(f"starts at frame {start}, before the video")
    if first >= end:
        raise BrokenClip(f"start {start} is not before end {end}")
    return action - 1, (first, end)

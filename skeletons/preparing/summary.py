"""What a dataset turned out to be once it is prepared, and what cannot be people of its layout.

Counts are of all clips. Bodies are measured in at most `CLIPS` of them, spread over the whole
dataset, so that neither the time nor the memory grows with it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from einops import rearrange
from numpy.typing import NDArray

from machine.host.checked import Group
from skeletons.archives.recordings import counted
from skeletons.clips import store
from skeletons.clips.layout import Layout
from skeletons.preparing.job import Report

CLIPS, RUN = 512, 16  # clips that are measured, of which this many lie one after the other
MOMENTS = 32  # frames of a clip that are measured, evenly spaced
PARTS = 4  # of a clip, in each of which a bone has a median length, which noise hardly changes
PERSON = (0.5, 2.5)  # metres from the lowest to the highest joint: a small child to a raised arm
UNLIKE = 0.5  # of a bone's length: sensors do not err so, but for fingers and hips, which are not
LONG = 0.1  # of the body's height
_UNITS = {"millimetres": 1000, "centimetres": 100}


@dataclass(frozen=True)
class Spread:
    """The smallest, the median and the largest of some numbers."""

    least: int
    median: float
    most: int


@dataclass(frozen=True)
class Bone:
    """A bone: its length in metres and by what part of it this changes within a clip, medians over
    clips; None where the bone is never seen.
    """

    joint: int
    parent: int
    length: float | None
    change: float | None


@dataclass(frozen=True)
class Summary:
    """A prepared dataset in numbers."""

    clips: int
    clips_per_class: Spread
    clips_per_subject: Spread | None  # None when the format knows no subjects
    frames_per_clip: Spread  # of the recording
    cut: int  # clips of which only the centre is kept
    bodies_kept: int
    bodies_dropped: int
    rule: str  # by which bodies are kept
    frames_without_body: int
    absent_joints: tuple[int, ...]  # zero in every clip, 0-based
    measured: int  # clips of which bodies were measured
    height: float | None  # metres from the lowest joint to the highest, of the first bodies
    bones: tuple[Bone, ...]  # of the first bodies


def summarise(path: Path, report: Report) -> Summary:
    """The summary of the store that `prepare` wrote with this report."""
    clips = store.read(path, frames=False)
    heights, lengths, changes = measure(path, absent=report.absent_joints)
    subjects = np.unique(clips.subject, return_counts=True)[1] if clips.subject.any() else None
    middle = [_median(values) for values in (lengths, changes)]
    return Summary(
        clips=len(clips),
        clips_per_class=_spread(np.bincount(clips.label, minlength=clips.classes)),
        clips_per_subject=None if subjects is None else _spread(subjects),
        frames_per_clip=_spread(clips.raw_frames),
        cut=int((clips.raw_frames > np.diff(clips.offsets)).sum()),
        bodies_kept=report.kept,
        bodies_dropped=report.dropped,
        rule=report.rule,
        frames_without_body=report.empty_frames,
        absent_joints=report.absent_joints,
        measured=len(heights),
        height=_known(_median(heights)),
        bones=tuple(
            Bone(joint, parent, _known(length), _known(change))
            for (joint, parent), length, change in zip(clips.layout.bones, *middle, strict=True)
        ),
    )


def measure(
    path: Path, *, absent: tuple[int, ...] = ()
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Heights (N,) in metres of the first bodies of the N clips that are measured, lengths (N, B)
    in metres of their bones, and by what part of it (N, B) these change; NaN where not seen.

    Heights and lengths are medians over `MOMENTS` frames of the clip. A change is the largest of
    the `PARTS` medians of a clip's parts less the smallest, over the median of all. A joint is not
    seen in a frame where it is zero, and never if it is one of `absent`.
    """
    group = Group(path)
    layout, offsets = store.layout(group), group.read("offsets")
    measured = []
    for start, end in _runs(len(offsets) - 1):
        ends = offsets[start : end + 1]
        first = group.read("frames", slice(ends[0], ends[-1]))[:, 0]
        moments = np.linspace(ends[:-1], ends[1:] - 1, MOMENTS) - ends[0]
        measured.append(_measure(first[np.rint(moments).astype(int)], layout, absent))
    heights, lengths, changes = (np.concatenate(parts) for parts in zip(*measured, strict=True))
    return heights, lengths, changes


def paragraph(summary: Summary) -> str:
    """The summary in words."""
    subjects, lengths = summary.clips_per_subject, [b.length for b in summary.bones if b.length]
    of_subjects = f" and {_three(subjects)} of a subject" if subjects else ""
    cut = f", {counted(summary.cut, 'clip')} cut to the centre" if summary.cut else ""
    bones = f", its bones {min(lengths):.2f} to {max(lengths):.2f} m long" if lengths else ""
    body = ""
    if summary.height is not None:
        clips = counted(summary.measured, "clip")
        body = f"; a body is {summary.height:.2f} m high{bones} (medians of {clips})"
    return (
        f"{_three(summary.clips_per_class)} clips of a class{of_subjects} (least, median, most); "
        f"{_three(summary.frames_per_clip)} frames of a clip (shortest, median, longest){cut}; "
        f"bodies: {summary.bodies_kept:,} kept, {summary.bodies_dropped:,} dropped by the rule "
        f"{summary.rule!r}; {counted(summary.frames_without_body, 'frame')} without a body{body}"
    )


def warnings(summary: Summary, layout: Layout) -> Iterator[str]:
    """What cannot be of people of this layout, a line each."""
    doubt = f"is {layout.name} the layout of these recordings?"
    (low, high), height = PERSON, summary.height or 0.0
    part = height < low and summary.absent_joints  # of a person
    if summary.height is not None and not low <= height <= high and not part:
        units = (unit for unit, of in _UNITS.items() if low <= height / of <= high)
        yield (
            f"a body is {height:,.4g} m high, where a person is {low} to {high} m: are the "
            f"coordinates {next(units, 'image units')} instead of metres?"
        )
    if summary.absent_joints:
        joints = ", ".join(map(str, summary.absent_joints))
        yield f"joints zero in every clip, counted from 0: {joints}; {doubt}"
    lengths = {(b.joint, b.parent): b.length for b in summary.bones if b.length is not None}
    changing, unlike = [], []
    for bone in summary.bones:
        length = bone.length or 0.0
        if length <= LONG * height:
            continue
        if (bone.change or 0.0) > UNLIKE:
            changing.append(f"{bone.joint}-{bone.parent}")
        twin, parent = layout.swap[bone.joint], layout.swap[bone.parent]
        other = lengths.get((twin, parent), length)
        if length > (1 + UNLIKE) * other:
            unlike.append(
                f"{bone.joint}-{bone.parent} {length:.2f} and {twin}-{parent} {other:.2f}"
            )
    if changing:
        yield f"bones change by more than half of their length: {', '.join(changing)}; {doubt}"
    if unlike:
        yield f"bones of the left and the right are unlike (m): {', '.join(unlike)}; {doubt}"


def _measure(
    bodies: NDArray[np.float32], layout: Layout, absent: tuple[int, ...]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """What `measure` says of bodies (K, N, V, 3) at K moments of N clips."""
    metres = np.ascontiguousarray(rearrange(bodies, "k n joint c -> c k n joint"), np.float64)
    gone = (metres == 0).all(axis=0)
    if isinstance(layout.centre, int):  # which is at the origin of every other frame
        gone[..., layout.centre] = gone.all(axis=-1)
    gone[..., list(absent)] = True
    metres = np.where(gone, np.nan, metres)
    up = metres[2]
    high, low = np.where(gone, -np.inf, up).max(axis=-1), np.where(gone, np.inf, up).min(axis=-1)
    heights = np.where(gone.all(axis=-1), np.nan, high - low)
    joints, parents = np.array(layout.bones).T
    lengths = np.linalg.norm(metres[..., joints] - metres[..., parents], axis=0)
    middle = _median(lengths)
    parts = _median(rearrange(lengths, "(part k) n bone -> k part n bone", part=PARTS))
    changes = np.full_like(middle, np.nan)
    ranges = np.fmax.reduce(parts) - np.fmin.reduce(parts)  # of those that are not NaN
    np.divide(ranges, middle, out=changes, where=middle > 0)
    return _median(heights), middle, changes


def _runs(clips: int) -> list[tuple[int, int]]:
    """Clips that are measured: the first of a run and the one after its last."""
    starts = np.arange(0, clips, RUN)
    if clips > CLIPS:
        starts = np.rint(np.linspace(0, clips - RUN, CLIPS // RUN)).astype(int)
    return [(start, min(start + RUN, clips)) for start in starts.tolist()]


def _median(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """`np.nanmedian` along the first axis, without its loop and its warnings."""
    ordered = np.sort(values, axis=0)  # NaN come last
    last = np.maximum(np.isfinite(ordered).sum(axis=0) - 1, 0)
    below, above = (
        np.take_along_axis(ordered, place[None], axis=0)[0] for place in (last // 2, -(-last // 2))
    )
    return (below + above) / 2


def _spread(numbers: NDArray[Any]) -> Spread:
    return Spread(int(numbers.min()), float(np.median(numbers)), int(numbers.max()))


def _known(metres: Any) -> float | None:
    """A measure to a tenth of a millimetre, None for NaN."""
    return None if np.isnan(metres) else round(float(metres), 4)


def _three(spread: Spread) -> str:
    return f"{spread.least:,}, {spread.median:,.7g} and {spread.most:,}"

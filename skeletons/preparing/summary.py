"""Summary of a prepared dataset, and warnings of what in it cannot be right.

All clips are measured, so that a single wrong one is found. Heights and bones of the summary are
of at most `CLIPS` of them, spread over the whole dataset.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from einops import rearrange
from numpy.typing import NDArray

from machine.host.checked import Group
from skeletons.archives.recordings import PERSON, counted, unit_doubt
from skeletons.clips import store
from skeletons.clips.layout import Joints, Layout
from skeletons.preparing.job import Report

CLIPS, RUN = 512, 16  # clips of the summary, of which this many lie one after the other
AT_ONCE = 128  # clips in memory
MOMENTS = 32  # frames of a clip that are measured, evenly spaced
PARTS = 4  # of a clip, in each of which a bone has a median length, which noise hardly changes
UNLIKE = 0.5  # of a bone's length: sensors do not err so, but for fingers and hips, which are not
LONG = 0.1  # of the body's height
SHORT = 0.6  # of the median bone
# Of eight real datasets no clip is further from the others than 0.21, nor a dataset from the rest
# pose of its sensor than 0.15; with permuted joints nearly all are beyond 0.3.
OTHER = 0.25
SIZES = (0.4, 2.5)  # times as large as the others: a small child among adults, and the reverse
FLAT = 0.01  # smallest extent of a body, as a part of its largest: of real ones at least 0.07
LEAN, FEW = 60, 0.01  # degrees; of the clips, which the released rule tips in any dataset
BEHIND = 0.02  # of the trunk
MIRRORED = 0.75  # of the clips: feet are behind ankles in 3 % of real clips at most
NAMED = 5  # clips of a line


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


class Measures(NamedTuple):
    """Measures of the first bodies of the N clips in normal form, but for `change` and `depth`
    medians over `MOMENTS` frames of the clip. What is not seen is NaN: a joint in a frame where it
    is zero, and one that is zero in every clip.
    """

    names: NDArray[Any]  # of the clips
    height: NDArray[np.float64]  # (N,) metres from the lowest to the highest joint
    length: NDArray[np.float64]  # (N, B) metres of the bones
    change: NDArray[np.float64]  # (N, B) range of medians of `PARTS` parts, to the median of all
    lean: NDArray[np.float64]  # (N,) degrees from z to the trunk; those of frame 0 where less
    head: NDArray[np.float64]  # (N,) metres of the head above the feet, or the hips
    ahead: NDArray[np.float64]  # (N,) feet before ankles, or hands before shoulders, to the trunk
    depth: NDArray[np.float64]  # (N,) the smallest extent of the body to its largest


def measure(path: Path, layout: Layout, absent: tuple[int, ...] = ()) -> Measures:
    """The measures of all clips of a store; joints `absent` are zero in every clip."""
    group, measured = Group(path), []
    offsets = group.read("offsets")
    for start in range(0, len(offsets) - 1, AT_ONCE):
        ends = offsets[start : start + AT_ONCE + 1]
        first = group.read("frames", slice(ends[0], ends[-1]))[:, 0]
        moments = np.linspace(ends[:-1], ends[1:] - 1, MOMENTS) - ends[0]
        measured.append(_measure(first[np.rint(moments).astype(int)], layout, absent))
    return Measures(group.read("name"), *map(np.concatenate, zip(*measured, strict=True)))


def summarise(path: Path, report: Report, measures: Measures) -> Summary:
    """The summary of the store that `prepare` wrote with this report."""
    clips = store.read(path, frames=False)
    subjects = np.unique(clips.subject, return_counts=True)[1] if clips.subject.any() else None
    some = _some(len(clips))
    middle = [_median(values[some]) for values in (measures.length, measures.change)]
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
        measured=len(some),
        height=_known(_median(measures.height[some])),
        bones=tuple(
            Bone(joint, parent, _known(length), _known(change))
            for (joint, parent), length, change in zip(clips.layout.bones, *middle, strict=True)
        ),
    )


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


def warnings(summary: Summary, measures: Measures, layout: Layout) -> Iterator[str]:
    """Warnings of what cannot be right, a line each: of the whole dataset, then of single clips."""

    def those(clips: NDArray[np.bool_]) -> str:
        names = measures.names[clips]
        more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
        return (
            f"in {len(names):,} of {counted(len(clips), 'clip')}: {', '.join(names[:NAMED])}{more}"
        )

    doubt = f"is {layout.name} the sensor, and archives.joints the order of its joints?"
    height = summary.height or PERSON[0]
    part = height < PERSON[0] and summary.absent_joints  # of a person
    if (unit := unit_doubt(height)) and not part:
        yield f"a body is {height:,.4g} m high, {unit}"
    if summary.absent_joints:
        joints = ", ".join(map(layout.called, summary.absent_joints))
        yield f"absent, zero in every clip, and left out of heights and bones: {joints}"
    flat = measures.depth < FLAT
    if flat.any():
        yield f"bodies are flat, as in 2D, {those(flat)}"
    if flat.mean() > UNLIKE:  # of which nothing else can be told
        return
    shape, size = _unlike(measures.length, _median(measures.length))
    other = ~flat & (shape > OTHER)
    if (lean := ~flat & ~other & (measures.lean > LEAN)).mean() > FEW:
        yield (
            f"the trunk is more than {LEAN} degrees off the vertical {those(lean)}; set "
            "normal_form: upright, or archives.axes to those of a Kinect"
        )
    order = list(_order(summary, layout))
    yield from (f"{line}; {doubt}" for line in order)
    if (head := measures.head < 0).mean() > UNLIKE:
        yield f"the head is below the feet or the hips {those(head)}; {doubt}"
    elif (behind := measures.ahead < -BEHIND).mean() > MIRRORED and not order:
        yield (
            f"mirrored, with the feet or hands behind the body, {those(behind)}; does one of "
            "archives.axes point the other way, or are left and right exchanged?"
        )
    if other.any():
        yield f"bones are unlike the other clips', as of joints in another order, {those(other)}"
    if (large := ~flat & ~other & ((size < SIZES[0]) | (size > SIZES[1]))).any():
        times = f"{np.median(size[large]):.2g} times as large as in the other clips"
        yield f"bodies are {times} {those(large)}"


def _order(summary: Summary, layout: Layout) -> Iterator[str]:
    """Lines about bones that are not those of the layout's joints in its order."""
    height, changing, unlike = summary.height or 0.0, [], []
    place = {layout.swap[joint]: (-x, y, z) for joint, (x, y, z) in layout.rest} | dict(layout.rest)
    if len(place) == layout.joints:
        found = np.array([bone.length or np.nan for bone in summary.bones])
        vectors = [np.subtract(place[joint], place[parent]) for joint, parent in layout.bones]
        due = np.linalg.norm(vectors, axis=1)
        shape, size = _unlike(found[None], due)
        if shape[0] > OTHER:
            far = [
                f"{_called(bone, layout)} {length:.2f}, not {own:.2f}"
                for bone, length, own in zip(summary.bones, found, due * size, strict=True)
                if max(length, own) > LONG * height and not own / 2 < length < 2 * own
            ]
            yield f"bones are not the sensor's own (m): {'; '.join(far)}"
            return
    lengths = {(b.joint, b.parent): b.length for b in summary.bones if b.length is not None}
    for bone in summary.bones:
        length = bone.length or 0.0
        if length <= LONG * height:
            continue
        if (bone.change or 0.0) > UNLIKE:
            changing.append(_called(bone, layout))
        other = lengths.get((layout.swap[bone.joint], layout.swap[bone.parent]), length)
        if length > (1 + UNLIKE) * other:
            unlike.append(f"{_called(bone, layout)} {length:.2f}, of the other side {other:.2f}")
    if changing:
        yield f"bones change by more than half of their length: {', '.join(changing)}"
    if unlike:
        yield f"bones of the left and the right are unlike (m): {'; '.join(unlike)}"


def _called(bone: Bone, layout: Layout) -> str:
    return f"{layout.called(bone.joint)} to {layout.called(bone.parent)}"


def _unlike(
    lengths: NDArray[np.float64], others: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Differences of bones (N, B) from others (B,) once they are as large: means (N,) of absolute
    logarithms of ratios. And how many times as large they are (N,). Bones shorter than `SHORT`,
    which sensors hardly see, count as that long.
    """
    ours, theirs = _median(lengths.T), _median(others)
    with np.errstate(invalid="ignore", divide="ignore"):  # of joints that are all at one place
        relative = np.maximum(lengths.T / ours, SHORT)  # NaN stays
        ratios = np.log(relative / np.maximum(others / theirs, SHORT)[:, None])
        size = _median(ratios)
        seen = np.maximum(np.isfinite(ratios).sum(axis=0), 1)
        return np.nansum(abs(ratios - size), axis=0) / seen, np.exp(size) * ours / theirs


def _measure(
    bodies: NDArray[np.float32], layout: Layout, absent: tuple[int, ...]
) -> tuple[NDArray[np.float64], ...]:
    """The `Measures`, but for names, of bodies (K, N, V, 3) at K moments of N clips."""
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

    def at(joints: Joints | list[int]) -> NDArray[np.float64]:
        return metres[..., joints] if isinstance(joints, int) else metres[..., joints].mean(axis=-1)

    (hips, neck), (left, right) = map(at, layout.up), map(at, layout.across)
    trunk = neck - hips
    feet, ankles = _joints(layout, "foot"), _joints(layout, "ankle")
    hands = _joints(layout, "hand") or _joints(layout, "wrist")
    heads = _joints(layout, "head") or _joints(layout, "nose")
    head = (at(heads or layout.up[1]) - at(feet or ankles or layout.up[0]))[2]
    limbs = 0 * trunk  # of a sensor without such names
    if feet and ankles:
        limbs = at(feet) - at(ankles)
    elif hands:
        limbs = at(hands) - (left + right) / 2
    there = np.maximum((~gone).sum(axis=-1), 1)
    centre = np.where(gone, 0, metres).sum(axis=-1) / there
    centred = np.where(gone, 0, metres - centre[..., None])
    spread = np.einsum("ckni,dkni->ncd", centred, centred)
    extents = np.sqrt(np.maximum(np.linalg.eigvalsh(spread), 0)).T
    with np.errstate(invalid="ignore", divide="ignore"):  # of bodies that are not there
        long = np.linalg.norm(trunk, axis=0)
        lean = np.degrees(np.arccos(np.clip(trunk[2] / long, -1, 1)))
        front = np.cross(trunk, right - left, axis=0)
        ahead = (limbs * front).sum(axis=0) / np.linalg.norm(front, axis=0) / long
        depth = extents[0] / extents[2]
    leans = np.fmin(lean[0], _median(lean))
    return _median(heights), middle, changes, leans, _median(head), _median(ahead), depth


def _joints(layout: Layout, part: str) -> list[int]:
    """The joints of a part of the body, by the last word of their names."""
    return [joint for joint, name in enumerate(layout.names) if name.split()[-1:] == [part]]


def _some(clips: int) -> NDArray[np.int64]:
    """The clips of the summary."""
    if clips <= CLIPS:
        return np.arange(clips)
    starts = np.rint(np.linspace(0, clips - RUN, CLIPS // RUN)).astype(int)
    return np.add.outer(starts, np.arange(RUN)).ravel()


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

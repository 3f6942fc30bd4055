"""Raw archives to a store of prepared clips: planned, parallel, resumable.

The recordings, sorted by clip, are cut into groups. Workers read and normalise a group each; the
first process takes the groups in order and writes their frames, once, to the shards of the store
(`writer`). So the result does not depend on who did what when, memory stays small whatever the size
of the dataset, and a run that was killed at any moment goes on from its finished shards.
"""

import hashlib
import shutil
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import NamedTuple

import numcodecs
import numpy as np
import zarr
from filelock import FileLock
from numpy.typing import NDArray
from tqdm import tqdm

from errors import UserError
from machine.host import atomic
from skeletons import formats
from skeletons.archives.archive import ArchiveError
from skeletons.archives.recordings import Broken, Clip, Recording, counted
from skeletons.clips import protocols, store
from skeletons.clips.layout import Layout
from skeletons.preparing import format_checks
from skeletons.preparing.make_clips import Counts, Group, Task, read_group
from skeletons.preparing.workers import start_workers
from skeletons.preparing.writer import Writer

GROUP = 24 << 20  # bytes of text that a worker reads at a time
_TEXT = 8  # bytes of text to a byte of an array, in which numbers are as they are


class BrokenClips(UserError):
    """Clips of a dataset are broken; `broken` has them all."""

    def __init__(self, message: str, broken: Sequence[Broken]) -> None:
        super().__init__(message)
        self.broken = tuple(broken)


@dataclass(frozen=True)
class Dataset:
    """A dataset as it is distributed.

    `format` names the module that reads its archives, of which `skeletons` hold the recordings and
    `labels` the label files, where the format has them; `splits` are its split lists. `leave_out`
    is a list of clips to skip, one a line. `joints` are, for each joint of the recordings in their
    order, its number in the layout (None: it has no such joint); empty when they have the layout's
    joints in its order. `expected` are the numbers of clips, setups and cameras
    of the complete dataset, as far as they are known.
    """

    format: str
    layout: Layout
    classes: int
    skeletons: Sequence[Path]
    labels: Sequence[Path] = ()
    splits: Sequence[Path] = ()
    leave_out: Path | None = None
    joints: Sequence[int | None] = ()
    expected: Mapping[str, int | None] | None = None


class Report(NamedTuple):
    """What was prepared and what was not."""

    clips: int
    frames: int
    listed: int  # clips that the list leaves out
    broken: tuple[Broken, ...]
    missing: str  # what the complete dataset has besides, in words; empty when nothing
    rule: str  # by which bodies of a clip are kept, as the format says
    kept: int  # bodies
    dropped: int  # bodies in the frames of these clips that are not kept
    empty_frames: int  # frames without a body that is kept
    absent_joints: tuple[int, ...]  # joints that are zero in every clip, 0-based


def prepare(
    output: Path,
    dataset: Dataset,
    *,
    require_complete: bool = False,
    max_frames: int = 300,
    interval: str = "half_open",
    keepbits: int | None = None,
    on_error: str = "stop",
    executor: str = "processes",
    workers: int = 2,
    scratch: Path,
    group: int = GROUP,
    shard: int = store.SHARD,
) -> Report:
    """Prepare the clips of a dataset and write them to the store `output`, replacing it whole or
    not at all.

    Of a clip of more than `max_frames` the centre is kept. `interval` is for formats that cut
    videos. `keepbits` keeps that many of the 23 bits of each float's mantissa (a smaller store),
    None all. `on_error` says what broken clips do: "stop", after all were found, or "skip".
    `executor` is "processes", of which there are `workers`, or the address of a Dask scheduler
    whose workers see the same files. `scratch` is a folder for unfinished work; a worker reads
    `group` bytes of text at a time and a file of the store holds `shard` frames.

    Neither the executor nor the workers change a byte of the result. After an interruption the same
    call goes on; a second call for the same output waits for the first.

    Raises ArchiveError for an unreadable archive, BrokenClips for these, and UserError for a full
    disk, a fault of the format module and the like.
    """
    if on_error not in ("stop", "skip"):
        raise UserError(f"on_error {on_error!r} is neither 'stop' nor 'skip'")
    if keepbits is not None and not 1 <= keepbits <= 23:
        raise UserError(f"keepbits {keepbits} is not within 1 to 23")
    module = formats.load(dataset.format)
    if dataset.joints:
        dataset.layout.order_of(dataset.joints)
    work = scratch.absolute() / f"prepare-{output.stem}"
    try:
        scratch.mkdir(parents=True, exist_ok=True)
        # Before the plan, of which forked workers would hold copies.
        with start_workers(executor, workers) as (executing, slots), FileLock(f"{work}.lock"):
            recordings, unusable = module.plan(
                dataset.skeletons, dataset.labels, classes=dataset.classes, interval=interval
            )
            format_checks.check_plan(dataset.format, recordings)
            memberships = _memberships(dataset.splits)
            recordings, listed = _leave_out(recordings, dataset.leave_out)
            planned = [clip for recording in recordings for clip in recording.clips]
            _missing(planned, dataset.expected or {}, require_complete)
            task = Task(
                root=Path.cwd(),
                format=dataset.format,
                layout=dataset.layout,
                classes=dataset.classes,
                max_frames=max_frames,
                keepbits=keepbits,
                joints=tuple(dataset.joints),
            )
            folder = work / _identity(task, recordings, memberships, group, shard)
            writer = Writer(
                folder,
                frame=(dataset.layout.bodies, dataset.layout.joints, 3),
                keepbits=keepbits,
                shard=shard,
            )
            groups = _run(
                task, _cut(recordings, group), unusable, on_error, writer, executing, slots
            )
            broken = tuple(sorted(unusable + _broken(groups)))
            clips = [clip for g in groups for clip in g.clips]
            try:
                _check_broken(broken, on_error, clips=len(clips), listed=listed)
                missing = _missing(
                    [clip for clip, _, _ in clips], dataset.expected or {}, require_complete
                )
            except UserError:
                shutil.rmtree(work)
                raise
            _finish(writer, dataset, clips, recordings, memberships, keepbits, shard)
            atomic.place(writer.store, output)
            shutil.rmtree(work)  # with what runs of other parameters left of this output
    except OSError as error:
        reason = atomic.reason(error, output)
        raise UserError(
            f"{reason}; when that is mended, run again: finished parts are kept"
        ) from error
    except BrokenExecutor as error:
        raise UserError(
            "a worker process was killed (out of memory?); run again: finished parts are kept"
        ) from error
    counts = reduce(Counts.plus, (g.counts for g in groups))
    return Report(
        clips=len(clips),
        frames=sum(frames for _, _, frames in clips),
        listed=listed,
        broken=broken,
        missing=missing,
        rule=module.BODIES,
        kept=counts.kept,
        dropped=counts.dropped,
        empty_frames=counts.empty_frames,
        absent_joints=tuple(joint for joint, seen in enumerate(counts.seen) if not seen),
    )


def _memberships(splits: Sequence[Path]) -> dict[str, tuple[frozenset[str], frozenset[str]]]:
    found = {}
    for path in splits:
        try:
            found[path.name] = protocols.split_list(path.read_text("utf-8-sig"))
        except OSError as error:
            raise ArchiveError(f"{path}: {error.strerror}") from None
        except (UserError, UnicodeDecodeError) as error:
            raise ArchiveError(f"{path}: {error}") from None
    return found


def _leave_out(recordings: list[Recording], leave_out: Path | None) -> tuple[list[Recording], int]:
    """The recordings without the clips that the file lists, and the number of these."""
    if leave_out is None:
        return recordings, 0
    try:
        names = set(leave_out.read_text("utf-8-sig").split())
    except OSError as error:
        raise ArchiveError(f"{leave_out}: {error.strerror}") from None
    kept, listed = [], 0
    for recording in recordings:
        clips = tuple(clip for clip in recording.clips if clip.name not in names)
        listed += len(recording.clips) - len(clips)
        if clips:
            kept.append(recording._replace(clips=clips))
    return kept, listed


def _missing(clips: list[Clip], expected: Mapping[str, int | None], required: bool) -> str:
    """What these clips lack of the complete dataset, in words; a UserError if `required`."""
    gaps = []
    due = expected.get("clips") or 0
    if len(clips) < due:
        gaps.append(f"{due - len(clips):,} of {due:,} clips")
    for field in ("setup", "camera"):
        found = {getattr(clip, field) for clip in clips}
        absent = sorted(set(range(1, (expected.get(f"{field}s") or 0) + 1)) - found)
        if absent:
            gaps.append(f"{field}{'s' * (len(absent) > 1)} {', '.join(map(str, absent))}")
    missing = "; ".join(gaps)
    if missing and required:
        raise UserError(
            f"the dataset is not complete: it lacks {missing}; bring the rest, or set "
            "prepare.require_complete: false"
        )
    return missing


def _check_broken(broken: tuple[Broken, ...], on_error: str, *, clips: int, listed: int) -> None:
    """Raise BrokenClips for clips that stop the work, or when no other clip is left."""
    stopping = [entry for entry in broken if entry.stops]
    if on_error == "stop" and stopping:
        lines = "\n".join(f"  {entry}" for entry in stopping)
        raise BrokenClips(
            f"{counted(len(stopping), 'broken clip')}; mend or remove them, list them under "
            f"leave_out, or set prepare.on_error: skip to leave them out:\n{lines}",
            broken,
        )
    if not clips:
        first = f"; the first: {broken[0]}" if broken else ""
        raise BrokenClips(
            f"no clip is left: {counted(len(broken), 'broken clip')}, {listed} on the list of "
            f"clips to leave out{first}",
            broken,
        )


def _identity(
    task: Task,
    recordings: list[Recording],
    memberships: Mapping[str, tuple[frozenset[str], frozenset[str]]],
    group: int,
    shard: int,
) -> str:
    """A hash of all that determines the result: parameters, data, and the code of this package but
    the generators of synthetic archives.
    """
    digest = hashlib.sha256()
    root = Path(__file__).parents[1]
    for path in sorted(root.glob("[!_s]*/*.py")):
        digest.update(f"{path.relative_to(root)}".encode() + path.read_bytes())
    versions = (np.__version__, zarr.__version__, numcodecs.__version__)
    sides = {name: [sorted(side) for side in both] for name, both in memberships.items()}
    digest.update(repr((versions, task._replace(root=Path()), sides, group, shard)).encode())
    for member, clips in recordings:
        digest.update(repr((member.name, member.size, member.stamp, clips)).encode())
    return digest.hexdigest()[:16]


def _cut(recordings: list[Recording], size: int) -> list[list[Recording]]:
    """Groups of consecutive recordings, of about `size` bytes of text."""
    groups: list[list[Recording]] = []
    filled = size
    for recording in recordings:
        if filled >= size:
            groups.append([])
            filled = 0
        groups[-1].append(recording)
        filled += recording.member.size * (1 if recording.member.array is None else _TEXT)
    return groups


def _run(
    task: Task,
    groups: list[list[Recording]],
    unusable: list[Broken],
    on_error: str,
    writer: Writer,
    executing: Executor,
    slots: int,
) -> list[Group]:
    """Read the groups that the writer lacks and give them to it in order; all groups.

    No more than `slots` groups are read or wait for an earlier one. Once a clip is broken that
    stops the work, others are only looked for.
    """
    found = list(writer.groups)
    stops = on_error == "stop" and any(b.stops for b in [*unusable, *_broken(found)])
    waiting = deque(groups[len(found) :])
    pending: deque[Future[tuple[Group, NDArray[np.float32]]]] = deque()
    clips = [sum(len(recording.clips) for recording in group) for group in groups]
    with tqdm(total=sum(clips), initial=sum(clips[: len(found)]), unit="clip", disable=None) as bar:
        while waiting or pending:
            while waiting and len(pending) < slots:
                pending.append(executing.submit(read_group, task, waiting.popleft(), not stops))
            group, frames = pending.popleft().result()
            if not stops:
                writer.add(group, frames)
            stops |= on_error == "stop" and any(entry.stops for entry in group.broken)
            bar.update(clips[len(found)])
            found.append(group)
    if not stops:
        writer.close()
    return found


def _broken(groups: list[Group]) -> list[Broken]:
    return [entry for group in groups for entry in group.broken]


def _finish(
    writer: Writer,
    dataset: Dataset,
    clips: list[tuple[Clip, int, int]],
    recordings: list[Recording],
    memberships: Mapping[str, tuple[frozenset[str], frozenset[str]]],
    keepbits: int | None,
    shard: int,
) -> None:
    """Write what the store has beside its frames."""
    sources = {
        clip.name: recording.member.stem for recording in recordings for clip in recording.clips
    }
    stated = {name for clip, _, _ in clips for name, _ in clip.sides}
    splits = {
        name: np.array([dict(clip.sides).get(name, -1) for clip, _, _ in clips], np.int8)
        for name in sorted(stated)
    }
    for name, (train, test) in memberships.items():
        sides = [
            1 if source in train else 0 if source in test else -1
            for source in (sources[clip.name] for clip, _, _ in clips)
        ]
        splits[name] = np.array(sides, np.int8)
    fields = {
        field: np.array([getattr(clip, field) for clip, _, _ in clips], np.int32)
        for field in store.FIELDS
        if field != "raw_frames"
    }
    fields["raw_frames"] = np.array([raw_frames for _, raw_frames, _ in clips], np.int32)
    columns: dict[str, list[int | str]] = {}
    for clip, _, _ in clips:
        for name, value in clip.columns:
            columns.setdefault(name, []).append(value)
    store.finish(
        writer.store,
        offsets=np.cumsum([0] + [frames for _, _, frames in clips], dtype=np.int64),
        fields=fields,
        name=[clip.name for clip, _, _ in clips],
        columns=columns,
        splits=splits,
        layout=dataset.layout,
        attributes={"classes": dataset.classes, "format": dataset.format},
        keepbits=keepbits,
        shard=shard,
    )

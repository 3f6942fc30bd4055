"""Raw archives to a store of prepared clips: planned, parallel, resumable.

The recordings, sorted by clip, are cut into groups. Workers read and normalise a group each; the
first process takes the groups in order and writes their frames, once, to the shards of the store
(`writer`). So the result does not depend on who did what when, memory stays small whatever the size
of the dataset, and a run that was killed at any moment goes on from its finished shards.
"""

import hashlib
import re
import shutil
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import BrokenExecutor
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from filelock import FileLock
from tqdm import tqdm

from errors import UserError
from machine.host import atomic
from skeletons import formats
from skeletons.archives import archive
from skeletons.archives.recordings import Broken, Clip, Recording, Source, counted, listed
from skeletons.clips import store
from skeletons.preparing.make_clips import Counts, Group, Recipe
from skeletons.preparing.workers import CODE, Workers, start_workers
from skeletons.preparing.writer import Writer

GROUP = 24 << 20  # bytes of text that a worker reads at a time
_TEXT = 8  # bytes of text to a byte of an array, in which numbers are as they are


class BrokenClips(UserError):
    """Clips of a dataset are broken; `broken` has them all."""

    def __init__(self, broken: Sequence[Broken], *lines: str) -> None:
        super().__init__(*lines)
        self.broken = tuple(broken)


@dataclass(frozen=True)
class Job:
    """A dataset to prepare: how its clips are made, its archives, and what must be there.

    `skeletons` are the archives of the recordings, `labels` those of label files, `splits` split
    lists and `options` settings, where the format has them. `leave_out` is a list of clips to skip,
    one a line. `expected` are the numbers of clips, setups and cameras of the complete dataset, as
    far as they are known; fewer are an error if `require_complete`. `on_error` says what broken
    clips do: "stop", after all were found, or "skip". A worker reads `group` bytes of text at a
    time and a file of the store holds `shard` frames.
    """

    recipe: Recipe
    skeletons: Sequence[Path]
    labels: Sequence[Path] = ()
    splits: Sequence[Path] = ()
    options: Mapping[str, str] = field(default_factory=dict)
    leave_out: Path | None = None
    expected: Mapping[str, int | None] = field(default_factory=dict)
    require_complete: bool = False
    on_error: str = "stop"
    group: int = GROUP
    shard: int = store.SHARD


class Plan(NamedTuple):
    """The recordings of a dataset, what of it cannot be used, and how many clips are `listed` to be
    left out, of so many `named`.
    """

    recordings: list[Recording]
    unusable: list[Broken]
    listed: int = 0
    named: int = 0


class Report(NamedTuple):
    """Result of a job: what was prepared and what was not."""

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
    named: int = 0  # on the list of clips to leave out


def prepare(
    output: Path, job: Job, *, scratch: Path, executor: str = "processes", workers: int = 2
) -> Report:
    """Prepare the clips of a dataset and write them to the store `output`, replacing it whole or
    not at all.

    `executor` is "processes", of which there are `workers`, or the address of a Dask scheduler
    whose workers see the same files. `scratch` is a folder for unfinished work. Neither the
    executor nor the workers change a byte of the result. After an interruption the same call goes
    on; a second call for the same output waits for the first.

    Raises ArchiveError for an unreadable archive, BrokenClips for these, and UserError for a full
    disk, a fault of the format module and the like.
    """
    _check(job)
    work = scratch.absolute() / f"prepare-{output.stem}"
    try:
        scratch.mkdir(parents=True, exist_ok=True)
        # Before the plan, of which forked workers would hold copies.
        with start_workers(executor, workers) as reading, FileLock(f"{work}.lock"):
            plan = _plan(job)
            writer = Writer(
                work / _identity(job, plan),
                frame=(job.recipe.layout.bodies, job.recipe.layout.joints, 3),
                keepbits=job.recipe.keepbits,
                shard=job.shard,
            )
            groups = _read(job, plan, writer, reading)
            try:
                report = _report(job, plan, groups)
            except UserError:
                shutil.rmtree(work)
                raise
            _finish(job, writer)
            atomic.place(writer.store, output)
            shutil.rmtree(work)  # with what runs of other parameters left of this output
            return report
    except OSError as error:
        reason = atomic.reason(error, output)
        raise UserError(
            f"{reason}; when that is fixed, run again: finished parts are kept"
        ) from error
    except BrokenExecutor as error:
        raise UserError(
            "a worker process was killed (out of memory?); run again: finished parts are kept"
        ) from error


def _check(job: Job) -> None:
    """Raise UserError for parameters that cannot be."""
    recipe = job.recipe
    if job.on_error not in ("stop", "skip"):
        raise UserError(f"on_error {job.on_error!r} is neither 'stop' nor 'skip'")
    if recipe.keepbits is not None and not 1 <= recipe.keepbits <= 23:
        raise UserError(f"keepbits {recipe.keepbits} is not within 1 to 23")
    formats.load(recipe.format)
    if recipe.joints:
        recipe.layout.order_of(recipe.joints)


def _plan(job: Job) -> Plan:
    """The recordings to read; UserError where they cannot be complete and have to be."""
    source = Source(job.skeletons, job.recipe.classes, job.labels, job.splits, job.options)
    plan = Plan(*formats.plan(job.recipe.format, source))
    if job.leave_out:
        plan = _leave_out(plan, archive.text_of(job.leave_out).splitlines())
    _missing(job, [clip for recording in plan.recordings for clip in recording.clips])
    return plan


def _leave_out(plan: Plan, lines: Sequence[str]) -> Plan:
    """The plan without the clips that a list names, a line each: in any case, and with a folder or
    a suffix that the clip's own name may lack.
    """
    names = [clip.name for recording in plan.recordings for clip in recording.clips]
    names += [entry.clip for entry in plan.unusable]
    known = {name.casefold(): name for name in names} | {name: name for name in names}
    named, left = {line.strip() for line in lines} - {""}, set()
    for name in named:
        file = re.split(r"[/\\]", name)[-1]
        forms = (form for whole in (name, file) for form in (whole, whole.rpartition(".")[0]))
        cases = (case for form in forms for case in (form, form.casefold()))
        left |= {next((known[case] for case in cases if case in known), "")}
    left -= {""}  # for names that are not there
    recordings = []
    for recording in plan.recordings:
        clips = tuple(clip for clip in recording.clips if clip.name not in left)
        if clips:
            recordings.append(recording._replace(clips=clips))
    unusable = [entry for entry in plan.unusable if entry.clip not in left]
    return Plan(recordings, unusable, len(left), len(named))


def _missing(job: Job, clips: Sequence[Clip]) -> str:
    """Name what these clips lack of the complete dataset; a UserError if that is required."""
    gaps = []
    due = job.expected.get("clips") or 0
    if len(clips) < due:
        gaps.append(f"{due - len(clips):,} of {due:,} clips")
    for name in ("setup", "camera"):
        found = {getattr(clip, name) for clip in clips}
        absent = sorted(set(range(1, (job.expected.get(f"{name}s") or 0) + 1)) - found)
        if absent:
            gaps.append(f"{name}{'s' * (len(absent) > 1)} {', '.join(map(str, absent))}")
    missing = "; ".join(gaps)
    if missing and job.require_complete:
        raise UserError(
            f"the dataset is not complete: it lacks {missing}; bring the rest, or set "
            "prepare.require_complete: false"
        )
    return missing


def _report(job: Job, plan: Plan, groups: list[Group]) -> Report:
    """Report on what was prepared. Raises BrokenClips for clips that stop the work, or when no
    other clip is left, and UserError where others are required.
    """
    clips = [clip for group in groups for clip in group.clips]
    broken = tuple(sorted(plan.unusable + _broken(groups)))
    stopping = [entry for entry in broken if entry.stops]
    if job.on_error == "stop" and stopping:
        raise BrokenClips(
            broken,
            f"{counted(len(stopping), 'broken clip')}; fix or remove them, list them under "
            "leave_out, or set prepare.on_error: skip to leave them out:",
            *(f"  {line}" for line in listed(stopping)),
        )
    if not clips:
        first = f"; the first: {broken[0]}" if broken else ""
        raise BrokenClips(
            broken,
            f"no clip is left: {counted(len(broken), 'broken clip')}, {plan.listed} on the list of "
            f"clips to leave out{first}",
        )
    counts = reduce(Counts.plus, (group.counts for group in groups))
    return Report(
        clips=len(clips),
        frames=sum(frames for _, _, frames in clips),
        listed=plan.listed,
        named=plan.named,
        broken=broken,
        missing=_missing(job, [clip for clip, _, _ in clips]),
        rule=formats.load(job.recipe.format).BODIES,
        kept=counts.kept,
        dropped=counts.dropped,
        empty_frames=counts.empty_frames,
        absent_joints=tuple(joint for joint, seen in enumerate(counts.seen) if not seen),
    )


def _identity(job: Job, plan: Plan) -> str:
    """A hash of all that determines the result: parameters, data, code and versions."""
    digest = hashlib.sha256()
    digest.update(repr((CODE, job.recipe, job.group, job.shard)).encode())
    for member, clips in plan.recordings:
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


def _read(job: Job, plan: Plan, writer: Writer, reading: Workers) -> list[Group]:
    """All groups, of which `slots` at once are read or wait for an earlier one. Once a clip is
    broken that stops the work, others are only looked for.
    """
    groups = _cut(plan.recordings, job.group)
    found = list(writer.groups)
    stops = job.on_error == "stop" and any(b.stops for b in [*plan.unusable, *_broken(found)])
    waiting = deque(groups[len(found) :])
    pending: deque[Any] = deque()
    clips = [sum(len(recording.clips) for recording in group) for group in groups]
    with tqdm(total=sum(clips), initial=sum(clips[: len(found)]), unit="clip", disable=None) as bar:
        while waiting or pending:
            while waiting and len(pending) < reading.slots:
                task = waiting.popleft(), job.recipe, Path.cwd(), not stops
                pending.append(reading.submit(*task))
            group, frames = reading.result(pending.popleft())
            if not stops:
                writer.add(group, frames)
            stops |= job.on_error == "stop" and any(entry.stops for entry in group.broken)
            bar.update(clips[len(found)])
            found.append(group)
    if not stops:
        writer.close()
    return found


def _broken(groups: list[Group]) -> list[Broken]:
    return [entry for group in groups for entry in group.broken]


def _finish(job: Job, writer: Writer) -> None:
    """Write what the store has beside its frames."""
    made = [made for group in writer.groups for made in group.clips]
    clips = [clip for clip, _, _ in made]
    layout = job.recipe.layout
    sides = [dict(clip.sides) for clip in clips]
    columns = {}
    for name, first in clips[0].columns:
        kind = np.int32 if isinstance(first, int) else store.TEXT
        columns[name] = np.array([dict(clip.columns)[name] for clip in clips], kind)
    numbers = {
        field: np.array([getattr(clip, field) for clip in clips], np.int32)
        for field in ("label", "subject", "camera", "setup", "replication")
    }
    store.finish(
        writer.store,
        store.Clips(
            frames=np.empty((0, layout.bodies, layout.joints, 3), np.float32),
            offsets=np.cumsum([0] + [frames for _, _, frames in made], dtype=np.int64),
            name=np.array([clip.name for clip in clips], store.TEXT),
            raw_frames=np.array([raw_frames for _, raw_frames, _ in made], np.int32),
            splits={
                name: np.array([of.get(name, -1) for of in sides], np.int8)
                for name in sorted(set().union(*sides))
            },
            layout=layout,
            classes=job.recipe.classes,
            columns=columns,
            **numbers,
        ),
        format=job.recipe.format,
        keepbits=job.recipe.keepbits,
        shard=job.shard,
    )

"""Raw archives to a store of prepared clips: planned, parallel, resumable.

The recordings, sorted by clip, are cut into groups. A worker reads a group's recordings, normalises
their clips and writes them to the scratch folder. Which frames lie in which shard is known only
then, since a broken clip may be left out: a shard is written, again by a worker, as soon as all its
frames are there, and the groups that it used up are deleted. So memory and scratch stay small
whatever the size of the dataset, the result does not depend on who did what when, and a run that
was killed at any moment goes on from its finished groups and shards: every file appears whole, by a
rename.
"""

import contextlib
import fcntl
import glob
import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import threading
import uuid
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    Executor,
    Future,
    ProcessPoolExecutor,
    wait,
)
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

import numcodecs
import numpy as np
import zarr
from numcodecs.bitround import BitRound
from numpy.typing import NDArray
from tqdm import tqdm

from skeletons import protocols, store
from skeletons.layout import Layout
from skeletons.reading import archive, formats
from skeletons.reading.archive import ArchiveError
from skeletons.reading.normalise import normalise
from skeletons.reading.recording import Broken, BrokenClip, Clip, EmptyClip, Recording

GROUP = 24 << 20  # bytes of text that a worker reads at a time
_DIGITS = 16  # of the name of unfinished work


class PrepareError(ValueError):
    """Why a dataset could not be prepared, and what to do about it."""


class BrokenClips(PrepareError):
    """Which clips of a dataset are broken."""


class Report(NamedTuple):
    """What was prepared and what was not."""

    clips: int
    frames: int
    listed: int  # clips left out because the list says so
    broken: tuple[Broken, ...]
    missing: str  # what a complete dataset has besides, in words; empty when nothing


class _Job(NamedTuple):
    """What the tasks of a run share."""

    root: Path
    folder: Path
    format: str
    layout: Layout
    classes: int
    max_frames: int
    keepbits: int | None
    shard: int

    @property
    def frame(self) -> tuple[int, int, int]:
        return self.layout.bodies, self.layout.joints, 3

    def group(self, index: int) -> Path:
        return self.folder / f"group-{index:06}"


class _Group(NamedTuple):
    """A finished group: its clips with their numbers of frames in the recording and in the store,
    and the broken ones.
    """

    clips: list[tuple[Clip, int, int]]
    broken: list[Broken]

    @property
    def frames(self) -> int:
        return sum(frames for _, _, frames in self.clips)


class _Piece(NamedTuple):
    """Frames `start` to `stop` of a group."""

    group: int
    start: int
    stop: int


def prepare(
    output: Path,
    *,
    format: str,
    layout: Layout,
    classes: int,
    skeletons: Sequence[Path],
    labels: Sequence[Path] = (),
    splits: Sequence[Path] = (),
    leave_out: Path | None = None,
    expected: Mapping[str, int | None] | None = None,
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
    """Prepare the clips of raw archives and write them to the store `output`, replacing it whole or
    not at all.

    `format` names the module of the raw format, `skeletons` and `labels` are its archives, `splits`
    its split lists, `leave_out` a list of clips to skip, one a line. `max_frames` and `interval`
    are for formats that cut videos. `keepbits` keeps that many of the 23 bits of each float's
    mantissa (a smaller store), None all. `on_error` says what broken clips do: "stop", after all
    were found, or "skip". `executor` is "processes", of which there are `workers`, or the address
    of a Dask scheduler whose workers see the same files. `scratch` is a folder for unfinished work;
    `group` bytes of text are read by a task at a time and a file of the store holds `shard` frames.

    Neither the executor nor the workers change a byte of the result. After an interruption the same
    call goes on.

    Raises ArchiveError for an unreadable archive, BrokenClips for these, and PrepareError for a
    full disk and the like.
    """
    if on_error not in ("stop", "skip"):
        raise PrepareError(f"on_error {on_error!r} is neither 'stop' nor 'skip'")
    if keepbits is not None and not 1 <= keepbits <= 23:
        raise PrepareError(f"keepbits {keepbits} is not within 1 to 23")
    try:
        plan = formats.load(format).plan
    except ValueError as error:
        raise PrepareError(str(error)) from None
    engine = _processes(workers) if executor == "processes" else _dask(executor)
    try:
        with engine as (pool, slots):  # before the plan, which forked workers would hold copies of
            recordings, unusable = plan(skeletons, labels, classes=classes, interval=interval)
            _check_unique(recordings)
            memberships = _memberships(splits)
            recordings, listed = _leave_out(recordings, leave_out)
            planned = [clip for recording in recordings for clip in recording.clips]
            _missing(planned, expected or {}, require_complete)
            job = _Job(Path.cwd(), Path(), format, layout, classes, max_frames, keepbits, shard)
            identity = _identity(job, recordings, memberships, group, on_error)
            job = job._replace(folder=scratch.absolute() / f"prepare-{output.stem}-{identity}")
            with _alone(job.folder):
                groups = _cut(recordings, group)
                finished = _run(job, groups, unusable, on_error, pool, slots)
                broken = tuple(sorted(unusable + [b for g in finished for b in g.broken]))
                clips = [clip for g in finished for clip in g.clips]
                try:
                    if on_error == "stop":
                        _stop([entry for entry in broken if entry.stops])
                    if not clips:
                        raise PrepareError(
                            f"no clip is left: {len(broken)} broken, {listed} listed"
                        )
                    missing = _missing([c for c, _, _ in clips], expected or {}, require_complete)
                except PrepareError:
                    shutil.rmtree(job.folder)
                    raise
                _finish(job, clips, recordings, memberships)
                with _near(job.folder / "store", output) as finished_store:
                    _place(finished_store, output)
                shutil.rmtree(job.folder)
                _remove_stale(job.folder)
    except OSError as error:
        reason = f"{error.filename or output}: {error.strerror or error}"
        if isinstance(error, shutil.Error):  # of copying, with a list of all that went wrong
            reason = error.args[0][0][2]
        raise PrepareError(
            f"{reason}; when that is mended, run again: finished parts are kept"
        ) from error
    except BrokenExecutor as error:
        raise PrepareError(
            "a worker process was killed (out of memory?); run again: finished parts are kept"
        ) from error
    return Report(
        clips=len(clips),
        frames=sum(frames for _, _, frames in clips),
        listed=listed,
        broken=broken,
        missing=missing,
    )


def _check_unique(recordings: list[Recording]) -> None:
    places: dict[str, str] = {}
    for recording in recordings:
        for clip in recording.clips:
            place = recording.member.place
            if places.setdefault(clip.name, place) is not place:
                first = places[clip.name]
                raise ArchiveError(f"{place}: clip {clip.name} is in {first} too; remove one")


def _memberships(splits: Sequence[Path]) -> dict[str, tuple[frozenset[str], frozenset[str]]]:
    found = {}
    for path in splits:
        try:
            found[path.name] = protocols.split_list(path.read_text("utf-8-sig"))
        except (OSError, ValueError) as error:
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
    """What these clips lack of the complete dataset, in words; a PrepareError if `required`."""
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
        raise PrepareError(
            f"the dataset is not complete: it lacks {missing}; bring the rest, or set "
            "prepare.require_complete: false"
        )
    return missing


def _identity(job: _Job, recordings: list[Recording], *others: object) -> str:
    """A hash of all that determines the result: data, parameters, code."""
    digest = hashlib.sha256()
    modules = ("archive", "normalise", "prepare", "recording", "../store", "text")
    for module in (*modules, f"formats/{job.format}"):
        digest.update(Path(__file__).parent.joinpath(f"{module}.py").read_bytes())
    versions = (np.__version__, zarr.__version__, numcodecs.__version__)
    shared = (job.format, job.layout, job.classes, job.max_frames, job.keepbits, job.shard)
    digest.update(repr((versions, shared, _plain(others))).encode())
    for member, clips in recordings:
        digest.update(repr((member.name, member.size, member.stamp, clips)).encode())
    return digest.hexdigest()[:_DIGITS]


def _cut(recordings: list[Recording], size: int) -> list[list[Recording]]:
    """Groups of consecutive recordings, of about `size` bytes."""
    groups: list[list[Recording]] = []
    filled = size
    for recording in recordings:
        if filled >= size:
            groups.append([])
            filled = 0
        groups[-1].append(recording)
        filled += recording.member.size
    return groups


def _run(
    job: _Job,
    groups: list[list[Recording]],
    unusable: list[Broken],
    on_error: str,
    pool: Executor,
    slots: int,
) -> list[_Group]:
    """Read all groups and write all shards that are not there yet; the finished groups."""
    results = _finished(job, len(groups))
    edges = [0]  # where in the store's frames each of the first groups begins, as far as known
    shards: list[
        bool
    ] = []  # whether each of the first shards is written; those that can be are under way
    broken = list(unusable)
    waiting = iter([index for index, result in enumerate(results) if result is None])
    pending: dict[Future[None], tuple[str, int]] = {}

    def stopping() -> bool:
        return on_error == "stop" and any(entry.stops for entry in broken)

    total = sum(len(recording.clips) for recordings in groups for recording in recordings)
    with tqdm(total=total, unit="clip", disable=None) as bar:
        for result, recordings in zip(results, groups, strict=True):
            if result is not None:
                broken += result.broken
                bar.update(sum(len(recording.clips) for recording in recordings))
        while True:
            while len(edges) <= len(groups) and (result := results[len(edges) - 1]) is not None:
                edges.append(edges[-1] + result.frames)
            whole = len(edges) > len(groups)
            while not stopping() and (
                (len(shards) + 1) * job.shard <= edges[-1]
                or (whole and len(shards) * job.shard < edges[-1])
            ):
                index = len(shards)
                shards.append(store.shard_file(job.folder / "store", index).exists())
                if not shards[index]:
                    task = pool.submit(_write_shard, job, index, _pieces(edges, index, job.shard))
                    pending[task] = ("shard", index)
            while len(pending) < slots and (index := next(waiting, -1)) >= 0:
                task = pool.submit(_read_group, job, index, groups[index], not stopping())
                pending[task] = ("group", index)
            if not pending:
                break
            for task in wait(pending, return_when=FIRST_COMPLETED).done:
                kind, index = pending.pop(task)
                task.result()
                if kind == "group":
                    results[index] = finished = _load(job, index)
                    assert finished is not None
                    broken += finished.broken
                    bar.update(sum(len(recording.clips) for recording in groups[index]))
                else:
                    shards[index] = True
                    _delete_used(job, edges, shards, index)
    return cast(list[_Group], results)


def _finished(job: _Job, groups: int) -> list[_Group | None]:
    """What earlier runs left of each group: None unless its frames are there, in their file or in
    all of their shards.
    """
    results = [_load(job, index) for index in range(groups)]
    edge: int | None = 0  # where in the store's frames the group begins, as far as known
    for index, result in enumerate(results):
        if result is None:
            edge = None
            continue
        shards = _shards(job, edge, edge + result.frames) if edge is not None else ()
        written = [store.shard_file(job.folder / "store", shard).exists() for shard in shards]
        if not job.group(index).with_suffix(".frames").exists() and not (written and all(written)):
            results[index] = None
        edge = None if edge is None else edge + result.frames
    return results


def _shards(job: _Job, start: int, stop: int) -> range:
    """The shards in which these frames of the store lie."""
    return range(start // job.shard, (stop - 1) // job.shard + 1)


def _stop(broken: list[Broken]) -> None:
    """Raise BrokenClips if there are any."""
    if broken:
        lines = "\n".join(f"  {entry}" for entry in broken)
        raise BrokenClips(
            f"{len(broken)} broken clips; mend or remove them, list them under leave_out, "
            f"or set prepare.on_error: skip to leave them out:\n{lines}"
        )


def _pieces(edges: list[int], index: int, shard: int) -> list[_Piece]:
    """The frames of groups that make up a shard."""
    start, stop = index * shard, min((index + 1) * shard, edges[-1])
    pieces = []
    for group in range(bisect_right(edges, start) - 1, len(edges) - 1):
        first, last = max(edges[group], start), min(edges[group + 1], stop)
        if edges[group] >= stop:
            break
        if first < last:
            pieces.append(_Piece(group, first - edges[group], last - edges[group]))
    return pieces


def _delete_used(job: _Job, edges: list[int], shards: list[bool], index: int) -> None:
    """Delete the frames of the groups that only this shard was still to use."""
    for group, _, _ in _pieces(edges, index, job.shard):
        used = _shards(job, edges[group], edges[group + 1])
        if used.stop <= len(shards) and all(shards[used.start : used.stop]):
            job.group(group).with_suffix(".frames").unlink(missing_ok=True)


def _read_group(job: _Job, index: int, recordings: list[Recording], keep: bool) -> None:
    """Read, normalise and write a group of recordings; unless `keep`, only find broken ones."""
    # A large block that is freed makes glibc keep what smaller arrays free, and not fetch new pages
    # for each of them: the parser takes a third less time.
    np.empty(31 << 20, np.uint8)
    read = formats.load(job.format).read
    clips: list[tuple[Clip, int, int]] = []
    parts: list[NDArray[np.float32]] = []
    broken: list[Broken] = []
    for recording in recordings:
        place = recording.member.place
        try:
            data = archive.read(recording.member, job.root)
        except ArchiveError as error:
            broken += [Broken(clip.name, place, None, str(error)) for clip in recording.clips]
            continue
        for clip, raw_frames, outcome in read(
            data, recording, layout=job.layout, classes=job.classes, max_frames=job.max_frames
        ):
            if isinstance(outcome, BrokenClip):
                stops = not isinstance(outcome, EmptyClip)
                file = outcome.file or place
                broken.append(Broken(clip.name, file, outcome.line, outcome.reason, stops))
            elif keep:
                parts.append(normalise(outcome, job.layout))
                clips.append((clip, raw_frames, len(parts[-1])))
    with _whole(job.group(index).with_suffix(".frames")) as file:
        for part in parts:
            if job.keepbits is not None:
                part = BitRound(job.keepbits).encode(part)
            file.write(part.data)
    with _whole(job.group(index).with_suffix(".json")) as file:
        file.write(json.dumps({"clips": clips, "broken": broken}).encode())


def _load(job: _Job, index: int) -> _Group | None:
    """What `_read_group` wrote of a group; None when it has not been."""
    try:
        found = json.loads(job.group(index).with_suffix(".json").read_bytes())
    except FileNotFoundError:
        return None
    clips = [(Clip(*clip), raw_frames, frames) for clip, raw_frames, frames in found["clips"]]
    return _Group(clips, [Broken(*entry) for entry in found["broken"]])


def _write_shard(job: _Job, index: int, pieces: list[_Piece]) -> None:
    frames = np.empty((sum(piece.stop - piece.start for piece in pieces), *job.frame), np.float32)
    filled = 0
    for group, start, stop in pieces:
        part = frames[filled : filled + stop - start]
        with job.group(group).with_suffix(".frames").open("rb") as file:
            file.seek(start * part[0].nbytes)
            file.readinto(cast(Any, part.reshape(-1).view(np.uint8)))
        filled += len(part)
    store.write_shard(
        job.folder / "store",
        index,
        frames,
        keepbits=job.keepbits,
        shard=job.shard,
        scratch=job.folder / f"shard-{uuid.uuid4().hex}",
    )


def _finish(
    job: _Job,
    clips: list[tuple[Clip, int, int]],
    recordings: list[Recording],
    memberships: dict[str, tuple[frozenset[str], frozenset[str]]],
) -> None:
    sources = {
        clip.name: recording.member.stem for recording in recordings for clip in recording.clips
    }
    splits = {}
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
    store.finish(
        job.folder / "store",
        offsets=np.cumsum([0] + [frames for _, _, frames in clips], dtype=np.int64),
        fields=fields,
        name=[clip.name for clip, _, _ in clips],
        splits=splits,
        layout=job.layout,
        attributes={"classes": job.classes, "format": job.format},
        keepbits=job.keepbits,
        shard=job.shard,
    )


@contextlib.contextmanager
def _near(folder: Path, output: Path) -> Iterator[Path]:
    """The folder, or a copy of it if it is not on the file system of `output`."""
    output.parent.mkdir(parents=True, exist_ok=True)
    for left in output.parent.glob(f".{glob.escape(output.name)}.{'[0-9a-f]' * 32}"):
        shutil.rmtree(left)  # by a run that was killed here
    if folder.stat().st_dev == output.parent.stat().st_dev:
        yield folder
        return
    beside = _beside(output)
    try:
        yield shutil.copytree(folder, beside)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _place(folder: Path, output: Path) -> None:
    """Move a finished store to its place, by one rename, instead of what is there."""
    if output.exists():
        old = _beside(output)
        os.rename(output, old)
        os.rename(folder, output)
        shutil.rmtree(old)
    else:
        os.rename(folder, output)


def _beside(output: Path) -> Path:
    return output.with_name(f".{output.name}.{uuid.uuid4().hex}")


@contextlib.contextmanager
def _whole(path: Path) -> Iterator[Any]:
    """A file to write that appears under its name once it is whole, or not at all."""
    beside = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    try:
        with beside.open("wb") as file:
            yield file
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Make the folder and keep other runs of the same work waiting until this one is over."""
    path = _lock_of(folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path):
        folder.mkdir(exist_ok=True)
        for unfinished in (*folder.glob("shard-*"), *folder.glob("group-*.*.*")):
            shutil.rmtree(unfinished) if unfinished.is_dir() else unfinished.unlink()
        try:
            yield
        finally:
            path.unlink()


def _locked(path: Path, *, wait: bool = True) -> IO[str]:
    """This file, locked; while another process has it: waited for, or a BlockingIOError."""
    while True:
        lock = path.open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise
        if os.fstat(lock.fileno()).st_nlink:
            return lock
        lock.close()  # it was another run's, which ended and deleted it


def _remove_stale(folder: Path) -> None:
    """Remove what ended runs for the same output left of other work, unless one is on it again."""
    work = f"{glob.escape(folder.name[:-_DIGITS])}{'[0-9a-f]' * _DIGITS}"
    for path in folder.parent.glob(work):
        if path != folder:
            with contextlib.suppress(BlockingIOError), _locked(_lock_of(path), wait=False):
                shutil.rmtree(path, ignore_errors=True)
                _lock_of(path).unlink()


def _lock_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


@contextlib.contextmanager
def _processes(workers: int) -> Iterator[tuple[Executor, int]]:
    """An executor of this many processes and the number of tasks that keep it busy."""
    # A fork has all that is imported at once, but would copy other threads' locks in any state.
    alone = threading.active_count() == 1
    context = multiprocessing.get_context("fork" if alone else "forkserver")
    pool = ProcessPoolExecutor(workers, context, _follow_parent)
    try:
        pool.submit(int)  # which starts them
        yield pool, 2 * workers
    finally:
        pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _dask(address: str) -> Iterator[tuple[Executor, int]]:
    """The executor of a Dask cluster and the number of tasks that keep it busy."""
    try:
        from distributed import Client, KilledWorker
    except ImportError:
        raise PrepareError(
            f"executor {address!r} needs Dask: pip install 'scd-net[dask]'"
        ) from None
    try:
        client = Client(address, timeout=5)
    except (OSError, ValueError) as error:
        raise PrepareError(f"executor {address!r}: no Dask scheduler there ({error})") from None
    with client:
        try:
            yield client.get_executor(pure=False), 2 * max(sum(client.nthreads().values()), 1)
        except KilledWorker as error:
            raise BrokenExecutor(str(error)) from error


def _follow_parent() -> None:
    """Let a worker process leave interrupts to its parent, and end when that is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def _plain(value: object) -> object:
    """The value with its sets as sorted lists: their text is the same in every process."""
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, tuple):
        return tuple(map(_plain, value))
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    return value

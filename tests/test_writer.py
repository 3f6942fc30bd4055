"""The writer of shards: the same bytes wherever it is stopped, and few groups read ahead."""

from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest
from layouts import KINECT_V1

from skeletons.archives.archive import Member
from skeletons.archives.recordings import Broken, Clip, Recording
from skeletons.clips import store
from skeletons.preparing import job
from skeletons.preparing.make_clips import Counts, Group, Recipe
from skeletons.preparing.workers import Workers
from skeletons.preparing.writer import Writer

FRAME, SHARD = (1, 20, 3), 10
LENGTHS = [4, 0, 7, 25, 9, 0, 5, 3, 0]  # frames of the groups


def groups():
    random = np.random.default_rng(0)
    for number, length in enumerate(LENGTHS):
        clips = [(Clip(f"c{number}", 1, rows=(0, length)), length, length)] * (length > 0)
        broken = [Broken(f"b{number}", "file", 3, "torn")] * (length == 0)
        frames = random.normal(size=(length, *FRAME)).astype(np.float32)
        yield Group(clips, broken, Counts(length, 1, 2, [True] * 20)), frames


def writer(folder: Path) -> Writer:
    return Writer(folder, frame=FRAME, keepbits=None, shard=SHARD)


def shards(folder: Path) -> list[bytes]:
    paths = [store.shard_file(folder / "store", index) for index in range(7)]
    return [path.read_bytes() for path in paths if path.exists()]


@pytest.mark.parametrize("stop", range(len(LENGTHS) + 1))
@pytest.mark.parametrize("torn", ["", '[[["c'])
def test_a_writer_goes_on_to_the_same_shards(tmp_path, stop, torn):
    given = list(groups())
    frames = np.concatenate([frames for _, frames in given])
    first = writer(tmp_path)
    for group, part in given[:stop]:
        first.add(group, part)
    with (tmp_path / "groups.jsonl").open("a") as journal:  # as by a kill while it was written
        journal.write(torn)
    before = shards(tmp_path)
    again = writer(tmp_path)
    done = len(again.groups)
    assert done <= stop
    assert sum(LENGTHS[done:stop]) < SHARD + max(LENGTHS), "finished work is done again"
    for kept, (group, _) in zip(again.groups, given, strict=False):
        assert (kept.broken, kept.counts) == (group.broken, group.counts)
    for group, part in given[done:]:
        again.add(group, part)
    again.close()
    assert shards(tmp_path)[: len(before)] == before
    assert shards(tmp_path) == [
        store.encode_shard(frames[start : start + SHARD], keepbits=None, shard=SHARD)
        for start in range(0, len(frames), SHARD)
    ]
    assert writer(tmp_path).groups[-1].frames == LENGTHS[-1]


class Counting:
    """An executor whose tasks are done when they are asked for; it counts those that wait."""

    def __init__(self) -> None:
        self.waiting = self.most = 0

    def submit(self, function, *arguments):
        self.waiting += 1
        self.most = max(self.most, self.waiting)
        future = Future()

        def result():
            self.waiting -= 1
            return Group([], [], Counts(0, 0, 0, [True] * 20)), np.empty((0, *FRAME), np.float32)

        future.result = result
        return future


def test_no_more_groups_are_in_memory_than_there_are_slots(tmp_path):
    recordings = [Recording(Member("a", "b", 1, 0), (Clip("c", 0),)) for _ in range(50)]
    executor = Counting()
    whole = job.Job(Recipe("ntu", KINECT_V1, 1), [], group=1)
    reading = Workers(executor.submit, lambda future: future.result(), 4)
    found = job._read(whole, job.Plan(recordings, []), writer(tmp_path), reading)
    assert len(found) == 50
    assert executor.most == 4

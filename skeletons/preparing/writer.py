"""The one writer of a store's frames: groups in order -> shards, resumable at any moment.

What is in a group is appended to a journal before its frames go to the shard that is being filled
in memory; a shard is written as soon as it is full. A run that goes on after a kill takes the
groups of the journal whose frames are all in written shards, and reads the others again: no more
than a shard's frames and the groups on their way.
"""

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from machine.host import atomic
from skeletons.archives.recordings import Broken, Clip
from skeletons.clips import store
from skeletons.preparing.make_clips import Counts, Group


class Writer:
    """Writes frames (F, M, V, 3) to the shards of the store in `folder`.

    `groups` are those of which nothing is left to do: at the start what earlier runs finished.
    """

    def __init__(
        self, folder: Path, *, frame: tuple[int, int, int], keepbits: int | None, shard: int
    ) -> None:
        self.store = folder / "store"
        self._journal = folder / "groups.jsonl"
        self._keepbits = keepbits
        self._shards = 0
        while store.shard_file(self.store, self._shards).exists():
            self._shards += 1
        self._buffer = np.empty((shard, *frame), np.float32)
        self._filled = 0
        # frames to come that are in shards already: at first of the first group
        self._written = self._shards * shard
        self.groups: list[Group] = []
        folder.mkdir(parents=True, exist_ok=True)
        self._journal.touch()
        kept = 0
        with self._journal.open("r+b") as journal:
            for line in journal:
                if not line.endswith(b"\n") or (group := _load(line)).frames > self._written:
                    break
                self._written -= group.frames
                self.groups.append(group)
                kept += len(line)
            journal.truncate(kept)

    def add(self, group: Group, frames: NDArray[np.float32]) -> None:
        """Take the next group and its frames; write the shards that these fill."""
        with self._journal.open("ab") as journal:
            journal.write(json.dumps(group).encode() + b"\n")
        self.groups.append(group)
        written = min(self._written, len(frames))
        self._written -= written
        frames = frames[written:]
        while len(frames):
            part = frames[: len(self._buffer) - self._filled]
            self._buffer[self._filled : self._filled + len(part)] = part
            self._filled += len(part)
            frames = frames[len(part) :]
            if self._filled == len(self._buffer):
                self._write()

    def close(self) -> None:
        """Write the last shard, which may have fewer frames."""
        if self._filled:
            self._write()

    def _write(self) -> None:
        data = store.encode_shard(
            self._buffer[: self._filled], keepbits=self._keepbits, shard=len(self._buffer)
        )
        atomic.write(store.shard_file(self.store, self._shards), data)
        self._shards += 1
        self._filled = 0


def _load(line: bytes) -> Group:
    clips, broken, counts = json.loads(line)
    return Group(
        [(Clip(*clip), raw_frames, frames) for clip, raw_frames, frames in clips],
        [Broken(*entry) for entry in broken],
        Counts(*counts),
    )

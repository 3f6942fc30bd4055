"""The prepared clips of a dataset: one zarr v3 group, and the same in memory.

    frames       (F, M, V, 3) float32   metres, the frames of all clips one after the other
    offsets      (N + 1,) int64         clip i is frames[offsets[i] : offsets[i + 1]]
    label ...    (N,) int32             label (0-based), subject, camera, setup, replication,
                                        raw_frames
    name         (N,) string            sorted
    columns/NAME (N,) int32 or string   what the dataset says of its clips besides, if anything
    splits/NAME  (N,) int8              a split list: 1 train, 0 test, -1 neither

The group's attributes are the `layout` of the joints, so that a store is read without the sensors'
own; the number of `classes`; the `format` of the archives; `keepbits`; and the `checksums` of
`machine.host.checked`.

`frames` is kept in shards of many chunks: few files, whatever the number of clips.
"""

import dataclasses
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec
from zarr.core.buffer import Buffer
from zarr.storage import MemoryStore

from machine.host import checked
from machine.host.checked import Group
from skeletons.clips.layout import Layout

FIELDS = ("label", "subject", "camera", "setup", "replication", "raw_frames")
SHARD = 16_384  # frames of a file
CHUNK = 1_024  # frames that are compressed together
TEXT = np.dtypes.StringDType()
# Of the writer, beside which other processes read; each thread would keep memory for itself.
_ONE_THREAD = {"threading.max_workers": 1, "async.concurrency": 1}


@dataclass(frozen=True)
class Clips:
    """The clips of a prepared dataset, in memory; arrays as in the store."""

    frames: NDArray[np.float32]
    offsets: NDArray[np.int64]
    label: NDArray[np.int32]
    subject: NDArray[np.int32]
    camera: NDArray[np.int32]
    setup: NDArray[np.int32]
    replication: NDArray[np.int32]
    name: NDArray[Any]
    raw_frames: NDArray[np.int32]
    splits: Mapping[str, NDArray[np.int8]]
    layout: Layout
    classes: int
    columns: Mapping[str, NDArray[Any]] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.label)

    def clip(self, index: int) -> NDArray[np.float32]:
        """The frames (T, M, V, 3) of one clip."""
        return self.frames[self.offsets[index] : self.offsets[index + 1]]


def read(path: Path | str, *, frames: bool = True) -> Clips:
    """The clips of a store, if not `frames` then all but these. Raises UserError when there is
    none, and for a file of it that is not as it was written.
    """
    group = Group(path)
    return Clips(
        frames=group.read("frames", slice(None) if frames else slice(0)),
        offsets=group.read("offsets"),
        name=group.read("name"),
        splits=_arrays(group, "splits"),
        layout=layout(group),
        classes=int(group.attributes["classes"]),
        columns=_arrays(group, "columns"),
        **{field: group.read(field) for field in FIELDS},
    )


def layout(group: Group) -> Layout:
    """The layout of a store's joints, which the store carries, without the rest pose."""
    return Layout(**{name: _tuples(of) for name, of in group.attributes["layout"].items()})


def encode_shard(frames: NDArray[np.float32], *, keepbits: int | None, shard: int) -> bytes:
    """The bytes of a shard of a store's `frames`, wherever in the store it is.

    `frames` (F, M, V, 3) are the `shard` frames that lie in it, fewer for the last, rounded to
    `keepbits` if that is not None.
    """
    files: dict[str, Buffer] = {}
    with zarr.config.set(_ONE_THREAD):
        group = zarr.open_group(MemoryStore(files), mode="w")
        array = _create_frames(group, frames.shape, keepbits, shard)
        array[:] = frames
    return files["frames/c/0/0/0/0"].to_bytes()


def shard_file(folder: Path, index: int) -> Path:
    """The file of a shard of a store's `frames`."""
    return folder / "frames" / "c" / str(index) / "0" / "0" / "0"


def finish(folder: Path, clips: Clips, *, format: str, keepbits: int | None, shard: int) -> None:
    """Write everything but the shards of `frames`, which are in `folder` already, and make it a
    store. The frames of `clips` are not looked at.

    Whatever else an interrupted call left in `folder` is removed first.
    """
    for entry in folder.iterdir():
        if entry.is_dir() and entry.name != "frames":
            shutil.rmtree(entry)
        elif entry.is_file():
            entry.unlink()
    (folder / "frames" / "zarr.json").unlink(missing_ok=True)
    layout = clips.layout
    attributes: dict[str, Any] = {
        "layout": layout.carried(),
        "classes": clips.classes,
        "format": format,
        "keepbits": keepbits,
    }
    group = zarr.open_group(folder, mode="a", attributes=attributes)
    shape = (int(clips.offsets[-1]), layout.bodies, layout.joints, 3)
    _create_frames(group, shape, keepbits, shard)
    for name in ("offsets", "name", *FIELDS):
        group.create_array(name, data=getattr(clips, name))
    inner = {"columns": clips.columns, "splits": clips.splits}
    if not clips.columns:  # a store without any is as it was before there were columns
        del inner["columns"]
    for kind, arrays in inner.items():
        created = group.create_group(kind)
        for name, values in arrays.items():
            created.create_array(name, data=values)
    checked.seal(folder)


def _create_frames(
    group: zarr.Group, shape: tuple[int, ...], keepbits: int | None, shard: int
) -> zarr.Array[Any]:
    # The last bits of exact coordinates are noise, of which Zstandard makes hardly less than LZ4,
    # in several times its time. Rounded coordinates it packs much smaller.
    exact = keepbits is None
    return group.create_array(
        "frames",
        shape=shape,
        dtype=np.float32,
        chunks=(min(CHUNK, shard), *shape[1:]),
        shards=(shard, *shape[1:]),
        compressors=BloscCodec(
            cname="lz4" if exact else "zstd", clevel=5 if exact else 1, shuffle="shuffle"
        ),
        config={"write_empty_chunks": True},  # a shard of zeros is a file as well
    )


def _arrays(group: Group, folder: str) -> dict[str, NDArray[Any]]:
    return {name: group.read(f"{folder}/{name}") for name in group.names(folder)}


def _tuples(value: Any) -> Any:
    """JSON's lists as tuples."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value

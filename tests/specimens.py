"""A dataset of one clip in each format, made of its bodies; and `prepare` in this process."""

import contextlib
import json
import pickle
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from hypothesis import strategies as st
from layouts import KINECT_V1, KINECT_V2
from numpy.typing import NDArray

from skeletons.clips import store
from skeletons.clips.layout import Layout
from skeletons.formats import msraction3d
from skeletons.preparing.job import Job, Report, prepare
from skeletons.preparing.make_clips import Recipe, read_group
from skeletons.preparing.workers import Workers

NAME, CLASSES = "S001C001P001R001A001", 60
Bodies = NDArray[np.floating]


def prepared(folder: Path, job: Job) -> tuple[Report, store.Clips]:
    """The report on a job and its clips, which this process makes."""
    pool = ThreadPoolExecutor(1)
    here = contextlib.nullcontext(Workers(partial(pool.submit, read_group), Future.result, 2))
    with mock.patch("skeletons.preparing.job.start_workers", return_value=here):
        report = prepare(folder / "out.zarr", job, scratch=folder / "scratch")
    return report, store.read(folder / "out.zarr")


def frames(clips: store.Clips, index: int = 0) -> NDArray[np.float32]:
    """The frames of a clip."""
    return clips.frames[clips.offsets[index] : clips.offsets[index + 1]]


def person(seed: int, length: int, bodies: int = 2, joints: int = 25) -> NDArray[np.float64]:
    """Bodies (M, T, V, 3) that move, three metres from the sensor, to the micrometre."""
    generator = np.random.default_rng(seed)
    rest = generator.normal(scale=0.4, size=(bodies, 1, joints, 3))
    moved = rest + generator.normal(scale=0.02, size=(bodies, length, joints, 3)).cumsum(axis=1)
    placed = moved + np.array([0.1, 0.2, 3.0]) + np.arange(bodies)[:, None, None, None]
    return placed.round(6)


@st.composite
def damaged(draw: st.DrawFn, files: st.SearchStrategy[bytes]) -> bytes:
    """One of these files with some bytes changed, cut out or repeated; or any bytes."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=200))
    data = bytearray(draw(files))
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(data)))
        stop = start + draw(st.integers(0, 40))
        data[start:stop] = draw(st.binary(max_size=3) | st.just(bytes(data[start:stop] * 2)))
    return bytes(data)


def layout_of(format: str) -> Layout:
    """The layout of a format's sensor, or of one that it may have."""
    return KINECT_V1 if format in ("nwucla", "utkinect", "msraction3d") else KINECT_V2


def normal_form_of(format: str) -> str:
    """The normal form of a format's dataset, or one that it may have."""
    return "released" if format in ("ntu", "pku", "pyskl") else "upright"


def specimen(format: str, folder: Path, bodies: Bodies, **recipe: Any) -> Job:
    """A dataset of one clip of these bodies (M, T, V, 3), of action 0, written into the folder."""
    folder.mkdir(parents=True)
    made = {"skeletons": [folder]} | (globals()[f"_{format}"](folder, bodies) or {})
    return Job(
        Recipe(format, layout_of(format), CLASSES, normal_form=normal_form_of(format), **recipe),
        **made,
    )


def _ntu(folder: Path, bodies: Bodies) -> None:
    lines = [bodies.shape[1]]
    for frame in bodies.swapaxes(0, 1):
        lines.append(len(bodies))
        for body in frame:
            lines += ["0 " * 10, len(body), *(" ".join(map(str, [*j, *[0] * 9])) for j in body)]
    (folder / f"{NAME}.skeleton").write_text("\n".join(map(str, lines)))


def _pku(folder: Path, bodies: Bodies) -> dict[str, Any]:
    for inner in ("videos", "labels"):
        (folder / inner).mkdir()
    both = np.zeros((2, *bodies.shape[1:]))
    both[: len(bodies)] = bodies
    np.savetxt(folder / "videos/0002-M.txt", both.swapaxes(0, 1).reshape(len(both[0]), -1), "%.6f")
    (folder / "labels/0002-M.txt").write_text(f"1,0,{bodies.shape[1]},1")
    return {"skeletons": [folder / "videos"], "labels": [folder / "labels"]}


def _utkinect(folder: Path, bodies: Bodies) -> dict[str, Any]:
    length = bodies.shape[1]
    rows = np.c_[np.arange(1, length + 1), bodies[0].reshape(length, -1)]
    np.savetxt(folder / "joints_s01_e01.txt", rows, "%.6f")
    (folder / "actionLabel.txt").write_text(f"s01_e01\nwalk: 1 {length}")
    return {"labels": [folder]}


def _msraction3d(folder: Path, bodies: Bodies) -> None:
    own = np.empty_like(bodies[0])
    own[:, msraction3d.JOINTS] = bodies[0]
    rows = np.pad(own.reshape(-1, 3), [(0, 0), (0, 1)])
    np.savetxt(folder / "a01_s01_e01_skeleton3D.txt", rows, "%.6f")


def _nwucla(folder: Path, bodies: Bodies) -> None:
    text = json.dumps({"label": 1, "skeletons": bodies[0].tolist()})
    (folder / "a01_s01_e01_v01.json").write_text(text)


def _arrays(folder: Path, bodies: Bodies) -> None:
    np.save(folder / "a.npy", bodies.swapaxes(0, 1))
    (folder / "clips.csv").write_text("file,label\na,0\n")


def _agcn(folder: Path, bodies: Bodies) -> None:
    agcn(folder, {NAME: bodies.swapaxes(0, 1)}, length=bodies.shape[1])


def _ctrgcn(folder: Path, bodies: Bodies) -> dict[str, Any]:
    return {"skeletons": [ctrgcn(folder / "a.npz", [bodies], [], moved=False)]}


def _pyskl(folder: Path, bodies: Bodies) -> dict[str, Any]:
    path = folder / "a.pkl"
    path.write_bytes(pickle.dumps({"annotations": annotations({NAME: bodies})}))
    return {"skeletons": [path]}


def agcn(folder: Path, clips: Mapping[str, Bodies], side: str = "train", length: int = 40) -> Path:
    """A side of a folder of AGCN's, of prepared clips (T, M, V, 3)."""
    folder.mkdir(exist_ok=True)
    array = [clip[np.arange(length) % len(clip)].transpose(3, 0, 2, 1) for clip in clips.values()]
    np.save(folder / f"{side}_data_joint.npy", np.array(array, np.float32))
    np.save(folder / f"{side}_num_frame.npy", np.array([len(clip) for clip in clips.values()]))
    labels = [int(name[-3:]) - 1 for name in clips]
    names = [f"{name}.skeleton" for name in clips]
    (folder / f"{side}_label.pkl").write_bytes(pickle.dumps((names, labels)))
    return folder


def ctrgcn(path: Path, train: list[Bodies], test: list[Bodies], *, moved: bool = True) -> Path:
    """The npz of raw clips (M, T, V, 3); the label of a clip is its place in its side."""
    arrays = {}
    joints = (train + test)[0].shape[2]
    for side, clips in (("train", train), ("test", test)):
        x = np.zeros((len(clips), 20, 2, joints, 3), np.float32)
        for i, bodies in enumerate(clips):
            origin = bodies[0, 0, 1] * moved * bodies.any(axis=(2, 3), keepdims=True)
            x[i, : bodies.shape[1], : len(bodies)] = (bodies - origin).swapaxes(0, 1)
        arrays[f"x_{side}"] = x.reshape(len(clips), 20, 6 * joints)
        arrays[f"y_{side}"] = np.eye(CLASSES)[np.arange(len(clips))]
    np.savez(path, **arrays)
    return path


def annotations(clips: Mapping[str, Bodies]) -> list[dict[str, Any]]:
    """The clips as pyskl's pickle has them."""
    return [
        {
            "frame_dir": name,
            "label": int(name[-3:]) - 1,
            "keypoint": bodies.astype(np.float16),
            "total_frames": bodies.shape[1],
        }
        for name, bodies in clips.items()
    ]

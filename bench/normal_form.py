"""Compare the normal forms on real recordings, in the sensor's axes and in a camera's: x to the
right, y down.

    python -m bench.normal_form nwucla archives    # a dataset's file, the folder of its archives

A row a form and axes: of the clips, those whose trunk leans by more than 30 degrees in the first
frame, those that are upside down there, and the top-1 accuracy (%) of the nearest neighbour by
cosine on prepared coordinates: the central 95 %, resized to 16 frames, of body 0, by the dataset's
first protocol.
"""

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from experiment.parameters.params import load_yaml
from experiment.parameters.schema import Dataset
from learning.probing.features import evaluation_view
from learning.probing.probes import Labelled, retrieval
from learning.training.device_clips import DeviceClips
from skeletons import sensors
from skeletons.clips import protocols, store
from skeletons.preparing.job import Job, prepare
from skeletons.preparing.make_clips import Recipe
from skeletons.preparing.normalise import point

AXES = {"sensor": (1, 2, 3), "camera": (-1, -2, 3)}
FRAMES, LEANS = 16, 30  # degrees


def main() -> None:
    dataset, folder = sys.argv[1], Path(sys.argv[2])
    entry = Dataset.model_validate(load_yaml(Path("datasets", f"{dataset}.yaml")))
    print(f"{'form':10}{'axes':8}{'clips':>6}{'lean':>6}{'upside down':>13}{'top-1':>8}")
    for form in ("released", "upright"):
        for axes, order in AXES.items():
            clips = made(entry, folder, form, order)
            figures = f"{len(clips):6}{leaning(clips, LEANS):6}{leaning(clips, 90):13}"
            print(f"{form:10}{axes:8}{figures}{accuracy(clips, entry):8.2f}")


def made(entry: Dataset, folder: Path, form: str, axes: tuple[int, int, int]) -> store.Clips:
    """The clips of the archives in a normal form, after their axes were exchanged."""
    archives = entry.archives
    recipe = Recipe(
        entry.format,
        sensors.layout(entry.layout, released=form == "released", bodies=archives.bodies),
        entry.classes,
        tuple(archives.joints),
        form,
        axes=axes,
    )
    files = (archives.skeletons, archives.labels, archives.splits)
    skeletons, labels, splits = ([folder / name for name in names] for names in files)
    leave_out = Path(archives.leave_out) if archives.leave_out else None
    job = Job(recipe, skeletons, labels, splits, leave_out=leave_out, on_error="skip")
    with tempfile.TemporaryDirectory() as work:
        prepare(Path(work, "clips.zarr"), job, scratch=Path(work, "scratch"))
        return store.read(Path(work, "clips.zarr"))


def leaning(clips: store.Clips, degrees: float) -> int:
    """Count the clips whose trunk is so far from z in the first frame."""
    start, end = sensors.layout(clips.layout.name).up
    first = clips.frames[clips.offsets[:-1], 0]
    trunk = point(first, end) - point(first, start)
    cosine = trunk[:, 2] / np.maximum(np.linalg.norm(trunk, axis=1), 1e-9)
    return int((cosine < np.cos(np.deg2rad(degrees))).sum())


def accuracy(clips: store.Clips, entry: Dataset) -> float:
    """Top-1 accuracy (%) of the nearest neighbour on coordinates."""
    name, protocol = next(iter(entry.protocols.items()))
    one = replace(clips, frames=clips.frames[:, :1], layout=replace(clips.layout, bodies=1))
    device_clips = DeviceClips.of(one, torch.device("cpu"))
    sides = []
    for side in protocols.split(clips, protocol.rule, name=name):
        view = evaluation_view(device_clips, torch.from_numpy(side), size=FRAMES, stream="joint")
        sides.append(Labelled(view.flatten(1), device_clips.labels[torch.from_numpy(side)]))
    train, test = sides
    return retrieval(test, train).top1


if __name__ == "__main__":
    main()

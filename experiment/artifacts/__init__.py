"""Paths of the artifacts, and writing and reading of features, classifiers, scores, maps and pages:
whole or not at all, and never into a file that is there, which DVC's cache may share.

data/features/RUN.zarr    train/ and test/, each with
    clip (N,) int64           the clip's place in the dataset's store
    label (N,) int64          0-based
    features (N, D) float32   of the pretrained encoder
    untrained (N, D) float32  of the same encoder before it was trained: the floor
  attribute classes         number of actions of the dataset
data/classifiers/RUN.zarr  the linear classifier of the features: scores = features weight^T + bias
    weight (classes, D) float32, bias (classes,) float32
data/scores/RUN.zarr      of the linear classifier, for the test clips
    scores (N, classes) float32, clip and label (N,) int64
data/maps/RUN.json        2,000 of the test clips at most, with what a page needs to play them
    test                      of each clip its place in the store, its name and label, `map`: where
                              it is by t-SNE of its features and of the untrained ones, and `near`:
                              [place in `train`, distance] of the nearest training clips
    train                     these training clips; skeleton, clips: the layout and the sides' sizes
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import zarr
from numpy.typing import NDArray

from machine.host import atomic, checked
from machine.host.checked import Group

DATA = Path("data")
SYNTHETIC, RAW = DATA / "synthetic", DATA / "raw"
LINKED = DATA / "linked"  # files of others' weights
FIGURES = DATA / "figures"
PAGES = DATA / "pages"
EXPORTED = DATA / "exported"  # neither DVC's nor git's
_ROWS = 4096  # of a chunk of features


def scratch() -> Path:
    """The folder of unfinished work: the project's own, also where DVC runs a copy of it."""
    return Path(os.environ.get("DVC_ROOT", ""), ".scratch")


def store(dataset: str) -> Path:
    """A dataset's prepared clips; `skeletons.clips.store` reads them."""
    return DATA / f"{dataset}.zarr"


def given(run: str) -> Path:
    """The encoder that a run takes instead of pretraining its own, as `weights`."""
    return DATA / "given" / run / "encoder.pt"


def weights(run: str) -> Path:
    """A run's pretrained encoder; `model.network.encoder.load_encoder` reads it."""
    return DATA / "weights" / f"{run}.pt"


def epochs(run: str) -> Path:
    """The folder of the encoders that a run kept of earlier epochs, `<epoch>.pt`."""
    return DATA / "epochs" / run


def features(run: str) -> Path:
    """A run's features of the training and test clips of its protocol."""
    return DATA / "features" / f"{run}.zarr"


def classifier(run: str) -> Path:
    """A run's linear classifier of its features."""
    return DATA / "classifiers" / f"{run}.zarr"


def scores(run: str) -> Path:
    """A run's scores of the test clips by its linear classifier."""
    return DATA / "scores" / f"{run}.zarr"


def feature_map(run: str) -> Path:
    """A run's map: places of its test clips."""
    return DATA / "maps" / f"{run}.json"


def run_page(run: str) -> Path:
    """A run's page for a browser."""
    return PAGES / f"{run}.html"


def dataset_page(dataset: str) -> Path:
    """A dataset's page for a browser."""
    return PAGES / f"{dataset}-clips.html"


# The path that dvc.yaml makes of a null in place of a run: a file that DVC finds and nothing reads.
NO_SCORES = scores("None")


class Features(NamedTuple):
    """Clips of one side of a protocol and their features, as in the file."""

    clip: NDArray[np.int64]
    label: NDArray[np.int64]
    features: NDArray[np.float32]
    untrained: NDArray[np.float32]


class Classifier(NamedTuple):
    """A linear classifier of features, as in the file."""

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]


class Scores(NamedTuple):
    """Test clips and the scores of their classes, as in the file."""

    clip: NDArray[np.int64]
    label: NDArray[np.int64]
    scores: NDArray[np.float32]


def write_features(run: str, sides: Mapping[str, Features], *, classes: int) -> Path:
    """Write the features of the sides `train` and `test`, instead of those that are there."""
    with _new(features(run)) as group:
        group.attrs["classes"] = classes
        for side, found in sides.items():
            for name, array in found._asdict().items():
                chunks = (min(_ROWS, len(array)), *array.shape[1:])
                data = np.ascontiguousarray(array)
                group.create_array(f"{side}/{name}", data=data, chunks=chunks)
    return features(run)


def read_features(run: str, side: str) -> Features:
    """The features of one side, `train` or `test`."""
    return Features(*_read(features(run), Features._fields, f"{side}/"))


def classes(run: str) -> int:
    """The number of actions of the dataset of a run with features."""
    return int(Group(features(run)).attributes["classes"])


def write_classifier(run: str, found: Classifier) -> Path:
    """Write the classifier of a run's features, instead of the one that is there."""
    return _write(classifier(run), found._asdict())


def read_classifier(run: str) -> Classifier:
    """The linear classifier of a run's features."""
    return Classifier(*_read(classifier(run), Classifier._fields))


def write_scores(run: str, found: Scores) -> Path:
    """Write the scores of the test clips, instead of those that are there."""
    return _write(scores(run), found._asdict())


def read_scores(run: str) -> Scores:
    """The scores of a run's test clips."""
    return Scores(*_read(scores(run), Scores._fields))


def write_map(run: str, found: dict[str, Any]) -> Path:
    """Write a run's map, instead of the one that is there."""
    atomic.write(feature_map(run), json.dumps(found, separators=(",", ":")).encode())
    return feature_map(run)


def read_map(run: str) -> dict[str, Any]:
    """A run's map."""
    return dict(json.loads(feature_map(run).read_text()))


def write_page(path: Path, page: str) -> str:
    """Write a page; return a line to say of it."""
    atomic.write(path, page.encode())
    return f"{path}: {len(page.encode()) / 1e6:.1f} MB, for a browser"


@contextmanager
def _new(path: Path) -> Iterator[zarr.Group]:
    """An empty group to fill, which then takes the place of `path`."""
    unfinished = path.with_name(f".{path.name}.part")
    try:
        yield zarr.create_group(unfinished, overwrite=True)  # what a run that was killed left
        checked.seal(unfinished)
        atomic.place(unfinished, path)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _write(path: Path, arrays: Mapping[str, NDArray[Any]]) -> Path:
    with _new(path) as group:
        for name, array in arrays.items():
            group.create_array(name, data=np.ascontiguousarray(array))
    return path


def _read(path: Path, names: tuple[str, ...], prefix: str = "") -> list[NDArray[Any]]:
    group = Group(path)
    return [group.read(f"{prefix}{name}") for name in names]

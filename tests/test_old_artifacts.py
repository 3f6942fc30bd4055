"""Artifacts that an earlier commit wrote are read for ever: a store, weights and what came of them.

`python tests/test_old_artifacts.py tests/golden/artifacts.tar.xz` writes the file as the tree does
today. It is not to be written again: what was written before is what a later reader must read. A
changed schema gets a second file beside it.
"""

import contextlib
import json
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from experiment import artifacts
from experiment.artifacts import Classifier, Features, Scores
from learning.probing.features import evaluation_view
from learning.training.device_clips import DeviceClips
from model.network.encoder import Encoder, load_encoder, save_encoder
from skeletons.clips import store
from skeletons.clips.layout import Layout
from skeletons.preparing.job import Job, prepare
from skeletons.preparing.make_clips import Recipe

GOLDEN = Path(__file__).parent / "golden" / "artifacts.tar.xz"
RUN, DATASET, CLASSES, SIZE = "old", "old", 3, 4
LAYOUT = Layout("five", 5, 2, ((0, 1), (2, 1), (3, 1), (4, 1)), (0, 1, 3, 2, 4), 1, (1, 0), (2, 3))
CLIPS = {"a01_s01_e00_v01": (1, 3), "a01_s02_e01_v03": (3, 5), "a02_s01_e04_v02": (2, 4)}


def write() -> None:
    """Write the artifacts into the working directory, as the stages do."""
    random = np.random.default_rng(0)
    Path("raw").mkdir()
    for name, (label, frames) in CLIPS.items():
        skeletons = random.normal(size=(frames, LAYOUT.joints, 3)).round(3).tolist()
        Path("raw", f"{name}.json").write_text(json.dumps({"label": label, "skeletons": skeletons}))
    prepare(
        artifacts.store(DATASET),
        Job(Recipe("nwucla", LAYOUT, CLASSES, keepbits=7), [Path("raw")]),
        workers=1,
        scratch=Path("scratch"),
    )
    clips = device_clips()
    torch.manual_seed(0)
    encoder, untrained = (
        Encoder(parents=LAYOUT.parents, bodies=2, frames=SIZE, width=4, dim=4, heads=2, layers=1)
        for _ in range(2)
    )
    encoder(evaluation_view(clips, torch.arange(3), size=SIZE, stream="joint"))  # moves statistics
    for array in encoder.state_dict().values():
        array.copy_(array.bfloat16())  # half as large a file
    artifacts.weights(RUN).parent.mkdir()
    save_encoder(encoder.eval(), artifacts.weights(RUN), stream="joint")

    def side(indices: list[int]) -> Features:
        rows = torch.tensor(indices)
        pair = (encoded(network.eval(), clips, rows).numpy() for network in (encoder, untrained))
        return Features(rows.numpy(), clips.labels[rows].numpy(), *pair)

    sides = {"train": side([0, 2]), "test": side([1])}
    artifacts.write_features(RUN, sides, classes=CLASSES)
    classifier = Classifier(
        random.normal(size=(CLASSES, 8)).astype(np.float32).round(3),
        np.array([0.25, 0.5, -1], np.float32),
    )
    artifacts.write_classifier(RUN, classifier)
    scores = sides["test"].features @ classifier.weight.T + classifier.bias
    artifacts.write_scores(RUN, Scores(sides["test"].clip, sides["test"].label, scores))


def device_clips() -> DeviceClips:
    return DeviceClips.of(store.read(artifacts.store(DATASET)), torch.device("cpu"))


@torch.no_grad()
def encoded(encoder: Encoder, clips: DeviceClips, rows: Tensor) -> Tensor:
    """The features (N, D) of the clips `rows` (N,)."""
    return encoder.represent(evaluation_view(clips, rows, size=SIZE, stream="joint"))


@pytest.fixture
def _old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old artifacts in the working directory."""
    with tarfile.open(GOLDEN) as golden:
        golden.extractall(tmp_path)
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("_old")
def test_an_old_store_is_read() -> None:
    clips = store.read(artifacts.store(DATASET))
    assert clips.layout == LAYOUT
    assert clips.classes == CLASSES
    assert clips.name.tolist() == list(CLIPS)
    assert clips.label.tolist() == [label - 1 for label, _ in CLIPS.values()]
    assert clips.raw_frames.tolist() == [frames for _, frames in CLIPS.values()]
    assert clips.offsets.tolist() == [0, 3, 8, 12]
    fields = (clips.subject, clips.camera, clips.setup, clips.replication)
    assert [field.tolist() for field in fields] == [[1, 2, 1], [1, 3, 2], [0, 0, 0], [0, 1, 4]]


@pytest.mark.usefixtures("_old")
@pytest.mark.parametrize(("side", "rows"), [("train", [0, 2]), ("test", [1])])
def test_old_weights_give_the_old_features_of_the_old_clips(side: str, rows: list[int]) -> None:
    old = artifacts.read_features(RUN, side)
    assert artifacts.classes(RUN) == CLASSES
    assert old.clip.tolist() == rows
    clips = device_clips()
    assert old.label.tolist() == clips.labels[old.clip].tolist()
    ours = encoded(load_encoder(artifacts.weights(RUN)), clips, torch.from_numpy(old.clip))
    np.testing.assert_allclose(ours, old.features, rtol=1e-4, atol=1e-5)
    assert not np.allclose(old.features, old.untrained, atol=1e-2)


@pytest.mark.usefixtures("_old")
def test_an_old_classifier_gives_the_old_scores_of_the_old_features() -> None:
    old, features = artifacts.read_scores(RUN), artifacts.read_features(RUN, "test")
    assert (old.clip.tolist(), old.label.tolist()) == ([1], [2])
    weight, bias = artifacts.read_classifier(RUN)
    assert bias.tolist() == [0.25, 0.5, -1]
    np.testing.assert_allclose(features.features @ weight.T + bias, old.scores, rtol=1e-4)


if __name__ == "__main__":
    target = Path(sys.argv[1]).absolute()
    with tempfile.TemporaryDirectory() as folder:
        with contextlib.chdir(folder):
            write()
        with tarfile.open(target, "w:xz") as archive:
            archive.add(Path(folder, "data"), "data")

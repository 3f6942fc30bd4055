"""Artifacts are read as they were written."""

from pathlib import Path

import numpy as np
import pytest

from experiment import artifacts
from experiment.artifacts import Classifier, Features, Scores


def side(clips: int) -> Features:
    rng = np.random.default_rng(clips)
    numbers = np.arange(clips) + 10
    arrays = (rng.normal(size=(clips, 4)).astype(np.float32) for _ in range(2))
    return Features(numbers, numbers % 3, *arrays)


def test_what_was_written_is_read_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sides = {"train": side(5), "test": side(3)}
    artifacts.write_features("run", sides, classes=7)
    for name, written in sides.items():
        for ours, array in zip(artifacts.read_features("run", name), written, strict=True):
            np.testing.assert_array_equal(ours, array, strict=True)
    assert artifacts.classes("run") == 7
    classifier = Classifier(np.ones((7, 4), np.float32), np.zeros(7, np.float32))
    artifacts.write_classifier("run", classifier)
    for ours, array in zip(artifacts.read_classifier("run"), classifier, strict=True):
        np.testing.assert_array_equal(ours, array, strict=True)
    scores = Scores(sides["test"].clip, sides["test"].label, np.ones((3, 7), np.float32))
    artifacts.write_scores("run", scores)
    for ours, array in zip(artifacts.read_scores("run"), scores, strict=True):
        np.testing.assert_array_equal(ours, array, strict=True)

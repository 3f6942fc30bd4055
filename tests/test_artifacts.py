"""Artifacts are read as they were written, and written whole or not at all."""

import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from matplotlib.figure import Figure

from experiment import artifacts
from experiment.artifacts import Classifier, Features, Scores, tables
from experiment.reports import drawing


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


def write_all(number: int) -> None:
    """Write one of each kind of artifact, with other contents for another `number`."""
    artifacts.write_features("run", {"train": side(number)}, classes=number)
    artifacts.write_scores("run", Scores(*side(number)[:3]))
    artifacts.write_map("run", {"test": [number]})
    artifacts.write_page(artifacts.run_page("run"), f"page {number}")
    tables.write("metrics/linear/run.json", top1=number)
    tables.write_json("metrics/summary.json", [number])
    tables.write_csv("metrics/prepare/run.csv", ("clip",), [(number,)])
    figure = Figure(figsize=(1, 1))
    figure.text(0, 0, str(number))
    drawing.save(figure, artifacts.FIGURES / "run.png")


def contents(folder: Path) -> dict[str, bytes]:
    """The bytes of all files in a folder and below it."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_an_output_is_replaced_and_what_is_linked_to_it_keeps_its_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DVC's cache is linked to outputs, if it is told so."""
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    write_all(4)
    shutil.copytree(".", tmp_path / "cache", copy_function=os.link)
    before = contents(tmp_path / "cache")
    write_all(5)
    assert contents(tmp_path / "cache") == before
    after = contents(Path())
    assert after.keys() == before.keys()
    for name in ("data/maps/run.json", "data/figures/run.png", "metrics/prepare/run.csv"):
        assert after[name] != before[name]


def test_a_full_disk_leaves_the_outputs_that_were_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_all(400)
    before = contents(tmp_path)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    for size, write in (
        (1000, lambda: artifacts.write_features("run", {"train": side(401)}, classes=401)),
        (1000, lambda: artifacts.write_scores("run", Scores(*side(401)[:3]))),
        (5, lambda: artifacts.write_map("run", {"test": [401]})),
        (5, lambda: artifacts.write_page(artifacts.run_page("run"), "page 401")),
        (5, lambda: tables.write("metrics/linear/run.json", top1=401)),
    ):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limit[1]))
        try:
            with pytest.raises(OSError, match="File too large"):
                write()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        assert contents(tmp_path) == before


def test_a_kill_leaves_no_half_of_an_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code = "import test_artifacts as t\nprint(flush=True)\nwhile True: t.write_all(3000)"
    for moment in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdout=subprocess.PIPE,
        ) as writer:
            assert writer.stdout
            writer.stdout.readline()
            time.sleep(0.3 + 0.13 * moment)
            writer.kill()
        if artifacts.features("run").exists():
            assert len(artifacts.read_features("run", "train").features) == 3000
        if artifacts.scores("run").exists():
            assert len(artifacts.read_scores("run").scores) == 3000
        if artifacts.feature_map("run").exists():
            assert artifacts.read_map("run") == {"test": [3000]}
    assert contents(Path())
    write_all(4)
    left = {path for path in contents(Path()) if "unfinished" in path or "/." in path}
    assert not left


def test_a_failure_leaves_the_output_that_was_there_and_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_all(4)
    before = contents(tmp_path)
    sides = {"train": side(5), "test": side(5)._replace(label=np.array(["no number"], object))}
    with pytest.raises(Exception, match="object"):
        artifacts.write_features("run", sides, classes=5)
    monkeypatch.setattr("os.replace", mock.Mock(side_effect=OSError("disk full")))
    for write in (
        lambda: artifacts.write_map("run", {}),
        lambda: tables.write_rows("metrics/linear/run.json", []),
    ):
        with pytest.raises(OSError, match="disk full"):
            write()
    assert contents(tmp_path) == before

"""commands.label says of recordings what the pipeline's classifier and retrieval say of them."""

import json
import os
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import nwucla_archive
import pytest
import torch
import yaml
from clone import LINKED, ROOT, TINY, update
from layouts import KINECT_V1

from commands import label as command
from commands.label import label
from errors import UserError
from experiment import artifacts
from experiment.parameters import params, presets
from learning.probing.probes import nearest
from model.network.encoder import Encoder, save_encoder
from skeletons import sensors
from skeletons.clips import store
from skeletons.preparing.make_clips import Recipe
from stages import embed, linear, prepare, raw, synthetic

RUN, ARCHIVE = "nwucla-xview", Path("data/raw/nwucla/all_sqe.zip")


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project folder after `linear`, with an encoder of random weights."""
    folder = tmp_path_factory.mktemp("project")
    values = presets.values("nwucla")
    update(values, {**TINY, "sources": {"pku2": "synthetic"}})
    values["supervised_runs"] = {}
    (folder / "params.yaml").write_text(yaml.safe_dump(values))
    for name in LINKED:
        (folder / name).symlink_to(ROOT / name)
    before = Path.cwd()
    os.chdir(folder)
    try:
        nwucla_archive.write(Path("archives/all_sqe.zip"))
        synthetic.main("pku2")
        raw.main("nwucla")
        raw.main("pku2")
        prepare.main("nwucla")
        torch.manual_seed(0)
        encoder = Encoder(parents=KINECT_V1.parents, bodies=1, **params.read().encoder.model_dump())
        encoder(torch.randn(8, 3, 8, 20, 1))
        artifacts.weights(RUN).parent.mkdir()
        save_encoder(encoder.eval(), artifacts.weights(RUN))
        embed.main(RUN)
        linear.main(RUN)
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def project(labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it as working directory."""
    shutil.copytree(labelled, tmp_path, symlinks=True, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def recording() -> dict[str, Any]:
    """What a recording of the archive holds."""
    with zipfile.ZipFile(ARCHIVE) as archive:
        return json.loads(archive.read(sorted(n for n in archive.namelist() if "json" in n)[0]))


def what(row: dict[str, Any]) -> dict[str, Any]:
    """What a row says of its recording."""
    return {name: row[name] for name in ("actions", "nearest")}


@pytest.mark.usefixtures("project")
def test_an_archive_is_labelled_as_the_pipeline_labels_its_clips() -> None:
    rows = {Path(row["recording"]).stem: row for row in label(RUN, [ARCHIVE])}
    names = store.read(artifacts.store("nwucla"), frames=False).name
    assert set(rows) == set(names)
    train, test = (artifacts.read_features(RUN, side) for side in ("train", "test"))
    scores = artifacts.read_scores(RUN)
    near = nearest(*(torch.from_numpy(side.features) for side in (test, train)), 3)
    for clip, score, neighbours in zip(scores.clip, scores.scores, near, strict=True):
        row = rows[names[clip]]
        best = np.argsort(-score, kind="stable")[:3]
        assert [action["action"] for action in row["actions"]] == (best + 1).tolist()
        softmax = np.exp(score - score.max()) / np.exp(score - score.max()).sum()
        found = [action["probability"] for action in row["actions"]]
        np.testing.assert_allclose(found, softmax[best], atol=1e-4)
        assert [one["clip"] for one in row["nearest"]] == names[train.clip[neighbours]].tolist()
        labels = (train.label[neighbours] + 1).tolist()
        assert [one["action"] for one in row["nearest"]] == labels
        cosines = [one["cosine"] for one in row["nearest"]]
        assert cosines == sorted(cosines, reverse=True)


@pytest.mark.usefixtures("project")
def test_a_training_clip_finds_itself_whatever_the_order_of_joints() -> None:
    """Of recordings with the joints in another order, and one that the layout has not."""
    order = [None, *range(19, -1, -1)]
    described = yaml.safe_load((ROOT / "datasets/nwucla.yaml").read_text())
    described["archives"]["joints"] = order
    Path("datasets").unlink()
    shutil.copytree(ROOT / "datasets", "datasets")
    Path("datasets/nwucla.yaml").write_text(yaml.safe_dump(described))
    values = yaml.safe_load(Path("params.yaml").read_text())
    values["sources"]["nwucla"] = "archives"
    Path("params.yaml").write_text(yaml.safe_dump(values))
    with zipfile.ZipFile(ARCHIVE) as file:
        texts = {name: file.read(name) for name in file.namelist() if name.endswith(".json")}
    ARCHIVE.unlink()
    with zipfile.ZipFile(ARCHIVE, "w") as file:
        for name, text in texts.items():
            clip = json.loads(text)
            clip["skeletons"] = [[[9, 9, 9], *frame[::-1]] for frame in clip["skeletons"]]
            file.writestr(name, json.dumps(clip))
    prepare.main("nwucla")
    embed.main(RUN)
    linear.main(RUN)
    train = artifacts.read_features(RUN, "train").clip
    names = set(store.read(artifacts.store("nwucla"), frames=False).name[train])
    found = {
        row["nearest"][0]["clip"]: row["nearest"][0]["cosine"]
        for row in label(RUN, [ARCHIVE])
        if Path(row["recording"]).stem == row["nearest"][0]["clip"]
    }
    assert found == dict.fromkeys(names, 1.0)


@pytest.mark.usefixtures("project")
def test_windows_are_labelled_as_recordings_of_their_frames_whatever_the_name() -> None:
    whole = recording()
    frames = len(whole["skeletons"])
    cuts = [(0, 5), *((start, min(start + 5, frames)) for start in range(5, frames, 5))]
    Path("parts").mkdir()
    for start, end in cuts:
        part = whole | {"skeletons": whole["skeletons"][start:end]}
        Path("parts", f"from {start:03}.json").write_text(json.dumps(part))
    Path("mine.json").write_text(json.dumps(whole))
    windows = label(RUN, [Path("mine.json")], every=5)
    assert [tuple(row["frames"]) for row in windows] == cuts
    assert {row["recording"] for row in windows} == {"mine.json"}
    assert [what(row) for row in windows] == [what(row) for row in label(RUN, [Path("parts")])]


@pytest.mark.usefixtures("project")
def test_windows_with_nobody_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    whole = recording()
    for frame in whole["skeletons"][5:10]:
        frame[:] = [[0, 0, 0]] * len(frame)
    Path("mine.json").write_text(json.dumps(whole))
    starts = [row["frames"][0] for row in label(RUN, [Path("mine.json")], every=5)]
    assert starts == [0, *range(10, len(whole["skeletons"]), 5)]
    said = f"left out: mine: mine.json: no body in frames 6 to 10 of {len(whole['skeletons'])}\n"
    assert capsys.readouterr().err == said


@pytest.mark.usefixtures("project")
def test_a_video_is_read_whole_without_its_labels() -> None:
    """PKU-MMD's recordings have no clips but those that labels cut."""
    p = params.read()
    (archive,) = p.datasets["pku2"].archives.skeletons
    layout = sensors.layout(**p.datasets["pku2"].sensor)
    recipe = Recipe(layout=layout, **p.recipe("pku2"))
    windows, broken = command.read([artifacts.RAW / "pku2" / archive], recipe, every=40)
    places = {place for place, _ in windows}
    assert not broken
    assert len(windows) > len(places) > 1
    for place in places:
        own = [window for other, window in windows if other == place]
        assert [window.start for window in own] == list(range(0, own[-1].end, 40))
        assert all(len(window.frames) == window.end - window.start for window in own)


def test_the_command_prints_a_table_or_json(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def printed(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["label", RUN, str(ARCHIVE), *arguments])
        command.main()
        return capsys.readouterr().out

    rows = json.loads(printed("--json"))
    assert rows == label(RUN, [ARCHIVE])
    lines = printed().splitlines()
    assert len(lines) == len(rows) + 1
    first = rows[0]["actions"][0]
    assert first["name"] == params.read().datasets["nwucla"].names[first["action"] - 1]
    assert f"  {first['name']} ({first['probability']:.0%})  " in lines[1]
    # A clone that pulled no store has the clips' numbers.
    shutil.rmtree(artifacts.store("nwucla"))
    train = artifacts.read_features(RUN, "train").clip.tolist()
    for row in json.loads(printed("--json")):
        assert {one["clip"] for one in row["nearest"]} <= set(train)


def test_actions_of_synthetic_recordings_go_by_number(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert {"name"} <= label(RUN, [ARCHIVE])[0]["actions"][0].keys()
    monkeypatch.setattr("skeletons.synthetic.NAMES", ("nwucla", "pku"))
    values = yaml.safe_load((project / "params.yaml").read_text())
    values["sources"]["nwucla"] = "synthetic"
    (project / "params.yaml").write_text(yaml.safe_dump(values))
    rows = label(RUN, [ARCHIVE])
    assert not any("name" in one for row in rows for one in (*row["actions"], *row["nearest"]))
    first = rows[0]["actions"][0]
    assert f"  {first['action']} ({first['probability']:.0%})  " in command.table(rows)


@pytest.mark.usefixtures("project")
def test_broken_recordings_are_named_or_skipped(capsys: pytest.CaptureFixture[str]) -> None:
    Path("bad.json").write_text(json.dumps(recording() | {"skeletons": [[[1, 2, 3]]]}))
    Path("good.json").write_text(json.dumps(recording()))
    both = [Path("bad.json"), Path("good.json")]
    message = "bad: bad.json: 1 joint in frame 1 where the layout has 20; is it another sensor"
    with pytest.raises(UserError, match=r"^1 broken recording; fix") as refused:
        label(RUN, both)
    assert message in str(refused.value)
    values = yaml.safe_load(Path("params.yaml").read_text())
    values["prepare"]["on_error"] = "skip"
    Path("params.yaml").write_text(yaml.safe_dump(values))
    assert [row["recording"] for row in label(RUN, both)] == ["good.json"]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"left out: {message}")
    with pytest.raises(UserError, match="1 broken recording"):
        label(RUN, both[:1])


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    ("files", "every", "message"),
    [
        (["gone.json"], None, "^gone.json: no such recording or archive$"),
        (["data/weights"], None, "1 broken recording; fix or leave out"),
        ([str(ARCHIVE)], 0, "^--every is 0, allowed: at least 1 frame$"),
    ],
)
def test_what_cannot_be_labelled(files: list[str], every: int | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        label(RUN, list(map(Path, files)), every=every)


@pytest.mark.usefixtures("project")
def test_what_is_missing_is_to_be_pulled() -> None:
    shutil.rmtree(artifacts.classifier(RUN))
    with pytest.raises(UserError) as refused:
        label(RUN, [ARCHIVE])
    assert str(refused.value) == (
        f"data/classifiers/{RUN}.zarr is not there: dvc pull data/weights/{RUN}.pt "
        f"data/classifiers/{RUN}.zarr data/features/{RUN}.zarr, or dvc repro linear@{RUN}"
    )

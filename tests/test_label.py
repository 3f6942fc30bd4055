"""commands.label says of recordings what the pipeline's classifier and retrieval say of them."""

import json
import os
import shutil
import sys
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import nwucla_archive
import pytest
import torch
import yaml
from clone import LINKED, ROOT, TINY, update
from layouts import KINECT_V1
from specimens import CLASSES, Bodies, ctrgcn, layout_of, person, prepared, specimen

from commands import label as command
from commands.label import label
from errors import UserError
from experiment import artifacts
from experiment.parameters import params, presets
from learning.probing.probes import nearest
from model.network.encoder import Encoder, save_encoder
from skeletons import formats, sensors
from skeletons.clips import store
from skeletons.preparing.make_clips import Recipe
from stages import embed, feature_map, floor, linear, prepare, raw, retrieval, run_page, synthetic

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


def _frames(paths: Iterable[Path], recipe: Recipe) -> list[bytes]:
    """The frames of what is read of these paths, of which nothing is broken."""
    windows, broken = command.read([*paths], recipe, every=None)
    assert not broken
    return [window.frames.tobytes() for _, window in windows]


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
def test_windows_with_nobody_are_rows_that_say_so() -> None:
    whole = recording()
    for frame in whole["skeletons"][5:10]:
        frame[:] = [[0, 0, 0]] * len(frame)
    Path("mine.json").write_text(json.dumps(whole))
    rows = label(RUN, [Path("mine.json")], every=5)
    assert [row["frames"][0] for row in rows] == [*range(0, len(whole["skeletons"]), 5)]
    assert [row["people"] for row in rows] == [1, 0, *[1] * (len(rows) - 2)]
    assert what(rows[1]) == {"actions": [], "nearest": []}
    assert command.table(rows).splitlines()[2].split() == ["mine.json", "5-10", "nobody"]


@pytest.mark.parametrize("name", formats.NAMES)
def test_whatever_prepare_takes_is_read_as_prepare_reads_it(name: str, tmp_path: Path) -> None:
    joints = layout_of(name).joints
    job = specimen(name, tmp_path / "mine", person(0, 12, layout_of(name).bodies, joints))
    paths = [*job.skeletons]
    if name == "utkinect":
        paths = [tmp_path / "mine/joints_s01_e01.txt"]  # the folder holds the label file too
    [(place, window)], broken = command.read(paths, job.recipe, every=None)
    _, clips = prepared(tmp_path, job)
    assert (broken, window.start, window.end) == ([], 0, 12)
    assert window.frames.tobytes() == clips.clip(0).tobytes()
    assert place.startswith(f"{paths[0].as_posix()}")


def test_arrays_are_read_with_their_table_or_without(tmp_path: Path) -> None:
    """Beside a table, in an npz beside it or alone, packed or not, in a zip, and as they are."""
    clips = {name: person(seed, 5 + seed, 1)[0] for seed, name in enumerate(("one", "two"))}
    table = "file,label\none,700\ntwo,0\n"
    for folder in (tmp_path / "neutral", tmp_path / "packed"):
        folder.mkdir()
        (folder / "clips.csv").write_text(table)
    np.savez_compressed(tmp_path / "packed/all.npz", **clips)
    np.savez(tmp_path / "all.npz", **clips)
    for name, clip in clips.items():
        np.save(tmp_path / f"neutral/{name}.npy", clip)
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as file:
        for path in (tmp_path / "neutral").iterdir():
            file.write(path, path.name)
    recipe = Recipe("arrays", layout_of("arrays"), classes=2)
    both = (tmp_path / "neutral/one.npy", tmp_path / "neutral/two.npy")
    for paths in ([tmp_path / n] for n in ("neutral", "packed", "packed/all.npz", "all.npz")):
        assert _frames(paths, recipe) == _frames(both, recipe)
    assert _frames([tmp_path / "all.zip"], recipe) == _frames(both, recipe)
    (tmp_path / "empty").mkdir()
    for name, message in (
        ("neutral/clips.csv", "a table of recordings, not one of them: name its f"),
        ("empty", "holds no file"),
    ):
        with pytest.raises(UserError, match=f"^{tmp_path / name}: {message}"):
            command.read([tmp_path / name], recipe, every=None)


def test_one_clip_of_an_array_of_many_is_named_by_the_array_and_the_clip(tmp_path: Path) -> None:
    clips: list[Bodies] = [person(seed, 9 + seed) for seed in range(3)]
    file, recipe = (
        ctrgcn(tmp_path / "cs.npz", clips, clips[:1]),
        Recipe("ctrgcn", layout_of("ctrgcn"), CLASSES),
    )
    windows, _ = command.read([file], recipe, every=None)
    assert [place for place, _ in windows] == [
        f"{file}/cs-test-000000",
        *(f"{file}/cs-train-00000{i}" for i in range(3)),
    ]
    [(place, window)], _ = command.read([file / "cs-train-000001"], recipe, every=None)
    assert place == windows[2][0]
    assert window.frames.tobytes() == windows[2][1].frames.tobytes()
    for name, message in (
        ("cs.npz/cs-train-000003", "has no clip cs-train-000003$"),
        ("gone.npz", "no such recording or archive$"),
    ):
        with pytest.raises(UserError, match=f"^{tmp_path / name}: .*{message}"):
            command.read([tmp_path / name], recipe, every=None)


def test_people_who_are_left_out_are_counted(tmp_path: Path) -> None:
    job = specimen("ntu", tmp_path / "mine", person(0, 12, bodies=4))
    [(_, window)], _ = command.read([*job.skeletons], job.recipe, every=None)
    assert (len(window.frames[0]), window.dropped) == (2, 2)
    row = {"recording": "a", "frames": [0, 12], "actions": [], "nearest": []}
    lines = command.table([row | {"people": 2, "left_out": 2}, row | {"people": 1, "left_out": 0}])
    assert [line.split()[2:] for line in lines.splitlines()[1:]] == [["2", "of", "4"], ["1"]]


@pytest.mark.usefixtures("project")
def test_a_run_of_some_actions_counts_them_anew() -> None:
    """In features, classifier and confusions; `label` says the dataset's own numbers too."""
    described = yaml.safe_load((ROOT / "datasets/nwucla.yaml").read_text())
    described["protocols"]["two"] = described["protocols"]["xview"] | {"actions": [3, 1]}
    Path("datasets").unlink()
    shutil.copytree(ROOT / "datasets", "datasets")
    Path("datasets/nwucla.yaml").write_text(yaml.safe_dump(described))
    values = yaml.safe_load(Path("params.yaml").read_text())
    values["runs"]["mine"] = values["runs"][RUN] | {"protocol": "two"}
    Path("params.yaml").write_text(yaml.safe_dump(values))
    shutil.copy(artifacts.weights(RUN), artifacts.weights("mine"))
    for stage in (embed, linear, retrieval, floor, feature_map, run_page):
        stage.main("mine")
    stored = store.read(artifacts.store("nwucla"), frames=False)
    for side in ("train", "test"):
        all_of, some = (artifacts.read_features(run, side) for run in (RUN, "mine"))
        kept = np.isin(all_of.label, [2, 0])
        assert some.clip.tolist() == all_of.clip[kept].tolist()
        assert some.label.tolist() == [[2, 0].index(one) for one in stored.label[some.clip]]
        assert some.features.tobytes() == all_of.features[kept].tobytes()
    assert artifacts.read_scores("mine").scores.shape[1] == artifacts.classes("mine") == 2
    names = [described["names"][2], described["names"][0]]
    page = artifacts.run_page("mine").read_text()
    assert json.dumps([f"1 {names[0]}", f"2 {names[1]}"], separators=(",", ":")) in page
    places = {clip["clip"]: clip["label"] for clip in artifacts.read_map("mine")["test"]}
    assert places == dict(zip(some.clip.tolist(), some.label.tolist(), strict=True))
    for row in label("mine", [ARCHIVE]):
        for one in (*row["actions"], *row["nearest"]):
            number = one["action"] - 1
            assert (one["label"], one["name"]) == ([2, 0][number], names[number])


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

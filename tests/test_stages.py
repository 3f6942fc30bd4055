"""Stages called one by one on a few clips: the learning curve, the upper bound, what is refused."""

import math
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
import zarr
from clone import LINKED, ROOT, TINY, update
from einops import rearrange
from layouts import KINECT_V1, KINECT_V2

from commands import epochs, export
from errors import UserError
from experiment.artifacts import tables
from experiment.parameters import params
from experiment.running.scratch import Kept
from learning.finetuning import finetune
from learning.probing.probes import Labelled, linear_probe
from learning.training import pretrain as pretraining
from learning.training.checkpoint import Checkpoint
from learning.training.loop import Stopped
from learning.training.optimiser import Optimiser
from learning.training.pretrain import SCDNet
from learning.training.settings import SGD
from machine.devices import reproducibility
from model.network.encoder import Encoder, load_encoder, save_encoder
from skeletons.clips import protocols, store
from skeletons.clips.layout import Layout
from stages import (
    check,
    embed,
    floor,
    linear,
    prepare,
    pretrain,
    raw,
    retrieval,
    semi,
    supervised,
    synthetic,
    transfer,
    weights,
)

RUN = "ntu60-xsub"
Pretrain = Callable[..., tuple[dict[str, torch.Tensor], list[dict[str, Any]]]]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project folder with a store of a few synthetic clips."""
    folder = tmp_path_factory.mktemp("project")
    p = yaml.safe_load((ROOT / "params.yaml").read_text())
    update(p, TINY)
    p["encoder"]["dropout"] = 0.3  # so that random numbers matter
    p["pretrain"] |= {
        "epochs": 4,
        "probe": {"every": None, "centre_crop": p["embed"]["centre_crop"], **p["linear"]},
    }
    p["machine"]["checkpoint_minutes"] = 0
    (folder / "params.yaml").write_text(yaml.safe_dump(p))
    for name in LINKED:
        (folder / name).symlink_to(ROOT / name)
    before = Path.cwd()
    os.chdir(folder)
    try:
        synthetic.main("ntu60")
        raw.main("ntu60")
        prepare.main("ntu60")
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def project(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the prepared project as working directory."""
    shutil.copytree(prepared, tmp_path, symlinks=True, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    return tmp_path


def change(changes: dict[str, Any]) -> None:
    p = yaml.safe_load(Path("params.yaml").read_text())
    update(p, changes)
    Path("params.yaml").write_text(yaml.safe_dump(p))


def encoder_of(layout: Layout) -> Encoder:
    """The encoder of the project's parameters for a layout, untrained."""
    sizes = yaml.safe_load(Path("params.yaml").read_text())["encoder"]
    return Encoder(parents=layout.parents, bodies=layout.bodies, **sizes)


# ---- The learning curve --------------------------------------------------------------------------


@pytest.fixture
def run(project: Path) -> Pretrain:
    """A function that pretrains: the weights, and the curve without the times it took."""

    def run(every: int | None) -> tuple[dict[str, torch.Tensor], list[dict[str, Any]]]:
        change({"pretrain": {"probe": {"every": every}}})
        pretrain.main(RUN)
        curve = tables.read(f"metrics/pretrain/{RUN}.json")
        for row in curve:
            del row["clips_per_second"]
        return torch.load(f"data/weights/{RUN}.pt", weights_only=True)["state"], curve

    return run


def equal(ours: dict[str, torch.Tensor], others: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(array, others[name]) for name, array in ours.items())


def test_the_learning_curve_changes_no_weight(run: Pretrain) -> None:
    weights, curve = run(None)
    assert all("linear_top1" not in row for row in curve)
    probed, with_probe = run(2)
    measured = [row.pop("linear_top1") for row in with_probe]
    assert [top1 is None for top1 in measured] == [True, False, True, False]
    assert with_probe == curve
    assert equal(probed, weights)


def test_its_end_is_the_linear_evaluation(run: Pretrain) -> None:
    _, curve = run(4)
    embed.main(RUN)
    linear.main(RUN)
    top1 = tables.read(f"metrics/linear/{RUN}.json")[0]["top1"]
    assert round(curve[-1]["linear_top1"], 2) == top1
    made = tables.read(f"metrics/weights/{RUN}.json")  # as the weights say
    assert made == [reproducibility.made_on(torch.device("cpu"))]
    assert made[0]["torch"] == torch.__version__


def test_a_run_that_was_cut_short_ends_with_the_same_curve(
    run: Pretrain, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights, curve = run(1)
    whole, steps = pretraining.training_view, 0

    def fails(*arguments: Any, **settings: Any) -> Any:
        nonlocal steps
        steps += settings["epoch"] >= 0
        if steps == 11:
            raise RuntimeError("killed in the third epoch")
        return whole(*arguments, **settings)

    with monkeypatch.context() as patch:
        patch.setattr(pretraining, "training_view", fails)
        with pytest.raises(RuntimeError, match="killed"):
            run(1)
    assert list(Path(".scratch").glob("pretrain-*.pt"))
    again, resumed = run(1)
    assert resumed == curve
    assert equal(again, weights)
    assert not list(Path(".scratch").glob("pretrain-*"))


@pytest.mark.documents("python -m commands.epochs ntu60-xsub")
def test_epochs_that_are_kept_are_evaluated_as_the_last_is(
    run: Pretrain, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, _ = run(None)
    assert [file.name for file in Path(f"data/epochs/{RUN}").iterdir()] == ["none.txt"]
    with pytest.raises(UserError, match=f"^data/epochs/{RUN} has no encoder: dvc pull it, or set"):
        epochs.evaluate(RUN)
    change({"pretrain": {"keep_epochs": [4, 2]}})
    last, _ = run(None)
    assert equal(last, whole)
    second, fourth = (
        torch.load(f"data/epochs/{RUN}/{epoch}.pt", weights_only=True)["state"] for epoch in (2, 4)
    )
    assert equal(fourth, last)
    assert not equal(second, last)
    for stage in (embed, linear, retrieval):
        stage.main(RUN)
    rows = epochs.evaluate(RUN)
    monkeypatch.setattr("sys.argv", ["epochs", RUN])
    epochs.main()
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[-2:]] == ["2", "4"]
    assert [row["epoch"] for row in rows] == [2, 4]
    for kind in ("linear", "retrieval"):
        assert rows[1][kind] == tables.read(f"metrics/{kind}/{RUN}.json")[0]["top1"]


def test_epochs_that_a_killed_run_kept_are_there_at_its_end(
    run: Pretrain, monkeypatch: pytest.MonkeyPatch
) -> None:
    change({"pretrain": {"keep_epochs": [1, 3]}})
    run(None)
    kept = Path(f"data/epochs/{RUN}")
    whole = {file.name: file.read_bytes() for file in kept.iterdir()}
    with monkeypatch.context() as patch:
        patch.setattr(Kept, "place", lambda *_: (_ for _ in ()).throw(RuntimeError("killed")))
        with pytest.raises(RuntimeError, match="killed"):
            run(None)
    shutil.rmtree(kept)  # as DVC does before a stage
    run(None)
    assert {file.name: file.read_bytes() for file in kept.iterdir()} == whole
    assert not list(Path(".scratch").glob("pretrain-*"))


def test_queues_are_filled_once_not_on_resume(
    run: Pretrain, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled = 0
    fill = SCDNet.warm_up_queue

    def counts(network: SCDNet, view: torch.Tensor) -> None:
        nonlocal filled
        filled += 1
        if filled < 4:
            fill(network, view)
        else:
            raise AssertionError("filled again")

    monkeypatch.setattr(SCDNet, "warm_up_queue", counts)
    change({"pretrain": {"queue": 12}})
    save, saves = Checkpoint.save, 0

    def stops(checkpoint: Checkpoint, state: dict[str, Any]) -> None:
        nonlocal saves
        save(checkpoint, state)
        saves += 1
        if saves == 5:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "save", stops)
        with pytest.raises(Stopped, match=r"stopped before step 2 of epoch 1"):
            run(None)
    assert filled == 3
    run(None)
    assert filled == 3


# ---- The upper bound -----------------------------------------------------------------------------


def test_supervised_is_fine_tuning_of_an_untrained_encoder_on_all_labels(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    p = yaml.safe_load(Path("params.yaml").read_text())
    schedule = {"epochs": 3, "milestones": [2]}
    change({"semi": {**schedule, "fractions": [1.0], "draws": 1}})
    change({"supervised": {**schedule, "lr": p["finetune"]["lr"]}})
    torch.manual_seed(p["seed"])
    Path("data/weights").mkdir()
    save_encoder(encoder_of(KINECT_V2), Path(f"data/weights/{RUN}.pt"))

    scores: list[torch.Tensor] = []
    whole = finetune.extract

    def keeps(*arguments: Any, **settings: Any) -> torch.Tensor:
        scores.append(whole(*arguments, **settings))
        return scores[-1]

    monkeypatch.setattr(finetune, "extract", keeps)
    semi.main(RUN)
    supervised.main(RUN)
    assert torch.equal(*scores)
    (bound,) = tables.read(f"metrics/supervised/{RUN}.json")
    (row,) = tables.read(f"metrics/semi/{RUN}.json")
    assert bound["top1"] == round(row["top1"], 2)


def test_fine_tuning_follows_the_schedule_that_is_asked_for(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change({"finetune": {"schedule": "cosine"}})
    change({"supervised": {"epochs": 2, "milestones": [1], "lr": 0.1}})
    rates: list[float] = []
    update = Optimiser.update

    def notes(optimiser: Optimiser, loss: torch.Tensor, lr: float) -> None:
        rates.append(lr)
        update(optimiser, loss, lr)

    monkeypatch.setattr(Optimiser, "update", notes)
    supervised.main(RUN)
    half = [0.1 * (1 + math.cos(math.pi * i / len(rates))) / 2 for i in range(len(rates))]
    assert rates == pytest.approx(half)


# ---- Without an encoder --------------------------------------------------------------------------


def test_the_floor_is_that_of_the_clips_as_the_encoder_sees_them(project: Path) -> None:
    change({"embed": {"centre_crop": 0.6}})
    floor.main(f"{RUN}-bone")
    p, stored = params.read(), store.read(Path("data/ntu60.zarr"))
    joints = list(stored.layout.parents)

    def seen(clip: int) -> torch.Tensor:
        frames = torch.from_numpy(stored.clip(clip))
        start = int(0.2 * len(frames) + 1e-9)
        columns = rearrange(frames[start : len(frames) - start], "t m v c -> 1 (m v c) t")
        x = F.interpolate(columns, size=p.encoder.frames, mode="linear")
        x = rearrange(x, "1 (m v c) t -> c t v m", m=2, c=3)
        return (x - x[:, :, joints]).flatten()

    rule = p.datasets["ntu60"].protocols["xsub"].rule
    train, test = (
        Labelled(torch.stack([seen(i) for i in side]), torch.from_numpy(stored.label[side]).long())
        for side in protocols.split(stored, rule, name="xsub")
    )
    near = F.cosine_similarity(test.features[:, None], train.features[None], dim=2).argmax(1)
    linear_top1 = linear_probe(
        train,
        test,
        SGD(**p.linear.model_dump(exclude={"batch"})),
        classes=stored.classes,
        batch=p.linear.batch,
        seed=p.seed,
        device="cpu",
    ).last.top1
    retrieval_top1 = 100 * (train.labels[near] == test.labels).double().mean().item()
    found = {"linear_top1": round(linear_top1, 2), "retrieval_top1": round(retrieval_top1, 2)}
    assert tables.read(f"metrics/floor/{RUN}-bone.json") == [found]


# ---- Weights of others ---------------------------------------------------------------------------


def test_a_released_checkpoint_takes_the_place_of_pretraining(project: Path) -> None:
    """Of its own size; its features are the released encoder's."""
    with np.load(ROOT / "tests/golden/encoder_tiny.npz") as arrays:
        golden = {name: torch.from_numpy(arrays[name]) for name in arrays}
    state = {f"encoder_q.{k[2:]}": array for k, array in golden.items() if k.startswith("w/")}
    torch.save({"state_dict": state}, "checkpoint.pth.tar")
    change({"encoder": {"heads": 4}, "runs": {RUN: {"weights": "checkpoint.pth.tar"}}})
    for stage in (weights, pretrain, embed, linear, retrieval, floor):
        stage.main(RUN)
    encoder = load_encoder(f"data/weights/{RUN}.pt")
    with torch.no_grad():
        features = encoder.represent(golden["x"])
    due = torch.cat([golden["vt"], golden["vs"]], dim=1)
    torch.testing.assert_close(features, due, atol=1e-5, rtol=1e-5)
    assert encoder.architecture["frames"] == 16 != params.read().encoder.frames
    assert tables.read(f"metrics/weights/{RUN}.json")[0]["from"] == "checkpoint.pth.tar"
    assert tables.read(f"metrics/pretrain/{RUN}.json") == []


@pytest.mark.parametrize(
    ("layout", "notes", "message"),
    [
        (KINECT_V2, {"stream": "bone"}, f"its stream is bone, that of {RUN} is joint"),
        (KINECT_V2, {"protocol": "xview"}, f"its protocol is xview, that of {RUN} is xsub"),
        (KINECT_V2, {"dataset": "pku1"}, f"its dataset is pku1, that of {RUN} is ntu60"),
        (KINECT_V1, {}, "an encoder of 20 joints and 1 body cannot encode clips of 25 joints"),
        (None, {}, "No such file or directory"),
    ],
)
def test_weights_of_another_task_are_refused(
    project: Path, layout: Layout | None, notes: dict[str, str], message: str
) -> None:
    if layout:
        save_encoder(encoder_of(layout), Path("theirs.pt"), **notes)
    change({"runs": {RUN: {"weights": "theirs.pt"}}})
    with pytest.raises(UserError, match=rf"^runs\.{RUN}\.weights: theirs\.pt: {message}"):
        weights.main(RUN)


# ---- An encoder that does not fit ----------------------------------------------------------------


@pytest.mark.parametrize("stage", [embed, semi, transfer], ids=lambda stage: stage.__name__)
@pytest.mark.parametrize(
    ("layout", "message"),
    [
        (KINECT_V1, "an encoder of 20 joints and 1 body cannot encode clips of 25 joints and 2"),
        (replace(KINECT_V2, bodies=1), "an encoder of 25 joints and 1 body cannot encode clips"),
        (
            replace(KINECT_V2, bones=tuple((joint, 0) for joint in range(1, KINECT_V2.joints))),
            "the encoder's 25 joints are connected otherwise than those of the clips",
        ),
    ],
    ids=["joints", "bodies", "bones"],
)
def test_an_encoder_of_another_layout_is_refused(
    project: Path, stage: ModuleType, layout: Layout, message: str
) -> None:
    change({"transfers": {RUN: {"run": RUN, "target": "ntu60", "protocol": "xsub"}}})
    Path("data/weights").mkdir()
    save_encoder(encoder_of(layout), Path(f"data/weights/{RUN}.pt"))
    with pytest.raises(UserError) as error:
        stage.main(RUN)
    assert str(error.value).startswith(message)
    assert str(error.value).endswith(": use one that was trained on this layout")
    assert not list(Path().glob("metrics/*/ntu60-xsub*"))
    assert not Path("data/features").exists()


# ---- What is not finite, what was never taken ----------------------------------------------------


def test_an_encoder_of_nan_weights_has_no_features(project: Path) -> None:
    encoder = encoder_of(KINECT_V2)
    with torch.no_grad():
        encoder.spatial.embed[0].bias[0] = float("nan")
    Path("data/weights").mkdir()
    saved = {"architecture": encoder.architecture, "state": encoder.state_dict(), "notes": {}}
    torch.save(saved, f"data/weights/{RUN}.pt")
    with pytest.raises(UserError, match=r"spatial.embed.0.bias has values that are not finite"):
        embed.main(RUN)
    assert not Path("data/features").exists()


@pytest.mark.parametrize(
    ("name", "value"), [("stream", "bone"), ("dataset", "ntu120"), ("protocol", "xview")]
)
@pytest.mark.parametrize(
    "use",
    [embed.main, semi.main, epochs.evaluate, lambda run: export.written(run, Path())],
    ids=["embed", "semi", "epochs", "export"],
)
def test_weights_of_another_run_are_refused(
    use: Callable[[str], Any], name: str, value: str, project: Path
) -> None:
    notes = {"dataset": "ntu60", "protocol": "xsub", "stream": "joint", name: value}
    for path in (f"data/weights/{RUN}.pt", f"data/epochs/{RUN}/2.pt"):
        save_encoder(encoder_of(KINECT_V2), Path(path), **notes)
    with pytest.raises(UserError, match=f"of another run: their {name} is {value}, that of {RUN} "):
        use(RUN)


def test_features_that_are_not_finite_are_not_written(project: Path) -> None:
    """Weights that are finite, and so large that what they give is not."""
    encoder = encoder_of(KINECT_V2)
    with torch.no_grad():
        encoder.spatial.embed[0].weight.fill_(1e38)
    Path("data/weights").mkdir()
    save_encoder(encoder, Path(f"data/weights/{RUN}.pt"))
    with pytest.raises(UserError, match=r"features of 18 of 18 clips are not finite, first of"):
        embed.main(RUN)
    assert not Path("data/features").exists()


def test_every_action_is_a_row_and_a_column_of_the_confusion_matrix(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All clips of three actions are alike, so all are taken for one."""
    group = zarr.create_group(f"data/features/{RUN}.zarr")
    label = np.array([0, 1, 2, 2, 2])
    for part in ("train", "test"):
        group.create_array(f"{part}/clip", data=np.arange(5))
        group.create_array(f"{part}/label", data=label)
        for name in ("features", "untrained"):
            group.create_array(f"{part}/{name}", data=np.ones((5, 4), np.float32))
    group.attrs["classes"] = 4
    linear.main(RUN)
    said = capsys.readouterr().err
    for name in ("features", "untrained"):
        assert said.count(f"loss on {name} is 1.3") == 1
    rows = tables.read(f"metrics/linear/{RUN}-confusion.json")
    cells = {(row["actual"], row["predicted"]): row["clips"] for row in rows}
    assert {predicted for _, predicted in cells} == {actual for actual, _ in cells} == {1, 2, 3}
    assert cells[1, 1] == cells[2, 2] == 0
    assert cells[3, 3] == 3
    assert sum(cells.values()) == 5


# ---- Parameters that do not fit the clips --------------------------------------------------------


def test_what_does_not_fit_the_clips_is_said_as_soon_as_they_are_prepared(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By `prepare`, and refused by `pretrain` before it trains."""
    change({"retrieval": {"k": 99}})
    message = f"retrieval.k is 99: more than the 18 training clips of runs.{RUN}"
    prepare.main("ntu60")
    assert f"ntu60: params.yaml: {message}\n" in capsys.readouterr().err
    with pytest.raises(UserError, match=f"^{message}"):
        pretrain.main(RUN)
    assert not Path("data/weights").exists()


def describe(name: str, protocol: dict[str, Any]) -> None:
    """Gives the dataset ntu60 a protocol."""
    Path("datasets").unlink()  # a link
    shutil.copytree(ROOT / "datasets", "datasets")
    file = Path("datasets/ntu60.yaml")
    described = yaml.safe_load(file.read_text())
    described["protocols"][name] = protocol
    file.write_text(yaml.safe_dump(described))


def test_check_reads_the_stores_of_transfers_that_are_there_and_whole(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Clips of subjects 1, 2 and 4 pretrain; those of 1, and of 3, test."""
    describe("seen", {"train": {"subject": [2]}, "test": {"subject": [1, 3]}})
    change({"transfers": {"seen": {"run": RUN, "target": "ntu60", "protocol": "seen"}}})
    Path("data/pku2.zarr").mkdir()
    Path("data/pku2.zarr/zarr.json").write_text("{")  # of the default's transfer
    check.main()
    said = capsys.readouterr().err
    assert "transfers.seen: 6 of the clips of ntu60 that test it have names of clips" in said
    assert "pku2 that test it" not in said


def test_an_encoder_is_pretrained_on_all_clips_and_not_evaluated(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    describe("xsub", {"train": {"replication": [1, 2]}})
    change({"pretrain": {"epochs": 1, "milestones": [], "probe": {"every": 1}}})
    assert pretrain.main(RUN).endswith("after 1 epochs")
    said = capsys.readouterr().err
    assert "it leaves no test clip; the encoder can only be pretrained" in said
    with pytest.raises(UserError, match="leaves no test clip"):
        embed.main(RUN)

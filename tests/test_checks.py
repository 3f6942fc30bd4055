"""What is hardly meant is said in a line; what no result can be had with is refused in time."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from clone import LINKED, ROOT
from layouts import KINECT_V2

from errors import UserError
from experiment.parameters import checks, params, presets
from experiment.parameters.checks import Meaningless
from experiment.parameters.schema import Params
from skeletons.clips.store import Clips
from stages import check

RUN = {"dataset": "ntu60", "protocol": "xsub", "stream": "joint"}


def experiment(tmp_path: Path, changes: dict[str, Any]) -> Params:
    """The default's parameters with some changed, by dotted names."""
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    for name, value in changes.items():
        *path, last = name.split(".")
        place = values
        for key in path:
            place = place[key]
        place[last] = value
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    return params.read(tmp_path / "params.yaml", datasets=ROOT / "datasets")


def clips(subjects: list[int], labels: list[int] | None = None, copies: int = 64) -> Clips:
    """Clips of subjects, `copies` each, without frames; subjects 1 and 2 train."""
    count = len(subjects) * copies
    zeros = np.zeros(count, np.int32)
    label = np.repeat(labels or [0] * len(subjects), copies).astype(np.int32)
    return Clips(
        frames=np.zeros((0, 2, 25, 3), np.float32),
        offsets=np.arange(count + 1),
        label=label,
        subject=np.repeat(subjects, copies).astype(np.int32),
        camera=zeros,
        setup=zeros,
        replication=zeros,
        name=np.array([f"clip{i:04}" for i in range(count)]),
        raw_frames=zeros,
        splits={},
        layout=KINECT_V2,
        classes=60,
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"linear.milestones": [70, 50]}, "linear.milestones is [70, 50]: not in ascending order"),
        ({"linear.milestones": [50, 80]}, "linear.milestones is [50, 80]: beyond the last of 80"),
        ({"semi.milestones": [9]}, "semi.milestones is [9]: beyond the last of 5 epochs"),
        ({"pretrain.probe.every": 27}, "pretrain.probe.every is 27: more than the 26 epochs"),
        (
            {
                "sources.ntu120": "synthetic",
                "runs.all": {"dataset": "ntu120", "protocol": "xsub", "stream": "joint"},
                "transfers.back": {"run": "all", "target": "ntu60", "protocol": "xsub"},
            },
            "transfers.back: ntu120 and ntu60 share nturgbd_skeletons_s001_to_s017.zip: the",
        ),
    ],
)
def test_what_is_hardly_meant_is_said(tmp_path: Path, changes: Any, said: str) -> None:
    (line,) = checks.warnings(experiment(tmp_path, changes))
    assert line.startswith(said)


def test_the_default_and_the_presets_are_meant_as_they_are() -> None:
    for name in presets.names():
        p = params.checked(presets.values(name), datasets=ROOT / "datasets")
        assert list(checks.warnings(p)) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"retrieval.k": 129},
            "retrieval.k is 129: more than the 128 training clips of runs.ntu60",
        ),
        ({"pretrain.batch": 256}, "pretrain.batch is 256: more than the 128 training clips"),
        ({"semi.fractions": [0.005]}, "semi.fractions has 0.005: 0 of the 128 training clips"),
    ],
)
def test_more_than_the_clips_is_refused_by_the_parameter(
    tmp_path: Path, changes: Any, message: str
) -> None:
    p = experiment(tmp_path, changes)
    with pytest.raises(Meaningless) as refused:
        checks.on_run(p, "runs", "ntu60-xsub", clips([1, 2, 3]))
    assert str(refused.value).startswith(message)
    assert message in "".join(checks.on_dataset(p, "ntu60", clips([1, 2, 3])))


@pytest.mark.parametrize(
    ("subjects", "labels", "message"),
    [
        ([3], [0], "leaves no training clip"),
        ([1, 3], [0, 1], "no action in common between training and test"),
    ],
)
def test_a_protocol_that_tests_nothing_is_refused(
    tmp_path: Path, subjects: list[int], labels: list[int], message: str
) -> None:
    p = experiment(tmp_path, {"retrieval.k": 1})
    with pytest.raises(Meaningless, match=message) as refused:
        checks.on_run(p, "runs", "ntu60-xsub", clips(subjects, labels))
    assert str(refused.value).startswith("runs.ntu60-xsub.protocol: ")
    assert any(message in line for line in checks.on_dataset(p, "ntu60", clips(subjects, labels)))


def test_pretraining_on_all_clips_is_possible_and_evaluation_is_not(tmp_path: Path) -> None:
    p = experiment(tmp_path, {"supervised_runs.all": RUN})
    alone = clips([1, 2])
    (line,) = checks.on_run(p, "runs", "ntu60-xsub", alone)
    assert line.endswith("it leaves no test clip; the encoder can only be pretrained")
    with pytest.raises(Meaningless, match="it leaves no test clip"):
        checks.on_run(p, "supervised_runs", "all", alone)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "pretrain.queue is 256: more than the 192 training clips of runs.ntu60-xsub, so"),
        (
            {"pretrain.queue": 192, "pretrain.warmup": 79},
            "pretrain.warmup is 79: above the 78",
        ),
        (
            {"pretrain.queue": 192, "pretrain.batch": 96, "pretrain.queue_start": "random"},
            None,
        ),
        (
            {"pretrain.queue": 200, "pretrain.batch": 100, "pretrain.warmup": 0},
            "pretrain.queue is 200: more than the 192",
        ),
        (
            {"pretrain.queue": 128, "pretrain.warmup": 0, "semi.fractions": [0.01]},
            "semi.fractions has 0.01: 1 of the 192 training clips of runs.ntu60-xsub, of 2 actions",
        ),
    ],
)
def test_what_hardly_fits_the_clips_is_said(tmp_path: Path, changes: Any, said: Any) -> None:
    found = checks.on_run(
        experiment(tmp_path, changes), "runs", "ntu60-xsub", clips([1, 1, 2, 3], [0, 0, 1, 0])
    )
    assert [line[: len(said)] for line in found] == [said] if said else found == []


def test_a_transfer_to_clips_that_the_encoder_has_seen_is_said(tmp_path: Path) -> None:
    """The names of the 64 clips that pretrain, of subject 1, test the other dataset, as setup 1."""
    transfer = {"run": "ntu60-xsub", "target": "ntu120", "protocol": "xset"}
    p = experiment(tmp_path, {"sources.ntu120": "synthetic", "transfers": {"on": transfer}})
    source, target = clips([1, 3]), replace(clips([7, 8]), setup=np.repeat([1, 2], 64))
    assert list(checks.on_transfers(p, {"ntu60": source, "ntu120": target}.get)) == [
        "transfers.on: 64 of the clips of ntu120 that test it have names of clips that "
        "ntu60-xsub is pretrained on, such as clip0000: are they the same?"
    ]
    others = replace(target, name=np.char.add(target.name, "b"))
    untested = replace(target, setup=np.repeat(2, 128))
    for other in (others, untested, None):
        assert not list(checks.on_transfers(p, {"ntu60": source, "ntu120": other}.get))
    assert not list(checks.on_transfers(p, {"ntu120": target}.get))


def test_a_gpu_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(UserError, match=r"machine.device is 'cuda', and torch finds no GPU"):
        checks.device(experiment(tmp_path, {"machine.device": "cuda"}))
    checks.device(experiment(tmp_path, {"machine.device": "auto"}))


def test_a_list_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    p = experiment(tmp_path, {})
    monkeypatch.chdir(ROOT)
    checks.lists(p)
    monkeypatch.chdir(tmp_path)
    message = (
        r"datasets/ntu60.yaml: archives.leave_out: there is no datasets/lists/ntu60_missing.txt; "
        r"your own goes into datasets/lists/ntu60_missing.txt; `git add` a new file before a queue"
    )
    with pytest.raises(UserError, match=message):
        checks.lists(p)


def stage_check(folder: Path, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs the stage on these parameters."""
    experiment(folder, changes)
    for name in LINKED:
        (folder / name).symlink_to(ROOT / name)
    monkeypatch.chdir(folder)
    check.main()


def test_the_stage_says_what_is_hardly_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stage_check(tmp_path, {"linear.milestones": [70, 50]}, monkeypatch)
    assert capsys.readouterr().err == (
        "check: params.yaml: linear.milestones is [70, 50]: not in ascending order\n"
    )


def test_the_stage_refuses_a_gpu_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(UserError, match="torch finds no GPU"):
        stage_check(tmp_path, {"machine.device": "cuda"}, monkeypatch)
    assert not (tmp_path / "data").exists()

"""Unfinished work is keyed by everything that DVC tracks for the stage, and by nothing else."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from clone import ROOT

from experiment.running import scratch
from experiment.workflow import dvc_yaml

DVC = {
    "stages": {
        "pretrain": {
            "foreach": "${runs}",
            "do": {
                "cmd": "python -m stages.pretrain '${key}'",
                "deps": ["code.py", "data/${item.dataset}.zarr"],
                "params": [
                    "seed",
                    "runs.${key}",
                    {"datasets/${item.dataset}.yaml": ["protocols.${item.protocol}"]},
                ],
                "outs": ["data/weights/${key}.pt"],
                "plots": [{"metrics/pretrain/${key}.json": {"cache": False}}],
            },
        },
        "report": {"cmd": "python -m stages.report", "metrics": ["metrics/summary.json"]},
    }
}
RUNS = {name: {"dataset": "mine", "protocol": "xsub", "lr": 1} for name in ("one", "other")}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    for folder in ("data/mine.zarr/frames", "datasets"):
        Path(folder).mkdir(parents=True)
    write("dvc.yaml", DVC)
    write("params.yaml", {"seed": 0, "linear": 1, "runs": RUNS})
    write("datasets/mine.yaml", {"classes": 3, "protocols": {"xsub": [1], "xview": [2]}})
    Path("code.py").write_text("one")
    Path("data/mine.zarr/frames/0").write_text("frames")
    return tmp_path


def write(path: str, value: object) -> None:
    Path(path).write_text(yaml.safe_dump(value))


def edit(path: str, old: str, new: str) -> Callable[[], None]:
    def apply() -> None:
        text = Path(path).read_text()
        assert old in text
        Path(path).write_text(text.replace(old, new))

    return apply


@pytest.mark.parametrize(
    ("change", "other_work"),
    [
        (edit("params.yaml", "seed: 0", "seed: 1"), True),
        (edit("params.yaml", "lr: 1", "lr: 2"), True),
        (edit("datasets/mine.yaml", "- 1", "- 3"), True),
        (edit("code.py", "one", "two"), True),
        (edit("data/mine.zarr/frames/0", "frames", "others"), True),
        (edit("params.yaml", "linear: 1", "linear: 2"), False),
        (edit("datasets/mine.yaml", "- 2", "- 3"), False),
        (edit("datasets/mine.yaml", "classes: 3", "classes: 4"), False),
    ],
)
def test_what_dvc_tracks_keys_the_work(
    project: Path, change: Callable[[], None], other_work: bool
) -> None:
    before = scratch.identity("pretrain", "one")
    assert scratch.identity("pretrain", "one") == before
    change()
    assert (scratch.identity("pretrain", "one") != before) == other_work


def test_the_checkpoint_lies_with_the_project_and_bears_the_stage_and_the_entry(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_ROOT", str(project / "root"))
    checkpoint = scratch.checkpoint("pretrain", "one", minutes=1)
    digest = scratch.identity("pretrain", "one")
    assert checkpoint.path == project / "root" / ".scratch" / f"pretrain-one-{digest}.pt"
    assert checkpoint.part("0.1").path.name == f"pretrain-one-{digest}-0.1.pt"


def test_names_are_filled_in_as_dvc_does(project: Path) -> None:
    entries = dict(dvc_yaml.entries())
    assert set(entries) == {"pretrain@one", "pretrain@other", "report"}
    one = entries["pretrain@one"]
    assert [str(path) for path in dvc_yaml.outputs(one)] == [
        "data/weights/one.pt",
        "metrics/pretrain/one.json",
    ]
    assert dvc_yaml.parameters(one) == {
        "params.yaml:seed": 0,
        "params.yaml:runs.one": RUNS["one"],
        "datasets/mine.yaml:protocols.xsub": [1],
    }


def test_every_stage_of_the_project_can_be_described(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for _, described in dvc_yaml.entries():
        assert "${" not in yaml.safe_dump(described).replace(r"\${LAUNCH", "")
        assert None not in dvc_yaml.parameters(described)


def test_no_artifact_of_dvc_is_named_after_one_run() -> None:
    """A project of own runs would not have it; `dvc get` takes any run's weights by their path."""
    described = yaml.safe_load((ROOT / "dvc.yaml").read_text())
    runs = yaml.safe_load((ROOT / "params.yaml").read_text())["runs"]
    text = yaml.safe_dump(described)
    assert not [run for run in runs if run in text]

"""The presets: whole experiments, and the paper's values in its own."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from clone import ROOT, update
from dvc.utils.serialize import modify_yaml

from commands import preset as command
from errors import UserError
from experiment.parameters import params, presets

OTHERS = [name for name in presets.names() if name != "default"]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the default's params.yaml and a dataset of the user's own as working directory;
    its params.yaml.
    """
    (tmp_path / "params.yaml").write_text(presets.text(presets.values("default")))
    (tmp_path / "datasets").mkdir()
    for file in (ROOT / "datasets").glob("*.yaml"):
        (tmp_path / "datasets" / file.name).write_text(file.read_text())
        if file.stem == "ntu60":
            (tmp_path / "datasets/mine.yaml").write_text(file.read_text())
    monkeypatch.chdir(tmp_path)
    return tmp_path / "params.yaml"


def load(file: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = params.load_yaml(file)
    return loaded


def leaves(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found = {}
    for name, value in values.items():
        inner = isinstance(value, dict) and name not in presets.NAMED
        found |= leaves(value, f"{prefix}{name}.") if inner else {f"{prefix}{name}": value}
    return found


def at(tree: Any, path: str) -> Any:
    for name in path.split("."):
        tree = tree[name]
    return tree


def test_params_yaml_is_the_default_with_the_meanings_of_its_keys() -> None:
    assert (ROOT / "params.yaml").read_text() == presets.text(presets.values("default"))


@pytest.mark.parametrize("name", OTHERS)
def test_a_preset_states_only_what_differs(name: str) -> None:
    stated = leaves(load(ROOT / f"presets/{name}.yaml"))
    default = leaves(presets.values("default"))
    assert [key for key, value in stated.items() if default[key] == value] == []
    whole = leaves(presets.values(name))
    assert list(whole) == list(default)
    assert {key: whole[key] for key in stated} == stated


@pytest.mark.documents("python -m commands.preset default")
@pytest.mark.parametrize("name", presets.names())
def test_params_yaml_is_written_from_a_preset_as_dvc_writes_it(project: Path, name: str) -> None:
    command.write(name)
    assert load(project) == presets.values(name)
    before = project.read_text()
    command.write(name)
    assert project.read_text() == before
    with modify_yaml(project) as values:
        values["linear"]["lr"] = 0.125
    lines = zip(before.splitlines(), project.read_text().splitlines(), strict=True)
    (changed,) = [after for line, after in lines if line != after]
    assert re.fullmatch(r"  lr: 0.125 +# learning rate of SGD at the start", changed)
    command.write("default")
    assert project.read_text() == (ROOT / "params.yaml").read_text()


OWN = {
    "sources": {"mine": "/data/mine", "pku2": "synthetic", "ntu60": "/data/ntu"},
    "runs": {"mine": {"dataset": "mine", "protocol": "xsub", "stream": "joint"}},
    "transfers": {"back": {"run": "ntu60-xsub", "target": "mine", "protocol": "xsub"}},
    "ensembles": {"two": {"joint": "ntu60-xsub", "bone": "ntu60-xsub-bone", "motion": None}},
    "machine": {"device": "cpu"},
    "linear": {"lr": 0.5},
}


def test_the_users_own_stays(project: Path) -> None:
    """With what it names, here ntu60 and two of its runs, which the preset has not."""
    values = load(project)
    update(values, OWN)
    written = presets.text(values)
    entry = "  # of the lab\n  mine: /data/mine  # in May\n"
    project.write_text(written.replace("  mine: /data/mine\n", entry))
    command.write("nwucla")
    found, preset = load(project), presets.values("nwucla")
    kept = {name: values["runs"][name] for name in ("ntu60-xsub", "ntu60-xsub-bone")}
    assert found["sources"] == {
        "nwucla": "archives", "mine": "/data/mine", "ntu60": "/data/ntu"
    }  # fmt: skip
    assert found["runs"] == {**preset["runs"], **OWN["runs"], **kept}
    assert found["transfers"] == OWN["transfers"]
    assert found["ensembles"] == {**preset["ensembles"], **OWN["ensembles"]}
    assert found["machine"] == {**preset["machine"], "device": "cpu"}
    assert found["linear"] == preset["linear"]
    assert entry in project.read_text()
    before = project.read_text()
    command.write("nwucla")
    assert project.read_text() == before
    command.write("paper")  # its archives are where the user's are
    assert load(project)["sources"]["ntu60"] == "/data/ntu"
    assert load(project)["sources"]["pku2"] == "archives"
    assert entry in project.read_text()
    command.write("default")
    assert load(project)["sources"]["ntu60"] == "synthetic"


def test_comments_are_renewed_and_no_value(project: Path) -> None:
    values = load(project)
    update(values, OWN)
    project.write_text(yaml.safe_dump(values, sort_keys=False))
    command.write(None)
    assert load(project) == values
    assert "  lr: 0.5  # learning rate of SGD at the start\n" in project.read_text()


def test_what_is_not_valid_is_not_written_over(project: Path) -> None:
    project.write_text(project.read_text() + "mine: 3\n")
    before = project.read_text()
    with pytest.raises(UserError, match=r"^params.yaml: mine is unknown"):
        command.write("paper")
    assert project.read_text() == before


PAPER = {
    # Views (section 3.3 of the paper and the released code)
    "views.crop": {"scale_min": 0.1, "scale_max": 1.0, "min_frames": 64},
    "views.rotate": {"probability": 0.5, "degrees": 30.0, "minor_degrees": 1.0},
    "views.flip": {"probability": 0.5},
    "views.shear": {"probability": 0.5, "max_shear": 1.0},
    "views.spatial_mask.probability": 0.5,
    "views.spatial_mask.kind": "top",
    "views.spatial_mask.seeds": 5,
    "views.spatial_mask.joints": 8,
    "views.spatial_mask.hops": 2,
    "views.spatial_mask.weight": 0.0,
    "views.temporal_mask.probability": 0.5,
    "views.temporal_mask.kind": "uniform",
    "views.temporal_mask.blocks": 16,
    "views.temporal_mask.masked": 6,
    "views.temporal_mask.weight": 0.0,
    **{
        f"{views}.{augmentation}.probability": 0.0
        for views in ("views", "finetune")
        for augmentation in ("turn", "scale", "drop_axis")
    },
    "encoder": {"frames": 64, "width": 64, "dim": 2048, "heads": 8, "layers": 1, "dropout": 0.1},
    "pretrain.terms": ["ti", "si", "it", "is"],
    "pretrain.projection": 128,
    "pretrain.queue": 8192,
    "pretrain.queue_start": "random",
    "pretrain.momentum": 0.999,
    "pretrain.temperature": 0.2,
    "pretrain.batch": 64,
    "pretrain.epochs": 451,
    "pretrain.lr": 0.01,
    "pretrain.milestones": [351],
    "pretrain.schedule": "step",
    "pretrain.warmup": 0,
    "pretrain.sgd_momentum": 0.9,
    "pretrain.weight_decay": 1e-4,
    "embed.centre_crop": 0.95,
    # Evaluation (the released code; the field's convention for fine-tuning)
    "linear": {"epochs": 80, "lr": 2.0, "milestones": [50, 70], "momentum": 0.9, "batch": 1024},
    "retrieval.k": 1,
    "finetune.lr": 0.01,
    "finetune.schedule": "step",
    "finetune.batch": 64,
    "finetune.weight_decay": 0.0,
    "semi.fractions": [0.01, 0.05, 0.1, 0.2],
    "semi.draws": 5,
    "semi.epochs": 80,
    "semi.milestones": [50, 70],
    "transfer.epochs": 80,
    "transfer.milestones": [50, 70],
    "prepare.max_frames": 300,
    "prepare.interval": "half_open",
}


@pytest.mark.parametrize("path", PAPER)
def test_the_paper_preset_is_the_paper(path: str) -> None:
    assert at(presets.values("paper"), path) == PAPER[path]


def test_the_paper_preset_runs_the_papers_tables() -> None:
    paper = presets.values("paper")
    assert set(paper["sources"]) == {"ntu60", "ntu120", "pku1", "pku2"}
    assert "synthetic" not in paper["sources"].values()
    joint = {name for name, run in paper["runs"].items() if run["stream"] == "joint"}
    tables = {"ntu60-xsub", "ntu60-xview", "ntu120-xsub", "ntu120-xset", "pku1-xsub", "pku2-xsub"}
    assert joint == tables
    assert {runs["joint"] for runs in paper["ensembles"].values()} == tables
    assert {t["run"]: t["target"] for t in paper["transfers"].values()} == {
        "ntu60-xsub": "pku2",
        "ntu120-xsub": "pku2",
        "pku1-xsub": "pku2",
    }
    # 282,326 steps on ntu60 xsub: 451 epochs of the whole batches in 40,091 clips.
    assert 451 * (40_091 // paper["pretrain"]["batch"]) == 282_326


def test_nwucla_at_paper_size_has_the_papers_network_and_length() -> None:
    ours, paper = presets.values("nwucla-paper"), presets.values("paper")
    assert ours["encoder"] == paper["encoder"]
    same = ("terms", "projection", "momentum", "temperature", "batch", "lr", "weight_decay")
    assert {k: ours["pretrain"][k] for k in same} == {k: paper["pretrain"][k] for k in same}
    batch = ours["pretrain"]["batch"]
    assert ours["pretrain"]["epochs"] * (1020 // batch) == 6750
    assert ours["pretrain"]["queue"] < 1020, "a queue that holds a clip twice"


@pytest.mark.parametrize("name", ["nwucla", "nwucla-paper"])
def test_nwucla_runs_the_three_streams_on_view_3(name: str) -> None:
    p = presets.values(name)
    assert p["sources"] == {"nwucla": "archives"}
    assert {run["stream"] for run in p["runs"].values()} == {"joint", "bone", "motion"}
    assert {(r["dataset"], r["protocol"]) for r in p["runs"].values()} == {("nwucla", "xview")}
    ensemble = p["ensembles"]["nwucla-xview-3s"]
    assert {ensemble[stream] for stream in ("joint", "bone", "motion")} == set(p["runs"])
    assert p["supervised_runs"]["nwucla-xview"] == p["runs"]["nwucla-xview"]
    assert p["semi"]["fractions"] == [0.01, 0.05, 0.1, 0.2, 0.5]


def test_real_runs_every_evaluation_on_three_datasets() -> None:
    p, nwucla = presets.values("real"), presets.values("nwucla")
    sets = {"nwucla": "xview", "utkinect": "xsub", "msraction3d": "xsub"}
    assert p["sources"] == dict.fromkeys(sets, "archives")
    streams = {(run["dataset"], run["protocol"], run["stream"]) for run in p["runs"].values()}
    assert streams == {(*one, s) for one in sets.items() for s in ("joint", "bone", "motion")}
    joint = {name: run for name, run in p["runs"].items() if run["stream"] == "joint"}
    assert p["supervised_runs"] == joint
    assert {runs["joint"] for runs in p["ensembles"].values()} == set(joint)
    transfers = {(t["run"], t["target"], t["protocol"]) for t in p["transfers"].values()}
    assert transfers == {("nwucla-xview", name, sets[name]) for name in ("utkinect", "msraction3d")}
    assert p["pretrain"]["queue"] <= 100, "more than UTKinect's training clips"
    # 10 % of UTKinect's 100 and of MSR-Action3D's 284 have a clip of each of 10 and of 20 actions
    assert (p["semi"]["balanced"], min(p["semi"]["fractions"])) == (True, 0.1)
    for section in ("views", "encoder", "embed", "linear", "retrieval", "finetune", "supervised"):
        assert p[section] == nwucla[section]

"""The presets: whole experiments, and the paper's values in its own."""

from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent
PRESETS = sorted((ROOT / "presets").glob("*.yaml"))


def load(name: str) -> dict[str, Any]:
    return yaml.safe_load((ROOT / name).read_text())


def at(tree: Any, path: str) -> Any:
    for name in path.split("."):
        tree = tree[name]
    return tree


@pytest.mark.parametrize("preset", PRESETS, ids=lambda p: p.stem)
def test_a_preset_is_an_experiment_alone_and_says_in_what_it_differs(preset: Path) -> None:
    ours, default = load(f"presets/{preset.name}"), load("params.yaml")
    assert set(ours) == set(default), "datasets are described once, in datasets/"
    head = preset.read_text().partition("seed:")[0]
    assert f"`cp presets/{preset.name} params.yaml`" in head
    assert "differs from" in head


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
    assert at(load("presets/paper.yaml"), path) == PAPER[path]


def test_the_paper_preset_runs_the_papers_tables() -> None:
    paper = load("presets/paper.yaml")
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
    ours, paper = load("presets/nwucla-paper.yaml"), load("presets/paper.yaml")
    assert ours["encoder"] == paper["encoder"]
    same = ("terms", "projection", "momentum", "temperature", "batch", "lr", "weight_decay")
    assert {k: ours["pretrain"][k] for k in same} == {k: paper["pretrain"][k] for k in same}
    batch = ours["pretrain"]["batch"]
    assert ours["pretrain"]["epochs"] * (1020 // batch) == 6750
    assert ours["pretrain"]["queue"] < 1020, "a queue that holds a clip twice"


@pytest.mark.parametrize("name", ["nwucla", "nwucla-paper"])
def test_nwucla_runs_the_three_streams_on_view_3(name: str) -> None:
    p = load(f"presets/{name}.yaml")
    assert p["sources"] == {"nwucla": "archives"}
    assert {run["stream"] for run in p["runs"].values()} == {"joint", "bone", "motion"}
    assert {(r["dataset"], r["protocol"]) for r in p["runs"].values()} == {("nwucla", "xview")}
    ensemble = p["ensembles"]["nwucla-xview-3s"]
    assert {ensemble[stream] for stream in ("joint", "bone", "motion")} == set(p["runs"])
    assert p["supervised_runs"]["nwucla-xview"] == p["runs"]["nwucla-xview"]
    assert p["semi"]["fractions"] == [0.01, 0.05, 0.1, 0.2, 0.5]


def test_real_runs_every_evaluation_on_three_datasets() -> None:
    p, nwucla = load("presets/real.yaml"), load("presets/nwucla.yaml")
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

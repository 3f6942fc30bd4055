"""Experiments as DVC's users run them: sweeps, the table, apply, branch, refusals; of one run."""

import json
import re
from typing import Any

import pytest
import yaml
from clone import ROOT, Clone

# The ablations of the paper, one parameter each.
ABLATIONS = [
    "pretrain.terms",
    "pretrain.temperature",
    "pretrain.queue",
    "pretrain.momentum",
    "encoder.layers",
    "encoder.width",
    "runs.ntu60-xsub.stream",
    "views.spatial_mask.kind",
    "views.spatial_mask.joints",
    "views.temporal_mask.kind",
    "views.temporal_mask.masked",
    *(
        f"views.{augmentation}.probability"
        for augmentation in ("rotate", "flip", "shear", "spatial_mask", "temporal_mask")
    ),
]


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_is_one_parameter_of_pretraining(name: str) -> None:
    value: Any = yaml.safe_load((ROOT / "params.yaml").read_text())
    for key in name.split("."):
        value = value[key]
    pretrain = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]["pretrain"]["do"]
    names = [entry for entry in pretrain["params"] if isinstance(entry, str)]
    tracked = [entry.replace("${key}", "ntu60-xsub") for entry in names]
    assert any(name == entry or name.startswith(f"{entry}.") for entry in tracked)


def experiments(clone: Clone) -> dict[str, dict[str, Any]]:
    """Parameters and metrics of the last commit's experiments, by name."""
    head = json.loads(clone.dvc("exp", "show", "--json"))[1]
    return {one["name"]: one["revs"][-1]["data"] for one in head["experiments"] or []}


@pytest.mark.documents(
    "dvc exp run --queue -S views.spatial_mask.probability=0.5 "
    "-S 'pretrain.temperature=0.07,0.1,0.2' -S 'views.spatial_mask.joints=4,8,12'",
    "dvc queue start",
    "git add datasets/mine.yaml",
    "dvc queue status",
    "dvc queue logs gentle",
    "dvc queue remove --failed",
)
def test_a_grid_through_the_queue(small: Clone) -> None:
    grid = [
        *("-S", "views.spatial_mask.probability=0.5"),
        *("-S", "pretrain.temperature=0.07,0.1,0.2"),
        *("-S", "views.spatial_mask.joints=4,8,12"),
    ]
    assert small.dvc("exp", "run", "--queue", *grid).count("Queueing with overrides") == 9
    small.dvc("queue", "remove", "--all")
    small.dvc("exp", "run", "--queue", "--name", "three", "-S", "retrieval.k=3")
    # A task has what git tracks: this one lacks a file, and says so.
    added = "datasets/lists/mine.txt"
    (small.path / added).write_text("S001C001P001R001A001\n")
    override = f"datasets/ntu60.yaml:archives.leave_out={added}"
    small.dvc("exp", "run", "--queue", "--name", "gentle", "-S", override)
    small.git("checkout", "datasets/ntu60.yaml")
    # The worker holds the output open, so this returns when the queue is empty.
    small.dvc("queue", "start")
    assert re.search(r"gentle .*Failed", small.dvc("queue", "status"))
    said = small.dvc("queue", "logs", "gentle")
    assert added in said
    assert "No such file or directory" in said or "there is no" in said
    small.dvc("queue", "remove", "--failed")
    small.git("add", added)
    small.dvc("exp", "run", "--temp", "--name", "fixed", "-S", override, "prepare@ntu60")
    small.git("rm", "-q", "--force", added)
    small.git("checkout", "datasets/ntu60.yaml")
    tasks = experiments(small)
    assert "fixed" in tasks
    found = tasks["three"]
    assert found["params"]["params.yaml"]["data"]["retrieval"]["k"] == 3
    metrics = {path for path, content in found["metrics"].items() if content["data"]}
    assert metrics == {"metrics/summary.json"}

    head = small.git("rev-parse", "HEAD")
    small.dvc("exp", "branch", "three", "neighbours")
    assert "k: 3" in small.git("show", "neighbours:params.yaml")
    small.dvc("exp", "apply", "three")
    assert small.git("rev-parse", "HEAD") == head
    assert yaml.safe_load((small.path / "params.yaml").read_text())["retrieval"]["k"] == 3
    summary = json.loads((small.path / "metrics/summary.json").read_text())
    assert summary == found["metrics"]["metrics/summary.json"]["data"]
    assert small.stale() == set()
    small.git("checkout", "params.yaml")
    assert "Stage 'retrieval@ntu60-xsub' is cached - skipping run" in small.dvc("repro")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("pretrain.queue=9", "pretrain.queue is 9, allowed: a multiple of pretrain.batch, 4"),
        ("pretrain.queu=8", "Could not override 'pretrain.queu'"),
    ],
)
def test_an_invalid_value_is_refused_before_anything_runs_or_is_lost(
    small: Clone, change: str, message: str
) -> None:
    """By `check`, whose messages test_params has, and what is no parameter by DVC."""
    with small.restored("params.yaml"):
        said = small.dvc("exp", "run", "-S", change, fails=True)
        assert message in said
        assert set(re.findall("Running stage '(.*)'", said)) <= {"check"}
    assert small.stale() == set()


def test_a_changed_value_leaves_the_comments(small: Clone) -> None:
    names, before = ("params.yaml", "datasets/ntu60.yaml"), (ROOT / "params.yaml").read_text()
    changes = ("linear.lr=0.5", "pretrain.terms=[ti,si]", f"{names[1]}:classes=61")
    with small.restored(*names):
        (small.path / "params.yaml").write_text(before)
        small.dvc("exp", "run", "--queue", *(part for one in changes for part in ("-S", one)))
        text, dataset = (small.git("show", f"refs/exps/celery/stash:{name}") for name in names)
        small.dvc("queue", "remove", "--all")
    assert re.search(r"\n  lr: 0\.5 +# learning rate of SGD at the start\n", text)
    assert text.count("#") == before.count("#")
    assert re.search(r"\nclasses: 61 +# number of actions\n", dataset)
    assert small.stale() == set()


def shown_behind_check() -> list[list[str]]:
    """The commands by which, as the page says, what was deleted behind `check` comes back."""
    page = (ROOT / "docs/experiments.md").read_text()
    found = re.search(r"\*\*Behind `check`\.\*\*(.*?)```sh\n(.*?)```", page, re.DOTALL)
    assert found is not None
    text, block = found.groups()
    assert "--single-item" in text
    assert "--downstream" in text
    return [line.partition("#")[0].split() for line in block.splitlines()]


@pytest.mark.documents("dvc checkout", "git checkout metrics")
def test_results_of_a_stage_that_refuses_come_back(small: Clone) -> None:
    """`dvc repro --single-item` goes past `check`, and DVC deletes before it runs a stage: the page
    says what brings the results back.
    """
    weights = small.path / "data/weights/ntu60-xsub.pt"
    before = weights.read_bytes()
    small.git("add", "-A")
    small.git("commit", "-q", "--allow-empty", "-m", "Before")
    with small.restored("params.yaml"):
        small.change({"pretrain": {"momentum": 2}})
        said = small.dvc("repro", "--single-item", "pretrain@ntu60-xsub", fails=True)
        assert "pretrain.momentum is 2: should be less than 1" in said
        assert not weights.exists()
    for program, *arguments in shown_behind_check():
        getattr(small, program)(*arguments)
    assert weights.read_bytes() == before
    assert small.stale() == set()


def test_one_row_is_refused_too(small: Clone) -> None:
    with small.restored("params.yaml"):
        small.change({"encoder": {"heads": 3}})
        said = small.dvc("repro", "linear@ntu60-xsub", fails=True)
        assert "encoder.dim is 8, allowed: a multiple of encoder.heads, 3" in said
        assert set(re.findall("Running stage '(.*)'", said)) == {"check"}
    assert small.stale() == set()

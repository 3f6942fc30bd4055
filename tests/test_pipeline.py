"""The pipeline as a user runs it: `dvc repro` in a fresh clone, at a scale of seconds."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent
TINY: dict[str, dict[str, Any]] = {
    "synthetic": {
        "actions": 3,
        "subjects": 4,
        "cameras": 1,
        "frames": [12, 20],
        "ntu": {"setups": 1, "replications": 2},
        "pku": {"recordings": 3, "instances": 2},
    },
    "encoder": {"frames": 8, "width": 4, "dim": 8, "heads": 2},
    "pretrain": {"epochs": 2, "batch": 4, "queue": 8, "projection": 4, "milestones": [1]},
    "linear": {"epochs": 2},
    "semi": {"fractions": [0.5], "draws": 2, "epochs": 1},
    "transfer": {"epochs": 1},
}


def update(params: dict[str, Any], changes: dict[str, Any]) -> None:
    for key, value in changes.items():
        if isinstance(value, dict):
            update(params[key], value)
        else:
            params[key] = value


class Clone:
    """A clone of this project's working tree with a repository and a DVC cache of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        tracked = self.git("ls-files", "-co", "--exclude-standard", cwd=ROOT).splitlines()
        for name in tracked:
            if (ROOT / name).is_file():
                (path / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ROOT / name, path / name)
        for command in (
            ("init", "-q"),
            ("config", "user.name", "Test"),
            ("config", "user.email", "test@example.com"),
            ("add", "-A"),
            ("commit", "-qm", "Clone"),
        ):
            self.git(*command)

    def git(self, *arguments: str, cwd: Path | None = None) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=cwd or self.path, check=True, capture_output=True, text=True
        ).stdout

    def dvc(self, *arguments: str) -> str:
        """What `dvc` prints; the interpreter of the tests runs the stages."""
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        environment = {**os.environ, "PATH": path}
        done = subprocess.run(
            [sys.executable, "-m", "dvc", *arguments],
            cwd=self.path,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def change(self, changes: dict[str, Any]) -> None:
        params = yaml.safe_load((self.path / "params.yaml").read_text())
        update(params, changes)
        (self.path / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))

    def stale(self) -> set[str]:
        """The stages that `dvc repro` would run, without what only follows from them."""
        return {name for name in json.loads(self.dvc("status", "--json")) if name}


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    clone = Clone(tmp_path_factory.mktemp("clone"))
    clone.change(TINY)
    clone.dvc("repro")
    return clone


def test_a_second_run_runs_nothing(clone: Clone) -> None:
    assert "Running stage" not in clone.dvc("repro")
    assert clone.stale() == set()


def test_every_stage_left_its_result(clone: Clone) -> None:
    params = yaml.safe_load((clone.path / "params.yaml").read_text())
    summary = json.loads((clone.path / "metrics/summary.json").read_text())
    assert set(summary["linear"]) == set(summary["retrieval"]) == set(params["runs"])
    assert set(summary["semi"]) == set(params["runs"])
    assert set(summary["transfer"]) == set(params["transfers"])
    assert set(summary["ensemble"]) == set(params["ensembles"])
    for figures in summary["linear"].values():
        assert {"top1", "top5", "best_top1", "untrained_top1"} <= set(figures)
        assert figures["top1"] <= figures["best_top1"] <= 100
    page = (clone.path / "metrics/README.md").read_text()
    assert "synthetic" in page
    assert "MAMP" not in page.upper(), "a synthetic result stands beside a published one"


@pytest.mark.parametrize(
    ("changes", "stages"),
    [
        ({"linear": {"lr": 1.0}}, {"linear"}),
        ({"retrieval": {"k": 3}}, {"retrieval"}),
        ({"semi": {"balanced": True}}, {"semi"}),
        ({"transfer": {"epochs": 2}}, {"transfer"}),
        ({"pretrain": {"temperature": 0.1}}, {"pretrain"}),
        ({"views": {"flip": {"probability": 0.0}}}, {"pretrain"}),
        ({"prepare": {"keepbits": 13}}, {"prepare"}),
        ({"prepare": {"workers": 1}}, set()),
        ({"synthetic": {"noise": 0.02}}, {"raw"}),
    ],
)
def test_a_parameter_makes_stale_what_reads_it(
    clone: Clone, changes: dict[str, Any], stages: set[str]
) -> None:
    before = (clone.path / "params.yaml").read_text()
    try:
        clone.change(changes)
        assert {name.split("@")[0] for name in clone.stale()} == stages
    finally:
        (clone.path / "params.yaml").write_text(before)


def test_a_changed_probe_runs_the_probe_and_the_report_only(clone: Clone) -> None:
    clone.change({"linear": {"lr": 0.5}})
    ran = {
        line.split("'")[1].split("@")[0]
        for line in clone.dvc("repro").splitlines()
        if line.startswith("Running stage")
    }
    assert ran == {"linear", "ensemble", "report"}

"""What a person calls besides DVC: every command explains itself; clean finds what runs left."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from clone import ROOT

COMMANDS = sorted(path.stem for path in (ROOT / "commands").glob("[!_]*.py"))
OURS = [
    "data/ntu60.zarr/zarr.json",
    "data/weights/ntu60-xsub.pt",
    "data/raw/ntu60/a.zip",
    "metrics/linear/ntu60-xsub.json",
    "metrics/linear/ntu60-xsub-epochs.json",
    "metrics/summary.json",
    "metrics/published.yaml",
    "data/README.md",
]
LEFT = [
    "data/mine.zarr/zarr.json",
    "data/weights/old.pt",
    "data/figures/old-map.png",
    "data/pages/old.html",
    "metrics/linear/old.json",
    "metrics/linear/old-epochs.json",
    "metrics/semi/old.json",
]


def run(command: str, *arguments: str, cwd: Path = ROOT) -> str:
    done = subprocess.run(
        [sys.executable, "-m", f"commands.{command}", *arguments],
        cwd=cwd,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_explains_itself(command: str) -> None:
    said = run(command, "--help")
    assert said.startswith(f"usage: python -m commands.{command}")
    module = (ROOT / "commands" / f"{command}.py").read_text()
    assert module.split('"""')[1].splitlines()[0] in said


def test_clean_lists_and_removes_what_no_stage_of_the_experiment_writes(tmp_path: Path) -> None:
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copyfile(ROOT / name, tmp_path / name)
    for name in OURS + LEFT:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    said = run("clean", cwd=tmp_path).splitlines()
    expected = {name.removesuffix("/zarr.json") for name in LEFT}
    assert set(said[:-1]) == expected
    assert said[-1] == "7 left over; --remove removes them"
    assert all((tmp_path / name).exists() for name in OURS + LEFT)
    assert run("clean", "--remove", cwd=tmp_path).splitlines()[-1] == "7 removed"
    assert [name for name in OURS + LEFT if (tmp_path / name).exists()] == OURS
    assert run("clean", cwd=tmp_path).startswith("0 left over")


def test_clean_finds_what_a_removed_run_left(tmp_path: Path) -> None:
    shutil.copyfile(ROOT / "dvc.yaml", tmp_path / "dvc.yaml")
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    (tmp_path / "metrics/semi").mkdir(parents=True)
    (tmp_path / "metrics/semi/ntu60-xsub-bone.json").touch()
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    assert "ntu60-xsub-bone" not in run("clean", cwd=tmp_path)
    del values["runs"]["ntu60-xsub-bone"]
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    assert "metrics/semi/ntu60-xsub-bone.json" in run("clean", cwd=tmp_path)

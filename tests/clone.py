"""A temporary clone of the project at a scale of seconds, in which tests run the real commands.

Most of their time is the start of Python and of PyTorch for each stage: few runs, few datasets.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent
# What a stage reads of the project besides params.yaml, for tests that run stages elsewhere.
LINKED = (
    "datasets",
    "dvc.yaml",
    "errors.py",
    "stages",
    "experiment",
    "learning",
    "machine",
    "model",
    "skeletons",
)
TINY: dict[str, dict[str, Any]] = {
    "synthetic": {
        "actions": 3,
        "subjects": 4,
        "cameras": 1,
        "frames": [12, 20],
        "ntu": {"replications": 2},
        "pku": {"recordings": 3, "instances": 2},
    },
    "encoder": {"frames": 8, "width": 4, "dim": 8, "heads": 2},
    "pretrain": {
        "epochs": 2,
        "batch": 4,
        "queue": 8,
        "projection": 4,
        "milestones": [1],
        "probe": {"every": 1, "epochs": 2},
    },
    "linear": {"epochs": 2},
    "semi": {"fractions": [0.5], "draws": 2, "epochs": 1},
    "transfer": {"epochs": 1},
    "supervised_runs": {
        "ntu60-xsub": {"dataset": "ntu60", "protocol": "xsub", "stream": "joint"},
    },
    "supervised": {"epochs": 1},
}


def update(params: dict[str, Any], changes: dict[str, Any]) -> None:
    for key, value in changes.items():
        if isinstance(value, dict):
            update(params.setdefault(key, {}), value)
        else:
            params[key] = value


class Clone:
    """A clone of this project's working tree with a repository and a DVC cache of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def new(cls, path: Path) -> "Clone":
        """A copy of what Git would track of the working tree, as the first commit."""
        clone = cls(path)
        for name in clone.git("ls-files", "-co", "--exclude-standard", cwd=ROOT).splitlines():
            if (ROOT / name).is_file():
                (path / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ROOT / name, path / name)
        clone.git("init", "-q", "-b", "main")
        clone.identify()
        clone.git("add", "-A")
        clone.git("commit", "-qm", "Clone")
        return clone

    def clone(self, path: Path) -> "Clone":
        """What `git clone` makes of it elsewhere: neither data nor cache."""
        self.git("clone", "-q", str(self.path), str(path))
        clone = Clone(path)
        clone.identify()
        return clone

    def copy(self, path: Path) -> "Clone":
        """The same with data and cache, elsewhere."""
        shutil.copytree(self.path, path, symlinks=True)
        return Clone(path)

    def identify(self) -> None:
        self.git("config", "user.name", "Test")
        self.git("config", "user.email", "test@example.com")

    def git(self, *arguments: str, cwd: Path | None = None) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=cwd or self.path, check=True, capture_output=True, text=True
        ).stdout

    def shell(self, script: str, fails: bool = False) -> str:
        """The output of a script and its errors; it `fails` as it should, or not."""
        done = subprocess.run(
            ["bash", "-ec", script],
            cwd=self.path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert (done.returncode != 0) == fails, f"{script}\n{done.stdout}"
        return done.stdout

    def dvc(self, *arguments: str, fails: bool = False, **environment: str) -> str:
        """The output of `dvc`, with its errors where it `fails` as it should."""
        done = subprocess.run(
            [sys.executable, "-m", "dvc", *arguments],
            cwd=self.path,
            env=os.environ | environment,
            capture_output=True,
            text=True,
        )
        assert (done.returncode != 0) == fails, done.stdout + done.stderr
        return done.stdout + done.stderr if fails else done.stdout

    def ran(self, *arguments: str, **environment: str) -> set[str]:
        """The stages that a `dvc` command ran."""
        lines = self.dvc(*arguments, **environment).splitlines()
        return {line.split("'")[1] for line in lines if line.startswith("Running stage")}

    def params(self) -> dict[str, Any]:
        """What params.yaml has."""
        return yaml.safe_load((self.path / "params.yaml").read_text())

    def write(self, params: dict[str, Any]) -> None:
        (self.path / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))

    def change(self, changes: dict[str, Any]) -> None:
        params = self.params()
        update(params, changes)
        self.write(params)

    @contextmanager
    def restored(self, *names: str) -> Iterator[None]:
        """Afterwards these files have the text that they have now."""
        before = {self.path / name: (self.path / name).read_text() for name in names}
        try:
            yield
        finally:
            for path, text in before.items():
                path.write_text(text)

    def keep_run(self, run: str) -> None:
        """Leaves one run and its dataset in params.yaml and dvc.lock, which DVC reads and writes
        at every stage.
        """
        params = self.params()
        params["runs"] = {run: params["runs"][run]}
        dataset = params["runs"][run]["dataset"]
        params["sources"] = {dataset: params["sources"][dataset]}
        self.write(params | {"transfers": {}, "ensembles": {}, "supervised_runs": {}})
        names = set(self.dvc("stage", "list", "--name-only").splitlines())
        lock = yaml.safe_load((self.path / "dvc.lock").read_text())
        lock["stages"] = {name: lock["stages"][name] for name in lock["stages"] if name in names}
        (self.path / "dvc.lock").write_text(yaml.safe_dump(lock, sort_keys=False))

    def stale(self) -> set[str]:
        """The stages that `dvc repro` would run, without what only follows from them."""
        return {name for name in json.loads(self.dvc("status", "--json")) if name}

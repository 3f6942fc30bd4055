"""commands.info says on what a result was made, for a bug report, and no address."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from clone import ROOT

from commands import info
from errors import UserError
from machine.devices import reproducibility
from model.network.encoder import Encoder, load_encoder, save_encoder

RUN = "ntu60-xsub"


def said() -> dict[str, str]:
    return dict(info.here())


def test_a_checkout_and_its_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for command in (
        "git init -q",
        "git -c user.name=a -c user.email=b commit -q --allow-empty -m a",
        "git tag v7",
        f"{sys.executable} -m dvc init -q",
        f"{sys.executable} -m dvc remote add --default ours s3://secret/place",
        f"{sys.executable} -m dvc remote add disk /secret/place",
    ):
        subprocess.run(command.split(), check=True)
    found = said()
    commit = subprocess.check_output(["git", "rev-parse", "--short", "HEAD"], text=True).strip()
    assert found["commit"].removesuffix("-dirty") == commit
    assert f"torch {torch.__version__}, " in found["packages"]
    assert found["python"].startswith(sys.version.split()[0])
    assert found["cache"].startswith(f"{tmp_path}/.dvc/cache")
    assert found["remote"] == "ours (s3, default), disk (folder)"
    assert "secret" not in str(found)


def test_outside_of_a_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = said()
    assert found["commit"] == "none: not a git repository"
    assert found["cache"].startswith("none: you are not inside of a DVC repository")


def test_on_what_weights_were_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("params.yaml", "datasets"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    path = Path(f"data/weights/{RUN}.pt")
    path.parent.mkdir(parents=True)
    encoder = Encoder(parents=(0, 0), width=4, dim=4, heads=1)
    save_encoder(encoder, path)
    assert dict(info.of_run(RUN)) == {"weights": f"{path}: they do not say on what they were made"}
    save_encoder(encoder, path, **reproducibility.made_on(torch.device("cpu")))
    (line,) = dict(info.of_run(RUN)).values()
    assert line.startswith(f"{path}: torch {torch.__version__}, device cpu, ")
    assert line.endswith(", processes 1")
    assert load_encoder(path).architecture == encoder.architecture
    with pytest.raises(UserError, match="there is no 'mine' in"):
        list(info.of_run("mine"))

"""Results through a remote: what travels, what a colleague fetches, what never leaves."""

import getpass
import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from clone import ROOT, Clone

WEIGHTS = "data/weights/ntu60-xsub.pt"


@pytest.fixture(scope="module")
def origin(clone: Clone) -> Clone:
    """The finished clone after `dvc push` to a folder."""
    clone.dvc("remote", "add", "--default", "shared", str(clone.path.parent / "remote"))
    clone.git("commit", "-qam", "Remote")
    clone.dvc("push")
    return clone


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def outputs(clone: Clone, stage: str) -> dict[str, str]:
    """What dvc.lock says of a stage's outputs."""
    lock = yaml.safe_load((clone.path / "dvc.lock").read_text())
    return {out["path"]: out["md5"] for out in lock["stages"][stage]["outs"]}


def test_raw_archives_never_travel(origin: Clone) -> None:
    archives = [path for path in (origin.path / "data/raw").rglob("*") if path.is_file()]
    shared = {
        path.parent.name + path.name
        for path in (origin.path.parent / "remote").rglob("*")
        if path.is_file()
    }
    assert md5(origin.path / WEIGHTS) in shared
    assert len(archives) > 1
    assert not shared & set(map(md5, archives))


def test_a_colleague_fetches_only_what_a_changed_probe_needs(origin: Clone, tmp_path: Path) -> None:
    colleague = origin.clone(tmp_path / "colleague")
    assert colleague.ran("repro", "--allow-missing") == set()
    colleague.change({"linear": {"lr": 1.5}})
    ran = colleague.ran("repro", "--pull", "--allow-missing")
    stages = {"check", "linear", "ensemble", "run_page", "report"}
    assert {stage.split("@")[0] for stage in ran} == stages
    shown = re.findall(
        "^Running stage '(.*)':$", (ROOT / "docs/sharing.md").read_text(), re.MULTILINE
    )
    assert ran == {stage for stage in shown if not stage.endswith("-motion")}
    assert {path.name for path in (colleague.path / "data").iterdir() if path.is_dir()} == {
        "classifiers",
        "features",
        "maps",
        "pages",
        "scores",
    }


def test_a_colleague_pulls_everything_but_the_archives(origin: Clone, tmp_path: Path) -> None:
    colleague = origin.clone(tmp_path / "colleague")
    colleague.dvc("pull")
    assert not (colleague.path / "data/raw").exists()
    assert md5(colleague.path / WEIGHTS) == md5(origin.path / WEIGHTS)
    assert colleague.ran("repro", "--allow-missing") == set()


def test_weights_alone(origin: Clone, tmp_path: Path) -> None:
    origin.dvc("get", str(origin.path), WEIGHTS, "--out", str(tmp_path / "plain.pt"))
    assert md5(tmp_path / "plain.pt") == md5(origin.path / WEIGHTS)


def test_a_clone_labels_a_recording_with_three_artifacts(origin: Clone, tmp_path: Path) -> None:
    colleague = origin.clone(tmp_path / "colleague")
    parts = ("weights/ntu60-xsub.pt", "classifiers/ntu60-xsub.zarr", "features/ntu60-xsub.zarr")
    colleague.dvc("pull", *(f"data/{part}" for part in parts))
    assert not (colleague.path / "data/ntu60.zarr").exists()
    (archive,) = (origin.path / "data/raw/ntu60").iterdir()
    with zipfile.ZipFile(archive) as recordings:
        name = next(name for name in recordings.namelist() if name.endswith("A002.skeleton"))
        recordings.extract(name, colleague.path / "mine")
    command = [
        sys.executable,
        "-m",
        "commands.label",
        "ntu60-xsub",
        "mine",
        "--every",
        "5",
        "--json",
    ]
    rows = json.loads(subprocess.check_output(command, cwd=colleague.path))
    assert {row["recording"] for row in rows} == {f"mine/{name}"}


@pytest.mark.parametrize("dataset", ["ntu60", "pku2"])
def test_a_colleague_with_the_archives_prepares_the_same_bytes(
    origin: Clone, tmp_path: Path, dataset: str
) -> None:
    colleague = origin.clone(tmp_path / "colleague")
    archives = tmp_path / "archives"
    shutil.copytree(origin.path / "data/raw" / dataset, archives)
    colleague.change({"sources": {dataset: str(archives)}})
    ran = colleague.ran("repro", f"prepare@{dataset}")
    assert ran == {"check", *(f"{stage}@{dataset}" for stage in ("synthetic", "raw", "prepare"))}
    assert outputs(colleague, f"prepare@{dataset}") == outputs(origin, f"prepare@{dataset}")


# ---- Other kinds of remotes ----------------------------------------------------------------------


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[list[str]]]:
    pytest.importorskip("dvc_s3", reason="pip install '.[s3]'")
    server = pytest.importorskip("moto.server", reason="pip install '.[test-remotes]'")
    boto3 = pytest.importorskip("boto3")
    for name, value in (
        ("ACCESS_KEY_ID", "x"),
        ("SECRET_ACCESS_KEY", "x"),
        ("REGION", "us-east-1"),
    ):
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    url = f"http://{host}:{port}"
    boto3.client("s3", endpoint_url=url, region_name="us-east-1").create_bucket(Bucket="results")
    yield [
        ["remote", "add", "other", "s3://results/scd-net"],
        ["remote", "modify", "other", "endpointurl", url],
    ]
    running.stop()


@pytest.fixture
def ssh(tmp_path: Path) -> Iterator[list[list[str]]]:
    pytest.importorskip("dvc_ssh", reason="pip install '.[ssh]'")
    # sshd must be called by its full path.
    sshd = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
    if not sshd or not shutil.which("ssh-keygen"):
        pytest.skip("no openssh-server")
    for key in ("host", "user"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / key)], check=True
        )
    shutil.copy(tmp_path / "user.pub", tmp_path / "authorized")
    config = tmp_path / "sshd_config"
    config.write_text(
        f"HostKey {tmp_path}/host\nAuthorizedKeysFile {tmp_path}/authorized\nStrictModes no\n"
        f"ListenAddress 127.0.0.1\nPidFile none\nSubsystem sftp internal-sftp\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where it locks itself up, when root
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    server = subprocess.Popen(
        [sshd, "-D", "-e", "-f", str(config), "-p", port],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert server.stderr
    for line in server.stderr:
        if "listening" in line:
            break
    if server.poll() is not None:
        pytest.skip("sshd does not start here")
    yield [
        ["remote", "add", "other", f"ssh://127.0.0.1:{port}{tmp_path}/remote"],
        ["remote", "modify", "other", "user", getpass.getuser()],
        ["remote", "modify", "other", "keyfile", str(tmp_path / "user")],
    ]
    server.terminate()
    server.communicate()


@pytest.mark.parametrize("kind", ["s3", "ssh"])
def test_other_remotes(
    kind: str, origin: Clone, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    commands = request.getfixturevalue(kind)
    for command in commands:
        origin.dvc(*command, "--local")
    try:
        origin.dvc("push", "--remote", "other", WEIGHTS)
        colleague = origin.clone(tmp_path / "colleague")
        for command in commands:
            colleague.dvc(*command, "--local")
        colleague.dvc("pull", "--remote", "other", WEIGHTS)
        assert md5(colleague.path / WEIGHTS) == md5(origin.path / WEIGHTS)
    finally:
        origin.dvc("remote", "remove", "other", "--local")

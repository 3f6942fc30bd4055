"""Results through a remote: what travels, what a colleague fetches, what never leaves."""

import getpass
import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from clone import ROOT, Clone

WEIGHTS = "data/weights/ntu60-xsub.pt"


@pytest.fixture(scope="module")
def origin(small: Clone) -> Clone:
    """The clone after `dvc push` to a folder."""
    small.dvc("remote", "add", "--default", "shared", str(small.path.parent / "remote"))
    small.git("commit", "-qam", "Remote")
    small.dvc("push")
    return small


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
    assert archives
    assert not shared & set(map(md5, archives))


@pytest.mark.documents(
    "git clone <repository> scd-net && cd scd-net",
    "dvc repro --allow-missing",
    "dvc repro --pull --allow-missing | grep Running",
)
def test_a_colleague_fetches_only_what_a_changed_probe_needs(origin: Clone, tmp_path: Path) -> None:
    colleague = origin.clone(tmp_path / "colleague")
    assert colleague.ran("repro", "--allow-missing") == set()
    colleague.change({"linear": {"lr": 1.5}})
    ran = colleague.ran("repro", "--pull", "--allow-missing")
    evaluations = {"linear@ntu60-xsub", "floor@ntu60-xsub", "run_page@ntu60-xsub"}
    assert ran == {"check", "report"} | evaluations
    page = (ROOT / "docs/sharing.md").read_text()
    shown = re.findall("^Running stage '(.*)':$", page, re.MULTILINE)
    assert ran == {stage for stage in shown if not re.search("-(bone|motion|3s)$", stage)}
    assert {path.name for path in (colleague.path / "data").iterdir() if path.is_dir()} == {
        "classifiers",
        "features",
        "given",
        "maps",
        "ntu60.zarr",
        "pages",
        "scores",
    }


@pytest.mark.documents("dvc pull")
def test_a_colleague_pulls_everything_but_the_archives(origin: Clone, tmp_path: Path) -> None:
    colleague = origin.clone(tmp_path / "colleague")
    colleague.dvc("pull")
    assert not (colleague.path / "data/raw").exists()
    assert md5(colleague.path / WEIGHTS) == md5(origin.path / WEIGHTS)
    assert colleague.ran("repro", "--allow-missing") == set()


@pytest.mark.documents("dvc get <repository> data/weights/ntu60-xsub.pt")
def test_weights_alone(origin: Clone, tmp_path: Path) -> None:
    origin.dvc("get", str(origin.path), WEIGHTS, "--out", str(tmp_path / "plain.pt"))
    assert md5(tmp_path / "plain.pt") == md5(origin.path / WEIGHTS)


@pytest.mark.documents(
    "dvc pull data/weights/ntu60-xsub.pt data/classifiers/ntu60-xsub.zarr "
    "data/features/ntu60-xsub.zarr",
    "python -m commands.label ntu60-xsub mine",
    "python -m commands.label ntu60-xsub mine/S001C001P003R001A002.skeleton --every 20 --json",
)
def test_a_clone_labels_a_recording_with_three_artifacts(origin: Clone, tmp_path: Path) -> None:
    colleague = origin.clone(tmp_path / "colleague")
    parts = ("weights/ntu60-xsub.pt", "classifiers/ntu60-xsub.zarr", "features/ntu60-xsub.zarr")
    colleague.dvc("pull", *(f"data/{part}" for part in parts))
    assert not (colleague.path / "data/ntu60.zarr").exists()
    (archive,) = (origin.path / "data/raw/ntu60").iterdir()
    with zipfile.ZipFile(archive) as recordings:
        name = next(name for name in recordings.namelist() if name.endswith("A002.skeleton"))
        recordings.extract(name, colleague.path / "mine")
    rows = json.loads(
        colleague.shell("python -m commands.label ntu60-xsub mine --every 5 --json 2> /dev/null")
    )
    assert {row["recording"] for row in rows} == {f"mine/{name}"}


@pytest.mark.documents("dvc repro prepare@ntu60")
def test_a_colleague_with_the_archives_prepares_the_same_bytes(
    origin: Clone, tmp_path: Path
) -> None:
    colleague = origin.clone(tmp_path / "colleague")
    colleague.change({"sources": {"ntu60": str(origin.path / "data/raw/ntu60")}})
    ran = colleague.ran("repro", "prepare@ntu60")
    assert ran == {"check", "synthetic@ntu60", "raw@ntu60", "prepare@ntu60"}
    assert outputs(colleague, "prepare@ntu60") == outputs(origin, "prepare@ntu60")


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
